// Rotary positions (Su et al. 2021): in each head, elements i and i + W/2 form a plane
// that is turned by the position's angle. Backward turns the other way.
#include "autograd.h"
#include "isa.h"
#include "parallel.h"

namespace koala {

namespace {

KOALA_KERNEL(void, turn_head, const float *__restrict x, const float *__restrict cosine, const float *__restrict sine,
             float sign, float *__restrict y, int64_t half) {
#pragma omp simd
  for (int64_t i = 0; i < half; i++) {
    const float a = x[i], b = x[half + i], c = cosine[i], s = sign * sine[i];
    y[i] = a * c - b * s;
    y[half + i] = b * c + a * s;
  }
}

// turn turns x [B, T, H, W] by angles [T, W/2].
Tensor turn(const Tensor &x, const Tensor &cosine, const Tensor &sine, float sign) {
  if (choose({x, cosine, sine}, Autocast::Fused) == Path::Operators) {
    const Tensor c = cosine.unsqueeze(1).to(x.scalar_type()), s = sine.unsqueeze(1).mul(sign).to(x.scalar_type());
    const auto parts = x.chunk(2, -1);
    return at::cat({parts[0] * c - parts[1] * s, parts[1] * c + parts[0] * s}, -1);
  }
  const Tensor in = x.contiguous();
  Tensor out = at::empty_like(in);
  const int64_t length = in.size(1), heads = in.size(2), half = in.size(3) / 2;
  const ConstMatrix X = matrix(in), C = matrix(cosine), S = matrix(sine); // X has a row for each head
  const Matrix Y = mutable_matrix(out);
  in_parallel(in.size(0) * length, 1 + 16384 / (heads * 2 * half), [&](int64_t from, int64_t n) {
    for (int64_t i = from; i < from + n; i++)
      for (int64_t h = i * heads; h < (i + 1) * heads; h++)
        turn_head(X.row(h), C.row(i % length), S.row(i % length), sign, Y.row(h), half);
  });
  return out;
}

struct Rotary : torch::autograd::Function<Rotary> {
  struct Buffers {
    Tensor cosine, sine;
    std::array<Tensor *, 2> all() { return {&cosine, &sine}; }
  };

  static Variable forward(AutogradContext *ctx, const Variable &x, const Tensor &cosine, const Tensor &sine) {
    hold(ctx, Buffers{cosine, sine});
    return turn(x, cosine, sine, 1);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Buffers b = take<Buffers>(ctx, "rotary");
    return {turn(grads[0], b.cosine, b.sine, -1), Tensor(), Tensor()};
  }
};

} // namespace

} // namespace koala

using namespace koala;

KOALA_API int koala_rotary(koala_tensor x_, koala_tensor cosine_, koala_tensor sine_, koala_tensor *out) {
  return guard([&] {
    const at::Tensor x = ref(x_), cosine = ref(cosine_), sine = ref(sine_);
    TORCH_CHECK(x.dim() == 4 && x.size(3) % 2 == 0, "rotary: expected [batch, time, heads, even width], got ",
                x.sizes());
    TORCH_CHECK(cosine.sizes() == at::IntArrayRef({x.size(1), x.size(3) / 2}) && sine.sizes() == cosine.sizes(),
                "rotary: angles ", cosine.sizes(), " do not fit ", x.sizes());
    *out = handle(Rotary::apply(x, cosine.contiguous(), sine.contiguous()));
  });
}
