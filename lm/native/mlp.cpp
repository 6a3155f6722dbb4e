// A Transformer's MLP: down GELU(up x), or with a gate SwiGLU (Shazeer 2020),
// down (SiLU(gate x) * up x). Between the matrix products lies one pass forward and one
// backward, which computes the hidden layer again instead of keeping it. The MLP may be a
// branch of the residual stream (branch.h).
//
// GELU is its tanh form (Hendrycks & Gimpel 2016), here by the identity
// (1 + tanh u) / 2 = s(2u): gelu(x) = x s(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
#include "lowered.h"
#include "simd_math.h"

namespace koala {

namespace {

constexpr float twice_root = 1.5957691216057308f, cubic = 0.044715f; // 2 sqrt(2/pi)

// x becomes x + bias, and y its GELU.
KOALA_KERNEL(void, gelu, float *__restrict x, const float *__restrict bias, float *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float v = x[j] + bias[j];
    x[j] = v;
    y[j] = v * sigmoid(twice_root * v * (1.0f + cubic * v * v));
  }
}

// In place: x becomes gelu(x), and d, the gradient of that, the gradient of x.
KOALA_KERNEL(void, gelu_backward, float *__restrict x, float *__restrict d, int64_t n) {
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

KOALA_KERNEL(void, swiglu, const float *__restrict gate, const float *__restrict x, float *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    y[j] = gate[j] * sigmoid(gate[j]) * x[j];
}

// In place: x becomes the product, d the gradient of x, gate its own gradient.
KOALA_KERNEL(void, swiglu_backward, float *__restrict gate, float *__restrict x, float *__restrict d, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float g = gate[j], s = sigmoid(g), u = x[j], dy = d[j];
    x[j] = g * s * u;
    d[j] = dy * g * s;
    gate[j] = dy * u * s * (1.0f + g * (1.0f - s));
  }
}

// The same on bfloat16 numbers; x is the product without its bias.
KOALA_KERNEL(void, low_gelu, const uint16_t *__restrict x, const float *__restrict bias, uint16_t *__restrict y,
             int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float v = widen(x[j]) + bias[j];
    y[j] = narrow(v * sigmoid(twice_root * v * (1.0f + cubic * v * v)));
  }
}

// In place: x becomes gelu(x + bias), d the gradient of x, which is also added to d_bias.
KOALA_KERNEL(void, low_gelu_backward, uint16_t *__restrict x, const float *__restrict bias, uint16_t *__restrict d,
             float *__restrict d_bias, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float v = widen(x[j]) + bias[j], square = cubic * v * v, z = twice_root * v * (1.0f + square);
    const float e = exp_bounded(-z), s = 1.0f / (1.0f + e);
    const float slope = z < 80.0f && z > -80.0f ? v * e * s * twice_root * (1.0f + 3.0f * square) : 0.0f;
    const float dx = widen(d[j]) * (s * (1.0f + slope));
    d_bias[j] += dx;
    d[j] = narrow(dx);
    x[j] = narrow(v * s);
  }
}

KOALA_KERNEL(void, low_swiglu, const uint16_t *__restrict gate, const float *__restrict gate_bias,
             const uint16_t *__restrict x, const float *__restrict bias, uint16_t *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float g = widen(gate[j]) + gate_bias[j];
    y[j] = narrow(g * sigmoid(g) * (widen(x[j]) + bias[j]));
  }
}

// In place: x becomes the product, d the gradient of x, gate its own gradient.
KOALA_KERNEL(void, low_swiglu_backward, uint16_t *__restrict gate, const float *__restrict gate_bias,
             uint16_t *__restrict x, const float *__restrict bias, uint16_t *__restrict d, float *__restrict d_bias,
             float *__restrict d_gate_bias, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float g = widen(gate[j]) + gate_bias[j], s = sigmoid(g), u = widen(x[j]) + bias[j], dy = widen(d[j]);
    const float dx = dy * g * s, dg = dy * u * s * (1.0f + g * (1.0f - s));
    d_bias[j] += dx;
    d_gate_bias[j] += dg;
    x[j] = narrow(g * s * u);
    d[j] = narrow(dx);
    gate[j] = narrow(dg);
  }
}

// The weights and the norm of an MLP.
struct MlpLayer {
  Stream stream;
  Linear up, gate, down; // the gate may be undefined

  bool gated() const { return gate.defined(); }
  int64_t width() const { return up.weight.size(0); }
  int64_t elements() const { return up.weight.numel() * (gated() ? 3 : 2); }

  void check(const Tensor &x) const {
    const Tensor &u = up.weight, &d = down.weight;
    TORCH_CHECK(u.dim() == 2 && d.dim() == 2 && u.size(1) == x.size(-1) && d.size(1) == u.size(0) &&
                    d.size(0) == x.size(-1),
                "mlp: weights ", u.sizes(), " and ", d.sizes(), " do not fit ", x.sizes());
    TORCH_CHECK(!gated() || gate.weight.sizes() == u.sizes(), "mlp: gate ", gate.weight.sizes(), " must be as up, ",
                u.sizes());
    up.check();
    if (gated())
      gate.check();
    down.check();
    stream.check(x);
  }
};

struct MlpSaved {
  Tensor x, gain, shift, up, up_bias, gate, gate_bias, down, down_bias;
  std::array<Tensor *, 9> all() { return {&x, &gain, &shift, &up, &up_bias, &gate, &gate_bias, &down, &down_bias}; }
  MlpLayer layer() const {
    return {Stream(gain, shift, 0), Linear(up, up_bias), Linear(gate, gate_bias), Linear(down, down_bias)};
  }
};

struct Mlp : torch::autograd::Function<Mlp> {
  using Saved = MlpSaved;
  struct Buffers {
    Tensor hidden, gates, measures; // hidden and gates [rows, width] before their nonlinearity
    std::array<Tensor *, 3> all() { return {&hidden, &gates, &measures}; }
  };

  static Variable apply_to(const Tensor &x, const MlpLayer &l) {
    return apply(x, given(l.stream.gain), given(l.stream.shift), l.stream.eps, l.up.weight, given(l.up.bias),
                 given(l.gate.weight), given(l.gate.bias), l.down.weight, given(l.down.bias));
  }

  static Variable forward(AutogradContext *ctx, const Variable &input, const std::optional<Tensor> &gain,
                          const std::optional<Tensor> &shift, double eps, const Variable &up,
                          const std::optional<Tensor> &up_bias, const std::optional<Tensor> &gate,
                          const std::optional<Tensor> &gate_bias, const Variable &down,
                          const std::optional<Tensor> &down_bias) {
    const Saved s{input.contiguous(), or_undefined(gain), or_undefined(shift),     up,   or_undefined(up_bias),
                  or_undefined(gate), or_undefined(gate_bias), down, or_undefined(down_bias)};
    MlpLayer l = s.layer();
    l.stream.eps = eps;
    const Tensor &x = s.x, y = at::empty_like(x);
    const int64_t rows = x.numel() / x.size(-1), width = l.width();
    const Chunks chunks = chunks_of(rows, 1, l.elements());
    const Tensor h = at::empty({rows, width}, x.options()), g = l.gated() ? at::empty_like(h) : Tensor();
    const Tensor scratch = at::empty({chunks.shares, chunks.height(), width}, x.options());
    const Tensor bias = s.up_bias.defined() || l.gated() ? s.up_bias : at::zeros({width}, x.options());
    Branch branch(x, l.stream, chunks, 1);
    const Matrix H = mutable_matrix(h), Y = mutable_matrix(y);
    chunks.each([&](int64_t share, int64_t from, int64_t n) {
      const ConstMatrix in = branch.in(share, from, n);
      const Matrix hidden = H.part(from, n), a = mutable_matrix(scratch.select(0, share)).part(0, n);
      if (l.gated()) {
        const Matrix gates = mutable_matrix(g).part(from, n);
        l.up.apply(hidden, in);
        l.gate.apply(gates, in);
        in_parallel(n * width, 8192,
                    [&](int64_t i, int64_t count) { swiglu(gates.p + i, hidden.p + i, a.p + i, count); });
      } else {
        multiply(hidden, in, matrix(l.up.weight).t());
        const float *b = matrix(bias).p;
        in_parallel(n, 1 + 8192 / width, [&](int64_t first, int64_t count) {
          for (int64_t i = first; i < first + count; i++)
            gelu(hidden.row(i), b, a.row(i), width);
        });
      }
      branch.out(Y.part(from, n), from, a, l.down);
    });
    save(ctx, s);
    hold(ctx, Buffers{h, g, branch.measures()});
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Saved s = saved<Saved>(ctx);
    const Buffers b = take<Buffers>(ctx, "mlp");
    const MlpLayer l = s.layer();
    const int64_t width = l.width();
    const Chunks chunks = chunks_of(b.hidden.size(0), 1, l.elements());
    const Tensor dy = grads[0].contiguous(), dx = at::empty_like(s.x);
    const Tensor scratch = at::empty({chunks.shares, chunks.height(), width}, s.x.options());
    Branch branch(s.x, l.stream, b.measures, chunks, 1);
    const Matrix H = mutable_matrix(b.hidden), DX = mutable_matrix(dx);
    const ConstMatrix DY = matrix(dy);
    LinearGradient d_up(l.up, chunks.shares), d_gate(l.gate, chunks.shares), d_down(l.down, chunks.shares);
    chunks.each([&](int64_t share, int64_t from, int64_t n) {
      // d is the gradient of the hidden layer, then of its input; hidden becomes the
      // hidden layer, and gates their own gradient.
      const ConstMatrix in = branch.in(share, from, n), out = DY.part(from, n);
      const Matrix d_in = branch.gradient_in(share, DX.part(from, n)), hidden = H.part(from, n);
      const Matrix d = mutable_matrix(scratch.select(0, share)).part(0, n);
      multiply(d, out, matrix(l.down.weight));
      if (l.gated()) {
        const Matrix gates = mutable_matrix(b.gates).part(from, n);
        in_parallel(n * width, 8192,
                    [&](int64_t i, int64_t count) { swiglu_backward(gates.p + i, hidden.p + i, d.p + i, count); });
        multiply(d_in, gates, matrix(l.gate.weight));
        d_gate.add(share, gates, in);
      } else {
        in_parallel(n * width, 8192, [&](int64_t i, int64_t count) { gelu_backward(hidden.p + i, d.p + i, count); });
      }
      multiply(d_in, d, matrix(l.up.weight), l.gated());
      branch.back(share, from, d_in, out, DX.part(from, n));
      d_up.add(share, d, in);
      d_down.add(share, out, hidden);
    });
    return {dx,
            branch.d_gain.total(),
            branch.d_shift.total(),
            Tensor(),
            d_up.weight.total(),
            d_up.bias.total(),
            d_gate.weight.total(),
            d_gate.bias.total(),
            d_down.weight.total(),
            d_down.bias.total()};
  }
};

// LowMlp is the MLP with products of bfloat16 numbers.
struct LowMlp : torch::autograd::Function<LowMlp> {
  struct Buffers { // of bfloat16 but for the measures
    Tensor in, hidden, gates, up, gate, down, measures; // hidden and gates before bias and nonlinearity
    std::array<Tensor *, 7> all() { return {&in, &hidden, &gates, &up, &gate, &down, &measures}; }
  };

  static Variable apply_to(const Tensor &x, const MlpLayer &l) {
    return apply(x, given(l.stream.gain), given(l.stream.shift), l.stream.eps, l.up.weight, given(l.up.bias),
                 given(l.gate.weight), given(l.gate.bias), l.down.weight, given(l.down.bias));
  }

  // The biases, zeros for those that are absent.
  static Tensor bias_of(const Linear &l, int64_t width, const Tensor &like) {
    return l.bias.defined() ? l.bias : at::zeros({width}, like.options());
  }

  static Variable forward(AutogradContext *ctx, const Variable &input, const std::optional<Tensor> &gain,
                          const std::optional<Tensor> &shift, double eps, const Variable &up,
                          const std::optional<Tensor> &up_bias, const std::optional<Tensor> &gate,
                          const std::optional<Tensor> &gate_bias, const Variable &down,
                          const std::optional<Tensor> &down_bias) {
    const MlpSaved s{input.contiguous(), or_undefined(gain), or_undefined(shift),     up,   or_undefined(up_bias),
                     or_undefined(gate), or_undefined(gate_bias), down, or_undefined(down_bias)};
    const MlpLayer l = s.layer();
    LowBranch branch{s.x, l.stream, {}};
    branch.stream.eps = eps;
    Buffers b;
    b.in = branch.in();
    b.measures = branch.measures;
    b.up = low(up), b.gate = low(s.gate), b.down = low(down);
    b.hidden = at::mm(b.in, b.up.t());
    const Tensor a = at::empty_like(b.hidden);
    const Tensor bias = bias_of(l.up, l.width(), s.x), gates_bias = bias_of(l.gate, l.width(), s.x);
    if (l.gated())
      b.gates = at::mm(b.in, b.gate.t());
    const LowMatrix H = low_matrix(b.hidden), A = low_matrix(a), G = l.gated() ? low_matrix(b.gates) : LowMatrix{};
    rows_in_parallel(H.rows, H.columns, [&](int64_t from, int64_t n) {
      for (int64_t i = from; i < from + n; i++)
        l.gated() ? low_swiglu(G.row(i), matrix(gates_bias).p, H.row(i), matrix(bias).p, A.row(i), H.columns)
                  : low_gelu(H.row(i), matrix(bias).p, A.row(i), H.columns);
    });
    save(ctx, s);
    hold(ctx, b);
    return branch.out(at::mm(a, b.down.t()), l.down.bias);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const MlpSaved s = saved<MlpSaved>(ctx);
    const Buffers b = take<Buffers>(ctx, "mlp");
    const MlpLayer l = s.layer();
    const LowBranch branch{s.x, l.stream, b.measures};
    const Tensor dy = grads[0].contiguous(), out = low(dy).view({branch.rows(), branch.width()});
    // d is the gradient of the hidden layer, then of its products; hidden becomes the
    // hidden layer, and gates their own gradient.
    const Tensor d = at::mm(out, b.down);
    const Tensor bias = bias_of(l.up, l.width(), s.x), gates_bias = bias_of(l.gate, l.width(), s.x);
    const int64_t shares = at::get_num_threads();
    const Tensor sums = at::zeros({2, shares, l.width()}, s.x.options());
    const LowMatrix H = low_matrix(b.hidden), D = low_matrix(d), G = l.gated() ? low_matrix(b.gates) : LowMatrix{};
    in_shares(shares, [&](int64_t share) {
      float *const d_bias = mutable_matrix(sums.select(0, 0)).row(share);
      float *const d_gates_bias = mutable_matrix(sums.select(0, 1)).row(share);
      for (int64_t i = H.rows * share / shares; i < H.rows * (share + 1) / shares; i++)
        l.gated() ? low_swiglu_backward(G.row(i), matrix(gates_bias).p, H.row(i), matrix(bias).p, D.row(i), d_bias,
                                        d_gates_bias, H.columns)
                  : low_gelu_backward(H.row(i), matrix(bias).p, D.row(i), d_bias, H.columns);
    });
    const Tensor bias_sums = sums.sum(1);
    Tensor d_in = at::mm(d, b.up);
    if (l.gated())
      d_in.add_(at::mm(b.gates, b.gate));
    const LowBranch::Gradients g = branch.back(d_in, dy);
    return {g.x,
            g.gain,
            g.shift,
            Tensor(),
            low_gradient(d, b.in),
            s.up_bias.defined() ? bias_sums.select(0, 0) : Tensor(),
            l.gated() ? low_gradient(b.gates, b.in) : Tensor(),
            s.gate_bias.defined() ? bias_sums.select(0, 1) : Tensor(),
            low_gradient(out, b.hidden),
            bias_gradient(dy, s.down_bias)};
  }
};

Tensor mlp_by_operators(const Tensor &x, const MlpLayer &l) {
  const Tensor h = l.up(x);
  return l.down(l.gated() ? at::silu(l.gate(x)).mul(h) : at::gelu(h, "tanh"));
}

} // namespace

} // namespace koala

using namespace koala;

KOALA_API int koala_mlp(const koala_mlp_inputs *in, koala_tensor *out) {
  return guard([&] {
    const Tensor x = ref(in->x);
    const MlpLayer l{Stream(in->branch), Linear(in->up), Linear(in->gate), Linear(in->down)};
    l.check(x);
    // In float32, where all threads work on one product, norm and sum beside the products
    // would be left to one of them.
    const bool branch = lowered() || at::get_num_threads() == 1 || cached(l.elements());
    const Path path = choose({x, l.up.weight, l.gate.weight, l.down.weight, l.stream.gain, l.stream.shift},
                             Autocast::Fused, {.branch = branch && l.stream.dropout == 0});
    const auto kernel = lowered() ? LowMlp::apply_to : Mlp::apply_to;
    const auto alone = [&](const Tensor &x) {
      return path == Path::Operators ? mlp_by_operators(x, l) : kernel(x, {{}, l.up, l.gate, l.down});
    };
    *out = handle(path == Path::FusedBranch ? kernel(x, l) : l.stream.apply(x, alone));
  });
}
