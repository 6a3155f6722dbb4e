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

namespace koala {

// scaled_row is a row about its centre, over its deviation, with gain and shift.
KOALA_SIMD static void scaled_row(const float *__restrict x, const float *__restrict gain, const float *__restrict shift,
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
KOALA_SIMD static void measure_row(const float *__restrict x, int64_t n, bool layer, float eps, float *centre, float *scale) {
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

// scaled_row_backward writes dx and adds to the gradients of gain and shift. The row
// may go on beside its norm: along is the gradient that comes back that way.
KOALA_SIMD static void scaled_row_backward(const float *__restrict dy, const float *__restrict along, const float *__restrict x,
                                           const float *__restrict gain, float centre, float scale, float *__restrict dx,
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

// A RowNorm is the norm of a matrix's rows, of which it knows what backward needs.
struct RowNorm {
  at::Tensor gain, shift; // [D]; without a shift it is RMSNorm
  at::Tensor measures;    // [2, rows]: centres and inverse deviations

  RowNorm(const at::Tensor &gain, const at::Tensor &shift, int64_t rows)
      : RowNorm(gain, shift, at::empty({2, rows}, gain.options())) {}
  RowNorm(const at::Tensor &gain, const at::Tensor &shift, const at::Tensor &measures)
      : gain(gain.contiguous()), shift(shift.defined() ? shift.contiguous() : shift), measures(measures) {}

  // apply writes the norm of x, the rows from first on.
  void apply(int64_t first, const Matrix &x, const Matrix &y, float eps) const {
    for (int64_t i = 0; i < x.rows; i++) {
      measure_row(x.row(i), x.columns, shift.defined(), eps, centre(first + i), scale(first + i));
      scaled_row(x.row(i), numbers(gain), numbers(shift), y.row(i), x.columns, *centre(first + i), *scale(first + i));
    }
  }

  // again writes what apply did.
  void again(int64_t first, const Matrix &x, const Matrix &y) const {
    for (int64_t i = 0; i < x.rows; i++)
      scaled_row(x.row(i), numbers(gain), numbers(shift), y.row(i), x.columns, *centre(first + i), *scale(first + i));
  }

  // backward writes the gradient of x: along and what comes through the norm.
  void backward(int64_t first, const Matrix &dy, const Matrix &along, const Matrix &x, const Matrix &dx, float *d_gain, float *d_shift) const {
    for (int64_t i = 0; i < x.rows; i++)
      scaled_row_backward(dy.row(i), along.row(i), x.row(i), numbers(gain), *centre(first + i), *scale(first + i), dx.row(i), d_gain, d_shift, x.columns);
  }

private:
  static float *numbers(const at::Tensor &t) { return t.defined() ? static_cast<float *>(t.data_ptr()) : nullptr; }
  float *centre(int64_t i) const { return numbers(measures) + i; }
  float *scale(int64_t i) const { return numbers(measures) + measures.size(1) + i; }
};

// norm is that of any tensor, over its last dimension.
at::Tensor norm(const at::Tensor &x, const at::Tensor &gain, const at::Tensor &shift, double eps);

} // namespace koala
