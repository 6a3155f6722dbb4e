// One LSTM layer over a whole sequence (Hochreiter & Schmidhuber 1997, with
// PyTorch's gate order i, f, g, o and its two biases):
//
//	i = s(Wi x + Ui h)  f = s(Wf x + Uf h)  g = tanh(Wg x + Ug h)  o = s(Wo x + Uo h)
//	c' = f c + i g      h' = o tanh(c')
//
// libtorch on a CPU records some ten operators a time step. Here a step is one
// matrix product and one pass, the input's share of all steps is one product
// ahead, and so are the gradients of both weights at the end. Sequences do not
// depend on one another, so each thread takes some of them through all time
// steps: two waits a layer and not two a step.
#include <omp.h>
#include <torch/csrc/autograd/custom_function.h>

#include "blas.h"
#include "recurrent.h"
#include "simd_math.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// cell_forward turns one row of pre-activations [4H] into gates, in place.
KOALA_SIMD static void cell_forward(float *__restrict gates, const float *__restrict c_prev, float *__restrict c,
                                    float *__restrict h, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float i = sigmoid(gates[j]), f = sigmoid(gates[n + j]);
    const float g = tanh_fast(gates[2 * n + j]), o = sigmoid(gates[3 * n + j]);
    gates[j] = i;
    gates[n + j] = f;
    gates[2 * n + j] = g;
    gates[3 * n + j] = o;
    c[j] = f * c_prev[j] + i * g;
    h[j] = o * tanh_fast(c[j]);
  }
}

// cell_backward turns gates into gradients of the pre-activations, in place. dc
// holds dL/dc' on entry and dL/dc on return.
KOALA_SIMD static void cell_backward(float *__restrict gates, const float *__restrict c_prev,
                                     const float *__restrict c, const float *__restrict dh, float *__restrict dc,
                                     int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float i = gates[j], f = gates[n + j], g = gates[2 * n + j], o = gates[3 * n + j];
    const float t = tanh_fast(c[j]);
    const float d = dc[j] + dh[j] * o * (1.0f - t * t);
    gates[j] = d * g * i * (1.0f - i);
    gates[n + j] = d * c_prev[j] * f * (1.0f - f);
    gates[2 * n + j] = d * i * (1.0f - g * g);
    gates[3 * n + j] = dh[j] * t * o * (1.0f - o);
    dc[j] = d * f;
  }
}

struct LstmLayer : torch::autograd::Function<LstmLayer> {
  static variable_list forward(AutogradContext *ctx, const Variable &x, const Variable &h0, const Variable &c0,
                               const Variable &w_ih, const Variable &w_hh, const Variable &b_ih,
                               const Variable &b_hh) {
    const int64_t steps = x.size(0), batch = x.size(1), in = x.size(2), n = w_hh.size(1);
    const Tensor flat = x.contiguous().view({steps * batch, in});
    Tensor gates = at::empty({steps, batch, 4 * n}, x.options());
    Tensor gates_flat = gates.view({steps * batch, 4 * n});
    at::addmm_out(gates_flat, b_ih + b_hh, flat, w_ih.t());
    Tensor y = at::empty({steps, batch, n}, x.options()), c = at::empty({steps, batch, n}, x.options());
    const Tensor first_h = h0.contiguous(), first_c = c0.contiguous();
    const Tensor w = w_hh.contiguous();
    float *zp = gates.mutable_data_ptr<float>(), *yp = y.mutable_data_ptr<float>(), *cp = c.mutable_data_ptr<float>();
    const float *hp0 = first_h.const_data_ptr<float>(), *cp0 = first_c.const_data_ptr<float>();
    const Matrix weights = matrix(w);
    over_sequences(batch, [&](int64_t from, int64_t rows) {
      const float *h = hp0 + from * n, *c_before = cp0 + from * n;
      for (int64_t t = 0; t < steps; t++) {
        const int64_t at = t * batch + from;
        float *z = zp + at * 4 * n, *h_next = yp + at * n, *c_next = cp + at * n;
        multiply(dense(z, rows, 4 * n), dense(h, rows, n), weights.t(), true);
        for (int64_t b = 0; b < rows; b++)
          cell_forward(z + b * 4 * n, c_before + b * n, c_next + b * n, h_next + b * n, n);
        h = h_next;
        c_before = c_next;
      }
    });
    ctx->save_for_backward({flat, first_h, first_c, w_ih, w, y, c});
    // Not an input, not an output: it may live outside save_for_backward.
    ctx->saved_data["gates"] = gates;
    return {y, c.select(0, steps - 1).clone()};
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &flat = saved[0], &h0 = saved[1], &c0 = saved[2], &w_ih = saved[3], &w_hh = saved[4], &y = saved[5], &c = saved[6];
    TORCH_CHECK(ctx->saved_data.count("gates") != 0, "lstm_layer: backward a second time: its buffers are gone");
    Tensor gates = ctx->saved_data["gates"].toTensor();
    ctx->saved_data.clear();
    const int64_t steps = y.size(0), batch = y.size(1), n = y.size(2);
    Tensor dh = at::zeros({batch, n}, y.options());
    Tensor dc = grads[1].defined() ? grads[1].clone() : at::zeros({batch, n}, y.options());
    const Tensor dy = grads[0].defined() ? grads[0].contiguous() : Tensor();
    const float *dyp = dy.defined() ? dy.const_data_ptr<float>() : nullptr;
    const Matrix weights = matrix(w_hh);
    const float *cp = c.const_data_ptr<float>(), *cp0 = c0.const_data_ptr<float>();
    float *zp = gates.mutable_data_ptr<float>(), *dhp = dh.mutable_data_ptr<float>(), *dcp = dc.mutable_data_ptr<float>();
    over_sequences(batch, [&](int64_t from, int64_t rows) {
      float *dh_t = dhp + from * n, *dc_t = dcp + from * n;
      for (int64_t t = steps - 1; t >= 0; t--) {
        const int64_t at = t * batch + from;
        if (dyp != nullptr)
          for (int64_t j = 0; j < rows * n; j++)
            dh_t[j] += dyp[at * n + j];
        float *z = zp + at * 4 * n;
        const float *c_t = cp + at * n, *c_before = t > 0 ? c_t - batch * n : cp0 + from * n;
        for (int64_t b = 0; b < rows; b++)
          cell_backward(z + b * 4 * n, c_before + b * n, c_t + b * n, dh_t + b * n, dc_t + b * n, n);
        multiply(dense(dh_t, rows, n), dense(z, rows, 4 * n), weights);
      }
    });
    const Tensor dz = gates.view({steps * batch, 4 * n});
    variable_list d(7);
    if (ctx->needs_input_grad(0))
      d[0] = at::mm(dz, w_ih).view({steps, batch, w_ih.size(1)});
    if (ctx->needs_input_grad(1))
      d[1] = dh;
    if (ctx->needs_input_grad(2))
      d[2] = dc;
    d[3] = at::mm(dz.t(), flat);
    d[4] = at::mm(dz.t(), states_before(h0, y).view({steps * batch, n}));
    d[5] = dz.sum(0);
    d[6] = d[5].clone();
    return d;
  }
};

} // namespace koala

using namespace koala;

// x [T, B, I], h0 and c0 [B, H], w_ih [4H, I], w_hh [4H, H], b_ih and b_hh [4H];
// y [T, B, H], h and c [B, H]. Differentiable in all inputs.
KOALA_API int koala_lstm_layer(koala_tensor x_, koala_tensor h0_, koala_tensor c0_, koala_tensor w_ih_, koala_tensor w_hh_,
                               koala_tensor b_ih_, koala_tensor b_hh_, koala_tensor *y, koala_tensor *h, koala_tensor *c) {
  return guard([&] {
    const at::Tensor x = ref(x_), h0 = ref(h0_), c0 = ref(c0_), w_ih = ref(w_ih_), w_hh = ref(w_hh_), b_ih = ref(b_ih_), b_hh = ref(b_hh_);
    TORCH_CHECK(x.dim() == 3, "lstm_layer: x must be [time, batch, features], got ", x.sizes());
    const int64_t n = w_hh.size(1);
    TORCH_CHECK(w_ih.sizes() == at::IntArrayRef({4 * n, x.size(2)}) && w_hh.size(0) == 4 * n,
                "lstm_layer: weights ", w_ih.sizes(), " and ", w_hh.sizes(), " do not fit input ", x.sizes());
    TORCH_CHECK(b_ih.numel() == 4 * n && b_hh.numel() == 4 * n, "lstm_layer: biases must have ", 4 * n, " entries");
    TORCH_CHECK(h0.sizes() == at::IntArrayRef({x.size(1), n}) && c0.sizes() == h0.sizes(),
                "lstm_layer: state ", h0.sizes(), " and ", c0.sizes(), " must be [", x.size(1), ", ", n, "]");
    at::Tensor out, last_c;
    if (x.is_cpu() && x.scalar_type() == at::kFloat && w_hh.scalar_type() == at::kFloat && x.size(0) > 0) {
      auto r = LstmLayer::apply(x, h0, c0, w_ih, w_hh, b_ih, b_hh);
      out = r[0];
      last_c = r[1];
    } else {
      const at::Tensor first_h = h0.unsqueeze(0), first_c = c0.unsqueeze(0);
      auto r = at::lstm(x, {first_h, first_c}, {w_ih, w_hh, b_ih, b_hh}, true, 1, 0.0, false, false, false);
      out = std::get<0>(r);
      last_c = std::get<2>(r).squeeze(0);
    }
    *h = handle(out.select(0, out.size(0) - 1));
    *c = handle(last_c);
    *y = handle(out);
  });
}
