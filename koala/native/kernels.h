// The interface between the optimizers' kernels and the table in which they are found by
// name (optim.cpp).
#pragma once
#include <cstdint>
#include <vector>

namespace koala {

// FIELDS is a struct of float64 numbers that knows their names.
#define FIELDS(type, ...)                                                                                              \
  struct type {                                                                                                        \
    double __VA_ARGS__;                                                                                                \
    static constexpr const char *names = #__VA_ARGS__;                                                                 \
  }

struct None {
  static constexpr const char *names = "";
};

FIELDS(Squares, gg);

// One parameter with its gradient and up to two state tensors. All have its layout.
template <typename T> struct Operands {
  T *p = nullptr;
  const T *g = nullptr;
  T *first = nullptr, *second = nullptr;
  int64_t size = 0;                                // elements
  int64_t rows = 0, columns = 0;                   // of a matrix, 0 for other shapes
  int64_t row_stride = 0, column_stride = 0;       // elements from one to the next
};

// A pass over parameters: for each its operands, its arguments and its sums.
template <typename T> struct Pass {
  std::vector<Operands<T>> params;
  const double *args;
  double *sums;

  int64_t count() const { return static_cast<int64_t>(params.size()); }
  template <typename Args> const Args &args_of(int64_t i) const { return reinterpret_cast<const Args *>(args)[i]; }
  template <typename Sums> Sums &sums_of(int64_t i) const { return reinterpret_cast<Sums *>(sums)[i]; }
};

// A block is a matrix in a parameter: from and length along dim (koala/spec/orthogonal.go).
FIELDS(BlockArgs, dim, from, length);

// |g|^2 of a block
template <typename T> void block_squares(const Pass<T> &pass);

FIELDS(OrthogonalArgs, dim, from, length, momentum, gradient, of_momentum, of_gradient, keep, rate, a, b, c, steps,
       least_norm, bfloat16);

// For a block: m = momentum m + gradient g, M = of_momentum m + of_gradient g, and
// p = keep p - rate U V^T, the orthogonal factor of M by Newton-Schulz iterations with the
// coefficients a, b and c from M/|M|, in bfloat16 if the processor is faster with it and the
// argument is not 0. m is the first state tensor.
template <typename T> void orthogonal_step(const Pass<T> &pass);

} // namespace koala
