// GELU in its tanh form (Hendrycks & Gimpel 2016), which equals
//
//	x s(2u),  u = sqrt(2/pi) (x + 0.044715 x^3),  s the logistic function
//
// One exp an element forward and one backward, where libtorch takes a tanh of the
// full precision of its vector library each time.
#include <omp.h>
#include <torch/csrc/autograd/custom_function.h>

#include "common.h"
#include "simd_math.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

static constexpr float twice_root = 1.5957691216057308f, cubic = 0.044715f; // 2 sqrt(2/pi)

KOALA_SIMD static void gelu_forward(const float *__restrict x, float *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++)
    y[i] = x[i] * sigmoid(twice_root * x[i] * (1.0f + cubic * x[i] * x[i]));
}

KOALA_SIMD static void gelu_backward(const float *__restrict x, const float *__restrict dy, float *__restrict dx, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const float square = cubic * x[i] * x[i], z = twice_root * x[i] * (1.0f + square);
    const float e = exp_bounded(-z), s = 1.0f / (1.0f + e); // 1 - s is e s
    // Beyond 80 the term is below any float32 beside it, and its square may be infinite.
    const float slope = z < 80.0f && z > -80.0f ? x[i] * e * s * twice_root * (1.0f + 3.0f * square) : 0.0f;
    dx[i] = dy[i] * s * (1.0f + slope);
  }
}

// in_shares calls f(from, count) for shares of n elements, one a thread.
template <typename F> static void in_shares(int64_t n, const F &f) {
  const int64_t least = 1 << 15; // below that a thread costs more than it saves
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), n / least));
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < threads; i++) {
    const int64_t from = n * i / threads;
    f(from, n * (i + 1) / threads - from);
  }
}

struct Gelu : torch::autograd::Function<Gelu> {
  static variable_list forward(AutogradContext *ctx, const Variable &input) {
    const Tensor x = input.contiguous();
    Tensor y = at::empty_like(x);
    const float *xp = x.const_data_ptr<float>();
    float *yp = y.mutable_data_ptr<float>();
    in_shares(x.numel(), [&](int64_t from, int64_t n) { gelu_forward(xp + from, yp + from, n); });
    ctx->save_for_backward({x});
    return {y};
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Tensor x = ctx->get_saved_variables()[0], dy = grads[0].contiguous();
    Tensor dx = at::empty_like(x);
    const float *xp = x.const_data_ptr<float>(), *dyp = dy.const_data_ptr<float>();
    float *dxp = dx.mutable_data_ptr<float>();
    in_shares(x.numel(), [&](int64_t from, int64_t n) { gelu_backward(xp + from, dyp + from, dxp + from, n); });
    return {dx};
  }
};

} // namespace koala

using namespace koala;

KOALA_API int koala_gelu_tanh(koala_tensor x, koala_tensor *out) {
  return guard([&] {
    const at::Tensor &t = ref(x);
    const bool ours = t.is_cpu() && t.scalar_type() == at::kFloat;
    *out = handle(ours ? Gelu::apply(t)[0] : at::gelu(t, "tanh"));
  });
}
