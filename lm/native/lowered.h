// Operators whose products are of bfloat16 numbers (under autocast), with the passes
// between them in float32 registers: a pass reads and writes bfloat16, two bytes a number,
// and rounds once. Weights are converted once a step; their gradients, the residual stream
// and everything that is kept stay float32. libtorch makes the products of blocks, by
// oneDNN, with all threads on each.
#pragma once
#include "branch.h"

namespace koala {

__attribute__((always_inline)) inline float widen(uint16_t b) {
  const uint32_t bits = static_cast<uint32_t>(b) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

// narrow rounds to the nearest, ties to even. NaN stays NaN.
__attribute__((always_inline)) inline uint16_t narrow(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return static_cast<uint16_t>(x == x ? rounded : 0x7fc0u);
}

// low_matrix is a matrix on the memory of t, of bfloat16.
inline LowMatrix low_matrix(const Tensor &t) {
  return view_of(reinterpret_cast<uint16_t *>(t.mutable_data_ptr<at::BFloat16>()), t);
}

inline Tensor low(const Tensor &t) { return t.defined() ? t.to(at::kBFloat16) : t; }

// rows_in_parallel calls f(from, count) for parts of rows of n numbers each.
template <typename F> void rows_in_parallel(int64_t rows, int64_t n, const F &f) {
  in_parallel(rows, 1 + 16384 / n, f);
}

// y = x + o + bias
KOALA_KERNEL(void, residual_row, const float *__restrict x, const uint16_t *__restrict o, const float *__restrict bias,
             float *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    y[j] = x[j] + (widen(o[j]) + bias[j]);
}

// The norm of a row, in bfloat16.
KOALA_KERNEL(void, low_scaled_row, const float *__restrict x, const float *__restrict gain,
             const float *__restrict shift, uint16_t *__restrict y, int64_t n, float centre, float scale) {
  if (shift != nullptr) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      y[j] = narrow((x[j] - centre) * scale * gain[j] + shift[j]);
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      y[j] = narrow(x[j] * scale * gain[j]);
  }
}

KOALA_KERNEL(void, narrow_row, const float *__restrict x, uint16_t *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    y[j] = narrow(x[j]);
}

KOALA_KERNEL(void, widen_row, const uint16_t *__restrict x, float *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    y[j] = widen(x[j]);
}

// A LowBranch is a branch of the residual stream around an operator f on bfloat16.
struct LowBranch {
  Tensor x; // [..., D] float32
  Stream stream;
  Tensor measures; // of the norm: [2, rows]

  int64_t width() const { return x.size(-1); }
  int64_t rows() const { return x.numel() / width(); }

  // in measures the rows of x and returns f's input [rows, D].
  Tensor in() {
    if (!stream.defined())
      return low(x).view({rows(), width()});
    const Tensor out = at::empty({rows(), width()}, x.options().dtype(at::kBFloat16));
    measures = at::empty({2, rows()}, x.options());
    const ConstMatrix X = matrix(x), Gain = matrix(stream.gain);
    const float *shift = stream.shift.defined() ? matrix(stream.shift).p : nullptr;
    const Matrix M = mutable_matrix(measures);
    const LowMatrix Y = low_matrix(out);
    const float eps = static_cast<float>(stream.eps);
    rows_in_parallel(rows(), width(), [&](int64_t from, int64_t n) {
      for (int64_t i = from; i < from + n; i++) {
        measure_row(X.row(i), X.columns, shift != nullptr, eps, M.row(0) + i, M.row(1) + i);
        low_scaled_row(X.row(i), Gain.p, shift, Y.row(i), X.columns, M.row(0)[i], M.row(1)[i]);
      }
    });
    return out;
  }

  // out returns y = x + o + bias, without x where there is no stream; o [rows, D] is the
  // product of f's last layer.
  Tensor out(const Tensor &o, const Tensor &bias) const {
    const Tensor y = at::empty_like(x), zeros = at::zeros({width()}, x.options());
    ConstMatrix X = matrix(stream.defined() ? x : zeros);
    if (!stream.defined())
      X.step = 0; // the same zeros for all rows
    const float *b = matrix(bias.defined() ? bias : zeros).p;
    const LowMatrix O = low_matrix(o);
    const Matrix Y = mutable_matrix(y);
    rows_in_parallel(rows(), width(), [&](int64_t from, int64_t n) {
      for (int64_t i = from; i < from + n; i++)
        residual_row(X.row(i), O.row(i), b, Y.row(i), Y.columns);
    });
    return y;
  }

  struct Gradients {
    Tensor x, gain, shift;
  };

  // back returns the gradients from d_in [rows, D], that of f's input, and dy.
  Gradients back(const Tensor &d_in, const Tensor &dy) const {
    if (!stream.defined())
      return {d_in.to(at::kFloat).view(x.sizes()), {}, {}};
    const int64_t shares = at::get_num_threads();
    const Tensor dx = at::empty_like(x), sums = at::zeros({2, shares, width()}, x.options());
    const Tensor rows_of_shares = at::empty({shares, width()}, x.options());
    const RowNorm norm(stream.gain, stream.shift, measures);
    const LowMatrix D = low_matrix(d_in);
    const ConstMatrix X = matrix(x), DY = matrix(dy);
    const Matrix DX = mutable_matrix(dx), Row = mutable_matrix(rows_of_shares);
    in_shares(shares, [&](int64_t share) {
      const int64_t from = X.rows * share / shares, to = X.rows * (share + 1) / shares;
      float *d_gain = mutable_matrix(sums.select(0, 0)).row(share);
      float *d_shift = stream.shift.defined() ? mutable_matrix(sums.select(0, 1)).row(share) : nullptr;
      for (int64_t i = from; i < to; i++) {
        widen_row(D.row(i), Row.row(share), X.columns);
        norm.backward(i, Row.part(share, 1), DY.part(i, 1), X.part(i, 1), DX.part(i, 1), d_gain, d_shift);
      }
    });
    const Tensor total = sums.sum(1);
    return {dx, total.select(0, 0), stream.shift.defined() ? total.select(0, 1) : Tensor()};
  }
};

// low_gradient is that of a weight of y = x w^T, in float32: dy^T x.
Tensor low_gradient(const Tensor &dy, const Tensor &x);

// bias_gradient is the sum of the rows of dy, where there is a bias.
inline Tensor bias_gradient(const Tensor &dy, const Tensor &bias) {
  return bias.defined() ? dy.reshape({-1, dy.size(-1)}).sum(0) : Tensor();
}

} // namespace koala
