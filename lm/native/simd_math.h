// exp and tanh in float32 as plain arithmetic, so that loops that call them
// vectorise. internal/torch's tests measure their errors: at most 3 units in
// the last place of exp, 4 of tanh and the logistic function.
#pragma once
#include <cstdint>
#include <cstring>

namespace koala {

// 2^n for n in [-126, 127], built from the exponent's bits.
__attribute__((always_inline)) inline float exp2_int(float n) {
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

// Range reduction x = n ln2 + r, |r| <= ln2/2, and a polynomial of degree 6 for
// e^r (its coefficients are those of the minimax polynomial in Cephes' expf,
// S. Moshier, Methods and Programs for Mathematical Functions, 1989).
__attribute__((always_inline)) inline float exp_clamped(float x) {
  const float shift = 12582912.0f; // 1.5 * 2^23: adding and subtracting it rounds to an integer
  const float n = (x * 1.44269504088896341f + shift) - shift;
  float r = x - n * 0.693359375f;
  r -= n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * exp2_int(n);
}

// exp for x <= 0; below -87 (exp(x) < 1.7e-38) it returns 0, NaN stays NaN.
__attribute__((always_inline)) inline float exp_nonpositive(float x) {
  const float e = exp_clamped(x < -87.0f ? -87.0f : x);
  return x < -87.0f ? 0.0f : (x == x ? e : x);
}

// exp for any x, held within [-87, 88]; NaN stays NaN.
__attribute__((always_inline)) inline float exp_bounded(float x) {
  float c = x < -87.0f ? -87.0f : x;
  c = c > 88.0f ? 88.0f : c;
  const float e = exp_clamped(c);
  return x == x ? e : x;
}

__attribute__((always_inline)) inline float sigmoid(float x) { return 1.0f / (1.0f + exp_bounded(-x)); }

// tanh: an odd polynomial near zero, where 1 - 2/(e^2x + 1) would cancel.
__attribute__((always_inline)) inline float tanh_fast(float x) {
  const float a = x < 0 ? -x : x;
  const float e = exp_bounded(2.0f * a);
  const float far = 1.0f - 2.0f / (e + 1.0f);
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = p * z * x + x;
  return a < 0.625f ? near : (x < 0 ? -far : far);
}

} // namespace koala
