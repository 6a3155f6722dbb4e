// Layer normalisation (Ba et al. 2016) and its RMS form (Zhang & Sennrich 2019)
// over the last dimension, a row in one pass:
//
//	layer: y = gain (x - mean) / sqrt(var + eps) + bias
//	RMS:   y = gain x / sqrt(mean(x^2) + eps)
//
// With u = dy gain and x^ the normalised row, the gradient of x is
// (u - mean(u) - x^ mean(u x^)) / deviation; RMS has no mean(u).
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "common.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// norm_row writes y and returns the centre and the inverse deviation.
KOALA_SIMD static void norm_row(const float *__restrict x, const float *__restrict gain, const float *__restrict bias,
                                float *__restrict y, int64_t n, float eps, float *centre, float *scale) {
  float mean = 0, squares = 0;
  if (bias != nullptr) {
#pragma omp simd reduction(+ : mean)
    for (int64_t j = 0; j < n; j++)
      mean += x[j];
    mean /= static_cast<float>(n);
  }
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < n; j++)
    squares += (x[j] - mean) * (x[j] - mean);
  const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
  if (bias != nullptr) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      y[j] = (x[j] - mean) * inverse * gain[j] + bias[j];
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      y[j] = x[j] * inverse * gain[j];
  }
  *centre = mean;
  *scale = inverse;
}

// norm_row_backward writes dx and adds to the gradients of gain and bias.
KOALA_SIMD static void norm_row_backward(const float *__restrict dy, const float *__restrict x,
                                         const float *__restrict gain, float centre, float scale, bool layer,
                                         float *__restrict dx, float *__restrict d_gain, float *__restrict d_bias,
                                         int64_t n) {
  float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
  for (int64_t j = 0; j < n; j++) {
    const float u = dy[j] * gain[j];
    sum += u;
    product += u * (x[j] - centre) * scale;
  }
  const float a = layer ? sum / static_cast<float>(n) : 0.0f, b = product / static_cast<float>(n);
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float hat = (x[j] - centre) * scale;
    dx[j] = (dy[j] * gain[j] - a - hat * b) * scale;
    d_gain[j] += dy[j] * hat;
    d_bias[j] += dy[j];
  }
}

struct Norm : torch::autograd::Function<Norm> {
  static Variable forward(AutogradContext *ctx, const Variable &input, const Variable &gain,
                          const std::optional<Tensor> &maybe_bias, double eps) {
    const Tensor bias = or_undefined(maybe_bias);
    const Tensor x = input.contiguous(), g = gain.contiguous(), b = bias.defined() ? bias.contiguous() : bias;
    const int64_t n = x.size(-1), rows = x.numel() / n;
    Tensor y = at::empty_like(x), centre = at::empty({rows}, x.options()), scale = at::empty({rows}, x.options());
    const float *xp = x.const_data_ptr<float>(), *gp = g.const_data_ptr<float>(), *bp = b.defined() ? b.const_data_ptr<float>() : nullptr;
    float *yp = y.mutable_data_ptr<float>(), *cp = centre.mutable_data_ptr<float>(), *sp = scale.mutable_data_ptr<float>();
    at::parallel_for(0, rows, 1 + 32768 / n, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; i++)
        norm_row(xp + i * n, gp, bp, yp + i * n, n, static_cast<float>(eps), cp + i, sp + i);
    });
    ctx->save_for_backward({x, g});
    ctx->saved_data["centre"] = centre;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["layer"] = bias.defined();
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &g = saved[1];
    const Tensor dy = grads[0].contiguous(), centre = ctx->saved_data["centre"].toTensor(), scale = ctx->saved_data["scale"].toTensor();
    const bool layer = ctx->saved_data["layer"].toBool();
    const int64_t n = x.size(-1), rows = x.numel() / n, shares = std::max(1, at::get_num_threads());
    Tensor dx = at::empty_like(x);
    // Each thread adds up its own rows; the order of the sums is that of the shares.
    Tensor sums = at::zeros({2, shares, n}, x.options());
    const float *dyp = dy.const_data_ptr<float>(), *xp = x.const_data_ptr<float>(), *gp = g.const_data_ptr<float>();
    const float *cp = centre.const_data_ptr<float>(), *sp = scale.const_data_ptr<float>();
    float *dxp = dx.mutable_data_ptr<float>(), *sums_p = sums.mutable_data_ptr<float>();
    at::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
      for (int64_t s = first; s < last; s++)
        for (int64_t i = rows * s / shares; i < rows * (s + 1) / shares; i++)
          norm_row_backward(dyp + i * n, xp + i * n, gp, cp[i], sp[i], layer, dxp + i * n, sums_p + s * n, sums_p + (shares + s) * n, n);
    });
    const Tensor total = sums.sum(1);
    return {dx, total.select(0, 0), layer ? total.select(0, 1) : Tensor(), Tensor()};
  }
};

} // namespace koala

using namespace koala;

// x [..., D], gain [D], bias [D]; without a bias it is RMSNorm.
KOALA_API int koala_norm(koala_tensor x_, koala_tensor gain_, koala_tensor bias_, double eps, koala_tensor *out) {
  return guard([&] {
    const at::Tensor x = ref(x_), gain = ref(gain_), bias = optional(bias_);
    TORCH_CHECK(x.dim() >= 1 && gain.dim() == 1 && x.size(-1) == gain.size(0) && (!bias.defined() || bias.sizes() == gain.sizes()),
                "norm: gain ", gain.sizes(), " does not fit ", x.sizes());
    if (fused(x) && gain.scalar_type() == at::kFloat && x.numel() > 0)
      *out = handle(Norm::apply(x, gain, given(bias), eps));
    else if (bias.defined())
      *out = handle(at::layer_norm(x, gain.sizes(), gain, bias, eps));
    else
      *out = handle(at::rms_norm(x, gain.sizes(), gain, eps));
  });
}
