// Work on rows of activations, a chunk at a time, so that the numbers one pass writes are
// still in a cache when the next pass reads them.
#pragma once
#include <algorithm>
#include <vector>

#include "common.h"
#include "isa.h"
#include "parallel.h"

namespace koala {

// Chunks cuts n items, each one or more rows, into shares, one a thread, and each share
// into chunks.
struct Chunks {
  int64_t n, shares, per_share;

  int64_t height() const { return (n + shares * per_share - 1) / (shares * per_share); } // of the largest

  // each calls f(share, first item, items) for every chunk, a share's in order.
  template <typename F> void each(const F &f) const {
    in_shares(shares, [&](int64_t share) {
      for (int64_t i = 0; i < per_share; i++) {
        const int64_t chunk = share * per_share + i, all = shares * per_share;
        const int64_t from = n * chunk / all, to = n * (chunk + 1) / all;
        if (from < to)
          f(share, from, to - from);
      }
    });
  }
};

// cached says whether weights of so many elements fit a core's second-level cache, beside
// a chunk and their gradient.
inline bool cached(int64_t weights) { return weights <= (1 << 20) / static_cast<int64_t>(sizeof(float)); }

// chunks_of n items of so many rows each, which are multiplied by weights of so many
// elements. Where the cache holds the weights, a thread takes its rows through them about
// 128 at a time: enough for a matrix product to run at full speed. Where it does not, one
// chunk holds all rows, and all threads work on one product.
inline Chunks chunks_of(int64_t n, int64_t rows, int64_t weights) {
  constexpr int64_t height = 128, least = 32;
  if (!cached(weights))
    return {n, 1, 1};
  const int64_t threads = at::get_num_threads();
  const int64_t shares = std::max<int64_t>(1, std::min({threads, n, n * rows / least}));
  const int64_t per_share = (n * rows + shares * height / 2) / (shares * height);
  return {n, shares, std::clamp<int64_t>(per_share, 1, (n + shares - 1) / shares)};
}

// sum += x
KOALA_KERNEL(void, add_to, const float *__restrict x, float *__restrict sum, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    sum[j] += x[j];
}

// sum += the rows of x.
inline void add_rows(const ConstMatrix &x, float *sum) {
  for (int64_t i = 0; i < x.rows; i++)
    add_to(x.row(i), sum, x.columns);
}

// sum = a + b
KOALA_KERNEL(void, add, const float *__restrict a, const float *__restrict b, float *__restrict sum, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    sum[j] = a[j] + b[j];
}

// A Linear is the weight [out, in] of a layer and its bias [out], which may be undefined.
struct Linear {
  at::Tensor weight, bias;

  Linear(at::Tensor weight, at::Tensor bias) : weight(std::move(weight)), bias(std::move(bias)) {}
  explicit Linear(const koala_linear &l) : weight(optional(l.weight)), bias(optional(l.bias)) {}

  bool defined() const { return weight.defined(); }

  // check throws where the bias does not have an element for each row of the weight.
  void check() const {
    TORCH_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0)), "a bias of ", bias.sizes(),
                " does not fit a weight of ", weight.sizes());
  }

  // y = x w^T + b
  void apply(const Matrix &y, const ConstMatrix &x) const {
    if (bias.defined())
      for (int64_t i = 0; i < y.rows; i++)
        std::copy_n(matrix(bias).p, y.columns, y.row(i));
    multiply(y, x, matrix(weight).t(), bias.defined());
  }

  // y = z + x w^T + b
  void apply_onto(const ConstMatrix &z, const Matrix &y, const ConstMatrix &x) const {
    for (int64_t i = 0; i < y.rows; i++)
      bias.defined() ? add(z.row(i), matrix(bias).p, y.row(i), y.columns)
                     : (void)std::copy_n(z.row(i), y.columns, y.row(i));
    multiply(y, x, matrix(weight).t(), true);
  }

  // The same by libtorch's operator.
  at::Tensor operator()(const at::Tensor &x) const { return at::linear(x, weight, bias); }
};

// A Gradient is that of a weight, bias, gain or shift, summed over chunks. Each share has
// a sum of its own, and the shares' sums are added up in order. The gradient of an
// undefined tensor is undefined.
class Gradient {
public:
  Gradient(const at::Tensor &of, int64_t shares) : transposed_(of.defined() && of.dim() == 2 && !of.is_contiguous()) {
    for (int64_t s = 0; of.defined() && s < shares; s++)
      sums_.push_back(of.dim() == 1 ? at::zeros_like(of) : at::empty_like(transposed_ ? of.t() : of));
    begun_.resize(sums_.size());
  }

  // Of a weight: adds dy^T x. The sum is laid out in memory as the weight is.
  void add(int64_t share, const ConstMatrix &dy, const ConstMatrix &x) {
    if (sums_.empty())
      return;
    const Matrix sum = mutable_matrix(sums_[share]);
    transposed_ ? multiply(sum, x.t(), dy, begun_[share]) : multiply(sum, dy.t(), x, begun_[share]);
    begun_[share] = true;
  }

  // Of a bias: adds the rows of dy.
  void add(int64_t share, const ConstMatrix &dy) {
    if (!sums_.empty())
      add_rows(dy, sum(share));
  }

  // The share's partial sum; nullptr if the parameter is absent.
  float *sum(int64_t share) const { return sums_.empty() ? nullptr : sums_[share].mutable_data_ptr<float>(); }

  at::Tensor total() const {
    if (sums_.empty())
      return at::Tensor();
    for (size_t s = 1; s < sums_.size(); s++)
      sums_[0].add_(sums_[s]);
    return transposed_ ? sums_[0].t() : sums_[0];
  }

private:
  bool transposed_;
  std::vector<at::Tensor> sums_;
  std::vector<char> begun_; // one byte each: threads write side by side
};

// LinearGradient is that of a Linear.
struct LinearGradient {
  Gradient weight, bias;

  LinearGradient(const Linear &of, int64_t shares) : weight(of.weight, shares), bias(of.bias, shares) {}

  // y = x w^T + b had the gradient dy.
  void add(int64_t share, const ConstMatrix &dy, const ConstMatrix &x) {
    weight.add(share, dy, x);
    bias.add(share, dy);
  }
};

} // namespace koala
