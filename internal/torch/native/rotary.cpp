// Rotary positions (Su et al. 2021): in each head, elements i and i + W/2 form a
// plane that is turned by the position's angle. Backward turns the other way.
#include <torch/csrc/autograd/custom_function.h>

#include "common.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

KOALA_SIMD static void turn_head(const float *__restrict x, const float *__restrict cosine, const float *__restrict sine,
                                 float sign, float *__restrict y, int64_t half) {
#pragma omp simd
  for (int64_t i = 0; i < half; i++) {
    const float a = x[i], b = x[half + i], c = cosine[i], s = sign * sine[i];
    y[i] = a * c - b * s;
    y[half + i] = b * c + a * s;
  }
}

// turn is for x [B, T, H, W] and angles [T, W/2].
static Tensor turn(const Tensor &x, const Tensor &cosine, const Tensor &sine, float sign) {
  if (!x.is_cpu() || x.scalar_type() != at::kFloat) {
    const Tensor c = cosine.unsqueeze(1).to(x.scalar_type()), s = sine.unsqueeze(1).mul(sign).to(x.scalar_type());
    const auto parts = x.chunk(2, -1);
    return at::cat({parts[0] * c - parts[1] * s, parts[1] * c + parts[0] * s}, -1);
  }
  const Tensor in = x.contiguous();
  Tensor out = at::empty_like(in);
  const int64_t length = in.size(1), heads = in.size(2), width = in.size(3), half = width / 2;
  const float *xp = in.const_data_ptr<float>(), *cp = cosine.const_data_ptr<float>(), *sp = sine.const_data_ptr<float>();
  float *yp = out.mutable_data_ptr<float>();
  at::parallel_for(0, in.size(0) * length, 1 + 16384 / (heads * width), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++)
      for (int64_t h = 0; h < heads; h++)
        turn_head(xp + (i * heads + h) * width, cp + i % length * half, sp + i % length * half, sign, yp + (i * heads + h) * width, half);
  });
  return out;
}

struct Rotary : torch::autograd::Function<Rotary> {
  static Variable forward(AutogradContext *ctx, const Variable &x, const Tensor &cosine, const Tensor &sine) {
    ctx->saved_data["cosine"] = cosine;
    ctx->saved_data["sine"] = sine;
    return turn(x, cosine, sine, 1);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    return {turn(grads[0], ctx->saved_data["cosine"].toTensor(), ctx->saved_data["sine"].toTensor(), -1), Tensor(), Tensor()};
  }
};

} // namespace koala

using namespace koala;

// x [B, T, H, W], cosine and sine [T, W/2], of float32 and without gaps.
KOALA_API int koala_rotary(koala_tensor x_, koala_tensor cosine_, koala_tensor sine_, koala_tensor *out) {
  return guard([&] {
    const at::Tensor x = ref(x_), cosine = ref(cosine_), sine = ref(sine_);
    TORCH_CHECK(x.dim() == 4 && x.size(3) % 2 == 0, "rotary: expected [batch, time, heads, even width], got ", x.sizes());
    TORCH_CHECK(cosine.sizes() == at::IntArrayRef({x.size(1), x.size(3) / 2}) && sine.sizes() == cosine.sizes(),
                "rotary: angles ", cosine.sizes(), " do not fit ", x.sizes());
    *out = handle(Rotary::apply(x, cosine.contiguous(), sine.contiguous()));
  });
}
