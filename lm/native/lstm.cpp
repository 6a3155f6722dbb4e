// One LSTM layer over a whole sequence (Hochreiter & Schmidhuber 1997, with PyTorch's gate
// order i, f, g, o and its two biases):
//
//	i = s(Wi x + Ui h)  f = s(Wf x + Uf h)  g = tanh(Wg x + Ug h)  o = s(Wo x + Uo h)
//	c' = f c + i g      h' = o tanh(c')
#include "recurrent.h"

namespace koala {

namespace {

// lstm_forward turns a row of products [4H] into gates, in place.
KOALA_KERNEL(void, lstm_forward, float *__restrict gates, const float *__restrict c_before, float *__restrict c,
             float *__restrict h, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float i = sigmoid(gates[j]), f = sigmoid(gates[n + j]);
    const float g = tanh_fast(gates[2 * n + j]), o = sigmoid(gates[3 * n + j]);
    gates[j] = i;
    gates[n + j] = f;
    gates[2 * n + j] = g;
    gates[3 * n + j] = o;
    c[j] = f * c_before[j] + i * g;
    h[j] = o * tanh_fast(c[j]);
  }
}

// lstm_backward turns gates into gradients of the products, in place. dc holds dL/dc' on
// entry and dL/dc on return.
KOALA_KERNEL(void, lstm_backward, float *__restrict gates, const float *__restrict c_before,
             const float *__restrict c, const float *__restrict dh, float *__restrict dc, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float i = gates[j], f = gates[n + j], g = gates[2 * n + j], o = gates[3 * n + j];
    const float t = tanh_fast(c[j]);
    const float d = dc[j] + dh[j] * o * (1.0f - t * t);
    gates[j] = d * g * i * (1.0f - i);
    gates[n + j] = d * c_before[j] * f * (1.0f - f);
    gates[2 * n + j] = d * i * (1.0f - g * g);
    gates[3 * n + j] = dh[j] * t * o * (1.0f - o);
    dc[j] = d * f;
  }
}

struct LstmCell {
  static constexpr const char *name = "lstm_layer";
  static constexpr int64_t gates = 4;
  static constexpr bool carries = true, separate = false;

  static void forward(const Step &s, int64_t n) { lstm_forward(s.gates, s.c_before, s.c_out, s.h, n); }
  static void backward(const Step &s, int64_t n) { lstm_backward(s.gates, s.c_before, s.c, s.dh, s.dc, n); }
};

} // namespace

} // namespace koala

using namespace koala;

KOALA_API int koala_lstm(const koala_recurrent_inputs *in, koala_recurrent_outputs *out) {
  return recurrent_layer<LstmCell>(
      in, out, [](const Tensor &x, const Tensor &h, const Tensor &c, const std::vector<Tensor> &weights) {
        const Tensor first_h = h.unsqueeze(0), first_c = c.unsqueeze(0);
        const auto r = at::lstm(x, {first_h, first_c}, weights, true, 1, 0.0, false, false, false);
        return variable_list{std::get<0>(r), std::get<2>(r).squeeze(0)};
      });
}
