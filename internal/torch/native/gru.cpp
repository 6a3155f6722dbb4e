// One GRU layer over a whole sequence (Cho et al. 2014, in PyTorch's form, which
// resets after the product with the state):
//
//	r = s(Wr x + Ur h)  z = s(Wz x + Uz h)  n = tanh(Wn x + bn + r (Un h + cn))
//	h' = (1 - z) n + z h
//
// As in lstm.cpp the input's share of all steps is one product ahead, and each
// thread takes some of the sequences through all time steps.
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

// gru_forward turns the input's share x [3H] into gates r, z, n, in place; u
// [3H] is the state's share, whose last part stays for backward.
KOALA_SIMD static void gru_forward(float *__restrict x, const float *__restrict u, const float *__restrict before,
                                   float *__restrict h, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float r = sigmoid(x[j] + u[j]), z = sigmoid(x[n + j] + u[n + j]);
    const float c = tanh_fast(x[2 * n + j] + r * u[2 * n + j]);
    x[j] = r;
    x[n + j] = z;
    x[2 * n + j] = c;
    h[j] = (1.0f - z) * c + z * before[j];
  }
}

// gru_backward turns gates into gradients of the input's share, in place, and u
// into those of the state's share. dh holds dL/dh' on entry; on return what of it
// goes to h past the products.
KOALA_SIMD static void gru_backward(float *__restrict gates, float *__restrict u, const float *__restrict before,
                                    float *__restrict dh, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float r = gates[j], z = gates[n + j], c = gates[2 * n + j];
    const float dn = dh[j] * (1.0f - z) * (1.0f - c * c);
    const float dz = dh[j] * (before[j] - c) * z * (1.0f - z);
    const float dr = dn * u[2 * n + j] * r * (1.0f - r);
    gates[j] = u[j] = dr;
    gates[n + j] = u[n + j] = dz;
    gates[2 * n + j] = dn;
    u[2 * n + j] = dn * r;
    dh[j] *= z;
  }
}

struct GruLayer : torch::autograd::Function<GruLayer> {
  static variable_list forward(AutogradContext *ctx, const Variable &x, const Variable &h0, const Variable &w_ih,
                               const Variable &w_hh, const Variable &b_ih, const Variable &b_hh) {
    const int64_t steps = x.size(0), batch = x.size(1), in = x.size(2), n = w_hh.size(1);
    const Tensor flat = x.contiguous().view({steps * batch, in});
    Tensor gates = at::empty({steps * batch, 3 * n}, x.options());
    at::addmm_out(gates, b_ih, flat, w_ih.t());
    // The state's share of each step starts as its bias.
    Tensor share = at::empty_like(gates).copy_(b_hh);
    Tensor y = at::empty({steps, batch, n}, x.options());
    const Tensor first = h0.contiguous(), w = w_hh.contiguous();
    float *zp = gates.mutable_data_ptr<float>(), *up = share.mutable_data_ptr<float>(), *yp = y.mutable_data_ptr<float>();
    const float *hp = first.const_data_ptr<float>();
    const Matrix weights = matrix(w);
    over_sequences(batch, [&](int64_t from, int64_t rows) {
      const float *h = hp + from * n;
      for (int64_t t = 0; t < steps; t++) {
        const int64_t at = t * batch + from;
        float *next = yp + at * n;
        multiply(dense(up + at * 3 * n, rows, 3 * n), dense(h, rows, n), weights.t(), true);
        for (int64_t b = 0; b < rows; b++)
          gru_forward(zp + (at + b) * 3 * n, up + (at + b) * 3 * n, h + b * n, next + b * n, n);
        h = next;
      }
    });
    ctx->save_for_backward({flat, first, w_ih, w, y});
    // Neither inputs nor outputs: they may live outside save_for_backward.
    ctx->saved_data["gates"] = gates;
    ctx->saved_data["share"] = share;
    return {y};
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &flat = saved[0], &h0 = saved[1], &w_ih = saved[2], &w_hh = saved[3], &y = saved[4];
    TORCH_CHECK(ctx->saved_data.count("gates") != 0, "gru_layer: backward a second time: its buffers are gone");
    Tensor gates = ctx->saved_data["gates"].toTensor(), share = ctx->saved_data["share"].toTensor();
    ctx->saved_data.clear();
    const int64_t steps = y.size(0), batch = y.size(1), n = y.size(2);
    Tensor dh = at::zeros({batch, n}, y.options()), through = at::empty({batch, n}, y.options());
    const Tensor dy = grads[0].contiguous(), before = states_before(h0, y);
    const float *dyp = dy.const_data_ptr<float>(), *bp = before.const_data_ptr<float>();
    const Matrix weights = matrix(w_hh);
    float *zp = gates.mutable_data_ptr<float>(), *up = share.mutable_data_ptr<float>();
    float *dhp = dh.mutable_data_ptr<float>(), *tp = through.mutable_data_ptr<float>();
    over_sequences(batch, [&](int64_t from, int64_t rows) {
      float *d = dhp + from * n, *product_of = tp + from * n;
      for (int64_t t = steps - 1; t >= 0; t--) {
        const int64_t at = t * batch + from;
        for (int64_t j = 0; j < rows * n; j++)
          d[j] += dyp[at * n + j];
        for (int64_t b = 0; b < rows; b++)
          gru_backward(zp + (at + b) * 3 * n, up + (at + b) * 3 * n, bp + (at + b) * n, d + b * n, n);
        multiply(dense(product_of, rows, n), dense(up + at * 3 * n, rows, 3 * n), weights);
        for (int64_t j = 0; j < rows * n; j++)
          d[j] += product_of[j];
      }
    });
    variable_list d(6);
    if (ctx->needs_input_grad(0))
      d[0] = at::mm(gates, w_ih).view({steps, batch, w_ih.size(1)});
    if (ctx->needs_input_grad(1))
      d[1] = dh;
    d[2] = at::mm(gates.t(), flat);
    d[3] = at::mm(share.t(), before.view({steps * batch, n}));
    d[4] = gates.sum(0);
    d[5] = share.sum(0);
    return d;
  }
};

} // namespace koala

using namespace koala;

// x [T, B, I], h0 [B, H], w_ih [3H, I], w_hh [3H, H], b_ih and b_hh [3H]; y
// [T, B, H], h [B, H]. Differentiable in all inputs.
KOALA_API int koala_gru_layer(koala_tensor x_, koala_tensor h0_, koala_tensor w_ih_, koala_tensor w_hh_, koala_tensor b_ih_,
                              koala_tensor b_hh_, koala_tensor *y, koala_tensor *h) {
  return guard([&] {
    const at::Tensor x = ref(x_), h0 = ref(h0_), w_ih = ref(w_ih_), w_hh = ref(w_hh_), b_ih = ref(b_ih_), b_hh = ref(b_hh_);
    TORCH_CHECK(x.dim() == 3, "gru_layer: x must be [time, batch, features], got ", x.sizes());
    const int64_t n = w_hh.size(1);
    TORCH_CHECK(w_ih.sizes() == at::IntArrayRef({3 * n, x.size(2)}) && w_hh.size(0) == 3 * n,
                "gru_layer: weights ", w_ih.sizes(), " and ", w_hh.sizes(), " do not fit input ", x.sizes());
    TORCH_CHECK(b_ih.numel() == 3 * n && b_hh.numel() == 3 * n, "gru_layer: biases must have ", 3 * n, " entries");
    TORCH_CHECK(h0.sizes() == at::IntArrayRef({x.size(1), n}), "gru_layer: state ", h0.sizes(), " must be [", x.size(1), ", ", n, "]");
    at::Tensor out;
    if (x.is_cpu() && x.scalar_type() == at::kFloat && w_hh.scalar_type() == at::kFloat && x.size(0) > 0)
      out = GruLayer::apply(x, h0, w_ih, w_hh, b_ih, b_hh)[0];
    else
      out = std::get<0>(at::gru(x, h0.unsqueeze(0), {w_ih, w_hh, b_ih, b_hh}, true, 1, 0.0, false, false, false));
    *h = handle(out.select(0, out.size(0) - 1));
    *y = handle(out);
  });
}
