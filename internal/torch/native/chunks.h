// Work on rows of activations, a chunk at a time, so that what one pass writes is
// still near when the next reads it.
#pragma once
#include <algorithm>
#include <vector>

#include "blas.h"
#include "common.h"

namespace koala {

// Chunks cuts n items, each one or more rows, into shares, one a thread, and each
// share into chunks.
struct Chunks {
  int64_t n, shares, per_share;

  int64_t height() const { return (n + shares * per_share - 1) / (shares * per_share); } // of the largest

  // each calls f(share, first item, items) for every chunk, a share's in order.
  template <typename F> void each(const F &f) const {
    if (shares == 1) { // whose products may have all threads
      each_of(0, f);
      return;
    }
    at::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
      const OneThread alone;
      for (int64_t s = first; s < last; s++)
        each_of(s, f);
    });
  }

private:
  template <typename F> void each_of(int64_t share, const F &f) const {
    for (int64_t i = 0; i < per_share; i++) {
      const int64_t chunk = share * per_share + i, all = shares * per_share;
      const int64_t from = n * chunk / all, to = n * (chunk + 1) / all;
      if (from < to)
        f(share, from, to - from);
    }
  }
};

// stay_near says whether weights of so many elements fit a core's second-level
// cache (2 MiB today) beside a chunk and their gradient.
inline bool stay_near(int64_t weights) { return weights <= (1 << 20) / static_cast<int64_t>(sizeof(float)); }

// chunks_of n items of so many rows each, which go through weights of so many
// elements. Where the weights stay near, a thread takes its rows through them some
// 128 at a time: enough for a matrix product to run at full speed. Where they do
// not, it is all rows at once, and all threads work on one product.
inline Chunks chunks_of(int64_t n, int64_t rows, int64_t weights) {
  constexpr int64_t height = 128, least = 32;
  if (!stay_near(weights))
    return {n, 1, 1};
  const int64_t shares = std::max<int64_t>(1, std::min({static_cast<int64_t>(at::get_num_threads()), n, n * rows / least}));
  return {n, shares, std::clamp<int64_t>((n * rows + shares * height / 2) / (shares * height), 1, (n + shares - 1) / shares)};
}

// sum += the rows of x.
KOALA_SIMD static void add_rows(const Matrix &x, float *__restrict sum) {
  for (int64_t i = 0; i < x.rows; i++) {
    const float *__restrict row = x.row(i);
#pragma omp simd
    for (int64_t j = 0; j < x.columns; j++)
      sum[j] += row[j];
  }
}

// check_bias throws where b, if there is one, is none of w's rows.
inline void check_bias(const at::Tensor &b, const at::Tensor &w) {
  TORCH_CHECK(!b.defined() || (b.dim() == 1 && b.size(0) == w.size(0)), "a bias of ", b.sizes(), " does not fit a weight of ", w.sizes());
}

// affine is y = x w^T + b, without b where that is undefined.
inline void affine(const Matrix &y, const Matrix &x, const Matrix &w, const at::Tensor &b) {
  if (b.defined())
    for (int64_t i = 0; i < y.rows; i++)
      std::copy_n(matrix(b).p, y.columns, y.row(i));
  multiply(y, x, w.t(), b.defined());
}

// sum = a + b
KOALA_SIMD static void add(const float *__restrict a, const float *__restrict b, float *__restrict sum, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    sum[j] = a[j] + b[j];
}

// affine_onto is y = z + x w^T + b.
inline void affine_onto(const Matrix &z, const Matrix &y, const Matrix &x, const Matrix &w, const at::Tensor &b) {
  for (int64_t i = 0; i < y.rows; i++)
    b.defined() ? add(z.row(i), matrix(b).p, y.row(i), y.columns) : (void)std::copy_n(z.row(i), y.columns, y.row(i));
  multiply(y, x, w.t(), true);
}

// A Gradient is a weight's or a bias's, summed over chunks: each share has a sum
// of its own, and the order of the sums is that of the shares. Of what is
// undefined it is undefined too.
class Gradient {
public:
  Gradient(const at::Tensor &of, int64_t shares) : turned_(of.defined() && of.dim() == 2 && !of.is_contiguous()) {
    for (int64_t s = 0; of.defined() && s < shares; s++)
      sums_.push_back(of.dim() == 1 ? at::zeros_like(of) : at::empty_like(turned_ ? of.t() : of));
    begun_.resize(sums_.size());
  }

  // For a weight: adds dy^T x, laid out as the weight is, which may be the
  // transpose of what is stored.
  void add(int64_t share, const Matrix &dy, const Matrix &x) {
    if (sums_.empty())
      return;
    const Matrix sum = matrix(sums_[share]);
    turned_ ? multiply(sum, x.t(), dy, begun_[share]) : multiply(sum, dy.t(), x, begun_[share]);
    begun_[share] = true;
  }

  // A share's sum of a bias or a gain; null of what is undefined.
  float *sum(int64_t share) const { return sums_.empty() ? nullptr : sums_[share].mutable_data_ptr<float>(); }

  // For a bias.
  void add(int64_t share, const Matrix &dy) {
    if (!sums_.empty())
      add_rows(dy, sum(share));
  }

  at::Tensor total() const {
    if (sums_.empty())
      return at::Tensor();
    for (size_t s = 1; s < sums_.size(); s++)
      sums_[0].add_(sums_[s]);
    return turned_ ? sums_[0].t() : sums_[0];
  }

private:
  bool turned_;
  std::vector<at::Tensor> sums_;
  std::vector<char> begun_; // one byte each: threads write side by side
};

} // namespace koala
