// A Transformer's MLP: down GELU(up x), or with a gate SwiGLU (Shazeer 2020),
// down (SiLU(gate x) * up x). What lies between the matrix products is one pass
// forward and one backward, which computes the hidden layer again rather than
// keep it. The whole may be a branch of the residual stream (branch.h).
//
// GELU is its tanh form (Hendrycks & Gimpel 2016), here by the identity
// (1 + tanh u) / 2 = s(2u): gelu(x) = x s(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
#include <torch/csrc/autograd/custom_function.h>

#include "branch.h"
#include "simd_math.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

static constexpr float twice_root = 1.5957691216057308f, cubic = 0.044715f; // 2 sqrt(2/pi)

// x becomes x + bias, and y its GELU.
KOALA_SIMD static void gelu(float *__restrict x, const float *__restrict bias, float *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float v = x[j] + bias[j];
    x[j] = v;
    y[j] = v * sigmoid(twice_root * v * (1.0f + cubic * v * v));
  }
}

// In place: x becomes gelu(x), and d, the gradient of that, the gradient of x.
KOALA_SIMD static void gelu_backward(float *__restrict x, float *__restrict d, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float v = x[j], square = cubic * v * v, z = twice_root * v * (1.0f + square);
    const float e = exp_bounded(-z), s = 1.0f / (1.0f + e); // 1 - s is e s
    // Beyond 80 the term is below any float32 beside it, and its square may be infinite.
    const float slope = z < 80.0f && z > -80.0f ? v * e * s * twice_root * (1.0f + 3.0f * square) : 0.0f;
    d[j] *= s * (1.0f + slope);
    x[j] = v * s;
  }
}

KOALA_SIMD static void swiglu(const float *__restrict gate, const float *__restrict x, float *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    y[j] = gate[j] * sigmoid(gate[j]) * x[j];
}

// In place: x becomes the product, d the gradient of x, gate its own gradient.
KOALA_SIMD static void swiglu_backward(float *__restrict gate, float *__restrict x, float *__restrict d, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float g = gate[j], s = sigmoid(g), u = x[j], dy = d[j];
    x[j] = g * s * u;
    d[j] = dy * g * s;
    gate[j] = dy * u * s * (1.0f + g * (1.0f - s));
  }
}

// in_parallel calls f(first, count) for shares of n elements.
template <typename F> static void in_parallel(int64_t n, const F &f) {
  at::parallel_for(0, n, 8192, [&](int64_t from, int64_t to) { f(from, to - from); });
}

struct Mlp : torch::autograd::Function<Mlp> {
  static Variable forward(AutogradContext *ctx, const Variable &input, const std::optional<Tensor> &maybe_gain,
                          const std::optional<Tensor> &maybe_shift, double eps, const Variable &up, const std::optional<Tensor> &maybe_up_bias,
                          const std::optional<Tensor> &maybe_gate, const std::optional<Tensor> &maybe_gate_bias, const Variable &down,
                          const std::optional<Tensor> &maybe_down_bias) {
    const Tensor gain = or_undefined(maybe_gain), shift = or_undefined(maybe_shift), up_bias = or_undefined(maybe_up_bias), gate = or_undefined(maybe_gate), gate_bias = or_undefined(maybe_gate_bias),
                 down_bias = or_undefined(maybe_down_bias);
    const Tensor x = input.contiguous(), y = at::empty_like(x);
    const int64_t rows = x.numel() / x.size(-1), width = up.size(0);
    const Chunks chunks = chunks_of(rows, 1, up.numel() * (gate.defined() ? 3 : 2));
    const Tensor h = at::empty({rows, width}, x.options()), g = gate.defined() ? at::empty_like(h) : gate,
                 scratch = at::empty({chunks.shares, chunks.height(), width}, x.options()),
                 b = up_bias.defined() || gate.defined() ? up_bias : at::zeros({width}, x.options());
    const Branch branch(x, gain, shift, eps, chunks, 1);
    const Matrix H = matrix(h), Y = matrix(y), Up = matrix(up), Down = matrix(down);
    chunks.each([&](int64_t share, int64_t from, int64_t n) {
      const Matrix in = branch.in(share, from, n), hidden = H.part(from, n), a = matrix(scratch.select(0, share)).part(0, n);
      if (gate.defined()) {
        const Matrix gates = matrix(g).part(from, n);
        affine(hidden, in, Up, up_bias);
        affine(gates, in, matrix(gate), gate_bias);
        in_parallel(n * width, [&](int64_t i, int64_t count) { swiglu(gates.p + i, hidden.p + i, a.p + i, count); });
      } else {
        multiply(hidden, in, Up.t());
        const float *bp = matrix(b).p;
        at::parallel_for(0, n, 1 + 8192 / width, [&](int64_t first, int64_t last) {
          for (int64_t i = first; i < last; i++)
            gelu(hidden.row(i), bp, a.row(i), width);
        });
      }
      branch.out(Y.part(from, n), from, a, Down, down_bias);
    });
    ctx->save_for_backward({x, up, up_bias, gate, gate_bias, down, down_bias, gain, shift});
    // Neither inputs nor outputs: they may live outside save_for_backward.
    ctx->saved_data["hidden"] = h;
    if (g.defined())
      ctx->saved_data["gates"] = g;
    if (branch.normed())
      ctx->saved_data["measures"] = branch.measures();
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &up = saved[1], &gate = saved[3], &down = saved[5], &gain = saved[7], &shift = saved[8];
    TORCH_CHECK(ctx->saved_data.count("hidden") != 0, "mlp: backward a second time: its buffers are gone");
    const Tensor h = ctx->saved_data["hidden"].toTensor(), g = gate.defined() ? ctx->saved_data["gates"].toTensor() : gate,
                 measures = gain.defined() ? ctx->saved_data["measures"].toTensor() : gain;
    ctx->saved_data.clear();

    const int64_t width = up.size(0);
    const Chunks chunks = chunks_of(h.size(0), 1, up.numel() * (gate.defined() ? 3 : 2));
    const Tensor dy = grads[0].contiguous(), dx = at::empty_like(x),
                 scratch = at::empty({chunks.shares, chunks.height(), width}, x.options());
    const Branch branch(x, gain, shift, measures, chunks, 1);
    const Matrix H = matrix(h), DX = matrix(dx), DY = matrix(dy), Up = matrix(up), Down = matrix(down);
    Gradient d_up(up, chunks.shares), d_up_bias(saved[2], chunks.shares), d_gate(gate, chunks.shares),
        d_gate_bias(saved[4], chunks.shares), d_down(down, chunks.shares), d_down_bias(saved[6], chunks.shares);
    chunks.each([&](int64_t share, int64_t from, int64_t n) {
      // d is the gradient of the hidden layer, then of what made it; hidden
      // becomes the hidden layer, and gates their own gradient.
      const Matrix in = branch.in(share, from, n), d_in = branch.gradient_in(share, DX.part(from, n)), out = DY.part(from, n),
                   hidden = H.part(from, n), d = matrix(scratch.select(0, share)).part(0, n);
      multiply(d, out, Down);
      if (gate.defined()) {
        const Matrix gates = matrix(g).part(from, n);
        in_parallel(n * width, [&](int64_t i, int64_t count) { swiglu_backward(gates.p + i, hidden.p + i, d.p + i, count); });
        multiply(d_in, gates, matrix(gate));
        d_gate.add(share, gates, in);
        d_gate_bias.add(share, gates);
      } else {
        in_parallel(n * width, [&](int64_t i, int64_t count) { gelu_backward(hidden.p + i, d.p + i, count); });
      }
      multiply(d_in, d, Up, gate.defined());
      branch.back(share, from, d_in, out, DX.part(from, n));
      d_up.add(share, d, in);
      d_up_bias.add(share, d);
      d_down.add(share, out, hidden);
      d_down_bias.add(share, out);
    });
    return {dx, branch.d_gain.total(), branch.d_shift.total(), Tensor(), d_up.total(), d_up_bias.total(), d_gate.total(), d_gate_bias.total(), d_down.total(), d_down_bias.total()};
  }
};

} // namespace koala

using namespace koala;

// x [..., D], up and gate [F, D], down [D, F]; gate and biases may be null. With a
// gain it is a branch, whose dropout zeroes elements of what comes back.
KOALA_API int koala_mlp(koala_tensor x_, koala_tensor gain_, koala_tensor shift_, double eps, koala_tensor up_, koala_tensor up_bias_,
                        koala_tensor gate_, koala_tensor gate_bias_, koala_tensor down_, koala_tensor down_bias_, double dropout,
                        koala_tensor *out) {
  return guard([&] {
    const at::Tensor x = ref(x_), gain = optional(gain_), shift = optional(shift_), up = ref(up_), up_bias = optional(up_bias_),
                     gate = optional(gate_), gate_bias = optional(gate_bias_), down = ref(down_), down_bias = optional(down_bias_);
    TORCH_CHECK(up.dim() == 2 && down.dim() == 2 && up.size(1) == x.size(-1) && down.size(1) == up.size(0) && down.size(0) == x.size(-1),
                "mlp: weights ", up.sizes(), " and ", down.sizes(), " do not fit ", x.sizes());
    TORCH_CHECK(!gate.defined() || gate.sizes() == up.sizes(), "mlp: gate ", gate.sizes(), " must be as up, ", up.sizes());
    check_bias(up_bias, up);
    check_bias(gate_bias, up);
    check_bias(down_bias, down);
    check_branch(x, gain, shift);
    const bool fast = fused(x) && up.scalar_type() == at::kFloat && x.numel() > 0;
    // Where all threads work on one product, what is beside the products would be left
    // to one of them.
    const bool whole = at::get_num_threads() == 1 || stay_near(up.numel() * (gate.defined() ? 3 : 2));
    const auto apply = [&](const at::Tensor &in, const at::Tensor &gain, const at::Tensor &shift) -> at::Tensor {
      if (fast)
        return Mlp::apply(in, given(gain), given(shift), eps, up, given(up_bias), given(gate), given(gate_bias), down, given(down_bias));
      const at::Tensor h = at::linear(in, up, up_bias);
      return at::linear(gate.defined() ? at::silu(at::linear(in, gate, gate_bias)).mul(h) : at::gelu(h, "tanh"), down, down_bias);
    };
    if (!gain.defined() || (fast && whole && fused(gain) && dropout == 0))
      *out = handle(apply(x, gain, shift));
    else
      *out = handle(x + dropped(apply(norm(x, gain, shift, eps), {}, {}), dropout));
  });
}
