// One GRU layer over a whole sequence (Cho et al. 2014, in PyTorch's form, which resets
// after the product with the state):
//
//	r = s(Wr x + Ur h)  z = s(Wz x + Uz h)  n = tanh(Wn x + bn + r (Un h + cn))
//	h' = (1 - z) n + z h
#include "recurrent.h"

namespace koala {

namespace {

// gru_forward turns the input's products x [3H] into gates r, z, n, in place; u [3H] are
// the state's products, whose last part backward needs.
KOALA_KERNEL(void, gru_forward, float *__restrict x, const float *__restrict u, const float *__restrict before,
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

// gru_backward turns gates into gradients of the input's products and u into gradients of
// the state's, in place. dh holds dL/dh' on entry; on return, the part of dL/dh that
// bypasses the matrix products.
KOALA_KERNEL(void, gru_backward, float *__restrict gates, float *__restrict u, const float *__restrict before,
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

struct GruCell {
  static constexpr const char *name = "gru_layer";
  static constexpr int64_t gates = 3;
  static constexpr bool carries = false, separate = true;

  static void forward(const Step &s, int64_t n) { gru_forward(s.gates, s.products, s.h_before, s.h, n); }
  static void backward(const Step &s, int64_t n) { gru_backward(s.gates, s.products, s.h_before, s.dh, n); }
};

} // namespace

} // namespace koala

using namespace koala;

KOALA_API int koala_gru(const koala_recurrent_inputs *in, koala_recurrent_outputs *out) {
  return recurrent_layer<GruCell>(
      in, out, [](const Tensor &x, const Tensor &h, const Tensor &, const std::vector<Tensor> &weights) {
        return variable_list{std::get<0>(at::gru(x, h.unsqueeze(0), weights, true, 1, 0.0, false, false, false))};
      });
}
