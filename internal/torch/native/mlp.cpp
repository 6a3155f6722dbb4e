// A Transformer's MLP: down GELU(up x), or with a gate SwiGLU (Shazeer 2020),
// down (SiLU(gate x) * up x). What lies between the matrix products is one pass
// forward and one backward, which computes the hidden layer again rather than
// keep it.
//
// GELU is its tanh form (Hendrycks & Gimpel 2016), here by the identity
// (1 + tanh u) / 2 = s(2u): gelu(x) = x s(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
#include <torch/csrc/autograd/custom_function.h>

#include "common.h"
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

static Tensor affine(const Tensor &x, const Tensor &w, const Tensor &b) { return b.defined() ? at::addmm(b, x, w.t()) : at::mm(x, w.t()); }

// The gradient of w [out, in], laid out as w is: a weight may come as the
// transpose of what is stored.
static Tensor weight_gradient(const Tensor &w, const Tensor &dy, const Tensor &x) {
  return w.is_contiguous() ? at::mm(dy.t(), x) : at::mm(x.t(), dy).t();
}

struct Mlp : torch::autograd::Function<Mlp> {
  static Variable forward(AutogradContext *ctx, const Variable &input, const Variable &up, const std::optional<Tensor> &maybe_up_bias,
                          const std::optional<Tensor> &maybe_gate, const std::optional<Tensor> &maybe_gate_bias, const Variable &down,
                          const std::optional<Tensor> &maybe_down_bias) {
    const Tensor up_bias = or_undefined(maybe_up_bias), gate = or_undefined(maybe_gate), gate_bias = or_undefined(maybe_gate_bias),
                 down_bias = or_undefined(maybe_down_bias);
    const Tensor x = input.contiguous().view({-1, input.size(-1)});
    const bool gated = gate.defined();
    Tensor h = gated ? affine(x, up, up_bias) : at::mm(x, up.t());
    const Tensor g = gated ? affine(x, gate, gate_bias) : Tensor();
    Tensor a = at::empty_like(h);
    float *hp = h.mutable_data_ptr<float>(), *ap = a.mutable_data_ptr<float>();
    if (gated) {
      const float *gp = g.const_data_ptr<float>();
      in_parallel(h.numel(), [&](int64_t from, int64_t n) { swiglu(gp + from, hp + from, ap + from, n); });
    } else {
      const Tensor b = up_bias.defined() ? up_bias.contiguous() : at::zeros({up.size(0)}, x.options());
      const float *bp = b.const_data_ptr<float>();
      const int64_t n = h.size(1);
      at::parallel_for(0, h.size(0), 1 + 8192 / n, [&](int64_t from, int64_t to) {
        for (int64_t i = from; i < to; i++)
          gelu(hp + i * n, bp, ap + i * n, n);
      });
    }
    ctx->save_for_backward({x, up, gate, down});
    // Neither inputs nor outputs: they may live outside save_for_backward.
    ctx->saved_data["hidden"] = h;
    if (g.defined())
      ctx->saved_data["gate"] = g;
    ctx->saved_data["biases"] = std::vector<bool>{up_bias.defined(), gate_bias.defined(), down_bias.defined()};
    ctx->saved_data["shape"] = input.sizes().vec();
    return affine(a, down, down_bias).view(input.sizes());
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &up = saved[1], &gate = saved[2], &down = saved[3];
    TORCH_CHECK(ctx->saved_data.count("hidden") != 0, "mlp: backward a second time: its buffers are gone");
    Tensor h = ctx->saved_data["hidden"].toTensor();
    const bool gated = gate.defined();
    Tensor g = gated ? ctx->saved_data["gate"].toTensor() : Tensor();
    const auto biases = ctx->saved_data["biases"].toBoolList();
    const auto shape = ctx->saved_data["shape"].toIntVector();
    const bool up_bias = biases[0], gate_bias = biases[1], down_bias = biases[2];
    ctx->saved_data.clear();

    const Tensor dy = grads[0].contiguous().view({x.size(0), -1});
    Tensor d = at::mm(dy, down);
    float *hp = h.mutable_data_ptr<float>(), *dp = d.mutable_data_ptr<float>(), *gp = gated ? g.mutable_data_ptr<float>() : nullptr;
    in_parallel(h.numel(), [&](int64_t from, int64_t n) {
      gp != nullptr ? swiglu_backward(gp + from, hp + from, dp + from, n) : gelu_backward(hp + from, dp + from, n);
    });
    variable_list out(7);
    Tensor dx = at::mm(d, up);
    if (gated)
      dx.addmm_(g, gate);
    out[0] = dx.view(shape);
    out[1] = weight_gradient(up, d, x);
    if (up_bias)
      out[2] = d.sum(0);
    if (gated)
      out[3] = weight_gradient(gate, g, x);
    if (gate_bias)
      out[4] = g.sum(0);
    out[5] = weight_gradient(down, dy, h);
    if (down_bias)
      out[6] = dy.sum(0);
    return out;
  }
};

} // namespace koala

using namespace koala;

// x [..., D], up and gate [F, D], down [D, F]; gate and biases may be null.
KOALA_API int koala_mlp(koala_tensor x_, koala_tensor up_, koala_tensor up_bias_, koala_tensor gate_, koala_tensor gate_bias_,
                        koala_tensor down_, koala_tensor down_bias_, koala_tensor *out) {
  return guard([&] {
    const at::Tensor x = ref(x_), up = ref(up_), up_bias = optional(up_bias_), gate = optional(gate_), gate_bias = optional(gate_bias_),
                     down = ref(down_), down_bias = optional(down_bias_);
    TORCH_CHECK(up.dim() == 2 && down.dim() == 2 && x.size(-1) == up.size(1) && down.size(1) == up.size(0), "mlp: weights ", up.sizes(),
                " and ", down.sizes(), " do not fit ", x.sizes());
    TORCH_CHECK(!gate.defined() || gate.sizes() == up.sizes(), "mlp: gate ", gate.sizes(), " must be as up, ", up.sizes());
    if (fused(x) && up.scalar_type() == at::kFloat && x.numel() > 0) {
      *out = handle(Mlp::apply(x, up, given(up_bias), given(gate), given(gate_bias), down, given(down_bias)));
      return;
    }
    at::Tensor h = at::linear(x, up, up_bias);
    h = gate.defined() ? at::silu(at::linear(x, gate, gate_bias)).mul(h) : at::gelu(h, "tanh");
    *out = handle(at::linear(h, down, down_bias));
  });
}
