// Layer normalisation (Ba et al. 2016) and its RMS form (Zhang & Sennrich 2019)
// of rows:
//
//	layer: y = gain (x - mean) / sqrt(var + eps) + shift
//	RMS:   y = gain x / sqrt(mean(x^2) + eps)
//
// With u = dy gain and x^ the normalised row, the gradient of x is
// (u - mean(u) - x^ mean(u x^)) / deviation; RMS has no mean(u).
#pragma once
#include <cmath>

#include "blas.h"
#include "common.h"
#include "isa.h"

namespace koala {

// scaled_row writes the norm of a row from its centre and its inverse deviation.
KOALA_KERNEL(void, scaled_row, const float *__restrict x, const float *__restrict gain, const float *__restrict shift,
             float *__restrict y, int64_t n, float centre, float scale) {
  if (shift != nullptr) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      y[j] = (x[j] - centre) * scale * gain[j] + shift[j];
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      y[j] = x[j] * scale * gain[j];
  }
}

// measure_row finds a row's centre, 0 for RMS, and the inverse of its deviation.
KOALA_KERNEL(void, measure_row, const float *__restrict x, int64_t n, bool layer, float eps, float *centre, float *scale) {
  float mean = 0, squares = 0;
  if (layer) {
#pragma omp simd reduction(+ : mean)
    for (int64_t j = 0; j < n; j++)
      mean += x[j];
    mean /= static_cast<float>(n);
  }
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < n; j++)
    squares += (x[j] - mean) * (x[j] - mean);
  *centre = mean;
  *scale = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
}

// scaled_row_backward writes dx and adds to the gradients of gain and shift. along is the
// gradient of x from the residual stream, which passes the norm by.
KOALA_KERNEL(void, scaled_row_backward, const float *__restrict dy, const float *__restrict along,
             const float *__restrict x, const float *__restrict gain, float centre, float scale, float *__restrict dx,
             float *__restrict d_gain, float *__restrict d_shift, int64_t n) {
  float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
  for (int64_t j = 0; j < n; j++) {
    const float u = dy[j] * gain[j];
    sum += u;
    product += u * (x[j] - centre) * scale;
  }
  const float a = d_shift != nullptr ? sum / static_cast<float>(n) : 0.0f, b = product / static_cast<float>(n);
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    const float hat = (x[j] - centre) * scale;
    dx[j] = along[j] + (dy[j] * gain[j] - a - hat * b) * scale;
    d_gain[j] += dy[j] * hat;
  }
  if (d_shift != nullptr) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      d_shift[j] += dy[j];
  }
}

// A RowNorm is the norm of a matrix's rows, with the measures of each row that backward
// needs.
class RowNorm {
public:
  // Forward: measures the rows.
  RowNorm(const at::Tensor &gain, const at::Tensor &shift, double eps, int64_t rows)
      : RowNorm(gain, shift, at::empty({2, rows}, gain.options())) {
    eps_ = static_cast<float>(eps);
  }
  // Backward: with the measures from forward.
  RowNorm(const at::Tensor &gain, const at::Tensor &shift, const at::Tensor &measures)
      : gain(gain.contiguous()), shift(shift.defined() ? shift.contiguous() : shift), measures(measures) {}

  const at::Tensor gain, shift; // [D]; without a shift it is RMSNorm
  const at::Tensor measures;    // [2, rows]: centres and inverse deviations

  // apply measures the rows [first, first + x.rows) and writes the norm of x, which holds
  // them.
  void apply(int64_t first, const ConstMatrix &x, const Matrix &y) {
    const Matrix m = mutable_matrix(measures);
    for (int64_t i = 0; i < x.rows; i++) {
      measure_row(x.row(i), x.columns, shift.defined(), eps_, m.row(0) + first + i, m.row(1) + first + i);
      scale(first + i, x.row(i), y.row(i));
    }
  }

  // repeat writes the same norm again, from the measures.
  void repeat(int64_t first, const ConstMatrix &x, const Matrix &y) const {
    for (int64_t i = 0; i < x.rows; i++)
      scale(first + i, x.row(i), y.row(i));
  }

  // backward writes dx = along + the gradient through the norm, and adds to d_gain and
  // d_shift, which is null for RMSNorm.
  void backward(int64_t first, const ConstMatrix &dy, const ConstMatrix &along, const ConstMatrix &x, const Matrix &dx,
                float *d_gain, float *d_shift) const {
    const ConstMatrix m = matrix(measures);
    for (int64_t i = 0; i < x.rows; i++)
      scaled_row_backward(dy.row(i), along.row(i), x.row(i), matrix(gain).p, m.row(0)[first + i], m.row(1)[first + i],
                          dx.row(i), d_gain, d_shift, x.columns);
  }

private:
  void scale(int64_t row, const float *x, float *y) const {
    const ConstMatrix m = matrix(measures);
    scaled_row(x, matrix(gain).p, shift.defined() ? matrix(shift).p : nullptr, y, gain.size(0), m.row(0)[row],
               m.row(1)[row]);
  }

  float eps_ = 0;
};

// norm normalises any tensor over its last dimension.
at::Tensor norm(const at::Tensor &x, const at::Tensor &gain, const at::Tensor &shift, double eps);

} // namespace koala
