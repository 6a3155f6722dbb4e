// Steps along the orthogonal factor of a matrix's momentum, by Newton-Schulz iterations
// (koala/spec/orthogonal.go has the operator form):
//
//   X <- a X + (b X X^T + c (X X^T)^2) X,  X from M/|M|
//
// X has no more rows than columns. All of its iterates are products P_k ... P_1 X of the first
// one with polynomials of G = X X^T, which are symmetric and commute. The iterations run on
// them alone, and reach X once:
//
//   P = a I + b G + c G G,  Q <- Q P,  G <- P G P;  at last U V^T = Q X
//
// A product of symmetric matrices that commute is symmetric: half of it is computed. For
// a square X this costs as much as the iterations on half of X X^T, and less for any other.
// Rounding errors of G grow by a^2 an iteration; koala/spec bounds the number.
//
// Each matrix is one thread's, or if there are fewer matrices than threads all threads share
// each one. The order of all sums is fixed: results do not depend on the number of threads.
//
// Matrices lie in panels: panel j holds the columns [W j, W j + W), row after row, so that
// products read memory in order. Rows and columns are padded to multiples of W with zeros,
// which are stored and not computed.
// In a symmetric matrix a panel's rows are also columns; a product of two such matrices reads
// both alike, C[i][j] = sum over k of A[k][i] B[k][j].
#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <type_traits>

#include "common.h"
#include "isa.h"
#include "kernels.h"
#include "parallel.h"

namespace koala {

namespace {

// A weight's block with its gradient and momentum, as rows of neighbouring elements.
template <typename T> struct Rows {
  T *p, *m;
  const T *g;
  int64_t rows, columns, stride;

  Rows(const Operands<T> &x, const BlockArgs &b) : p(x.p), m(x.first), g(x.g), rows(x.rows), columns(x.columns) {
    const int64_t from = static_cast<int64_t>(b.from), length = static_cast<int64_t>(b.length);
    (b.dim == 0 ? rows : columns) = length;
    const int64_t offset = from * (b.dim == 0 ? x.row_stride : x.column_stride);
    p += offset, g += offset;
    if (m != nullptr)
      m += offset;
    stride = x.row_stride;
    if (x.column_stride != 1) { // the transpose's orthogonal factor is the factor's transpose
      TORCH_CHECK(x.row_stride == 1, "optimizer: a matrix of strides ", x.row_stride, ", ", x.column_stride);
      std::swap(rows, columns);
      stride = x.column_stride;
    }
  }
};

// C = of_product A^T B + of_other O + diagonal I, symmetric. O may be null.
template <typename T> struct Product {
  T *c;
  const T *a, *b;
  int64_t size, depth;    // rows of C; of A and B
  int64_t panel, c_panel; // elements of a panel of A and B, and of C and O
  T of_product = 1;
  const T *other = nullptr;
  T of_other = 0, diagonal = 0;
};

// M = of_momentum m + of_gradient g into panels, after m = momentum m + gradient g.
template <typename T> struct Momentum {
  Rows<T> x;
  T *panels;
  int64_t panel;
  T momentum, gradient, of_momentum, of_gradient;
};

// Panels of a matrix and of its transpose.
template <typename T> struct Flip {
  T *panels, *flipped;
  int64_t panel, flipped_panel;
  T scale;
};

// p = keep p - rate Q^T X
template <typename T> struct Addition {
  const T *q, *x;
  int64_t depth, q_panel, x_panel;
  Rows<T> to;
  bool flip; // p is as X's transpose
  T keep, rate;
};

// The inner loops for vectors of so many bytes, each over a square of W rows and columns.
template <typename T, int bytes, int tile_rows> struct Loops {
  static constexpr int L = bytes / sizeof(T), W = 2 * L, R = tile_rows;
  typedef T V __attribute__((vector_size(bytes), aligned(sizeof(T)), may_alias));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index __attribute__((vector_size(bytes)));

#define INLINE static __attribute__((always_inline)) inline

  INLINE const V &load(const T *p) { return *reinterpret_cast<const V *>(p); }
  INLINE void store(T *p, const V &v) { *reinterpret_cast<V *>(p) = v; }

  // square is the square of W rows from row on in a panel of a matrix.
  template <typename P> INLINE P square(P matrix, int64_t panel, int64_t index, int64_t row) {
    return matrix + index * panel + row * W * W;
  }

  // transpose writes the transpose of a square.
  INLINE void transpose(const T *from, T *to) {
    Index low{}, high{};
    for (int i = 0; i < L; i++) {
      low[i] = i / 2 + i % 2 * L;
      high[i] = low[i] + L / 2;
    }
    for (int i = 0; i < W; i += L)
      for (int j = 0; j < W; j += L) {
        V rows[L], mixed[L];
        for (int r = 0; r < L; r++)
          rows[r] = load(from + (i + r) * W + j);
        for (int half = 1; half < L; half *= 2) { // a perfect shuffle of all elements
          for (int r = 0; r < L / 2; r++) {
            mixed[2 * r] = __builtin_shuffle(rows[r], rows[r + L / 2], low);
            mixed[2 * r + 1] = __builtin_shuffle(rows[r], rows[r + L / 2], high);
          }
          for (int r = 0; r < L; r++)
            rows[r] = mixed[r];
        }
        for (int r = 0; r < L; r++)
          store(to + (j + r) * W + i, rows[r]);
      }
  }

  // multiply returns R rows of a square of A^T B: the first columns of each, and zeros.
  INLINE void multiply(const T *a, const T *b, int64_t depth, int64_t columns, V (&sum)[R][2]) {
    for (int r = 0; r < R; r++)
      sum[r][0] = sum[r][1] = V{};
    if (columns <= L) {
      for (int64_t k = 0; k < depth; k++) {
        const V b0 = load(b + k * W);
        for (int r = 0; r < R; r++)
          sum[r][0] += a[k * W + r] * b0;
      }
      return;
    }
    for (int64_t k = 0; k < depth; k++) {
      const V b0 = load(b + k * W), b1 = load(b + k * W + L);
      for (int r = 0; r < R; r++) {
        sum[r][0] += a[k * W + r] * b0;
        sum[r][1] += a[k * W + r] * b1;
      }
    }
  }

  // product computes the square (i, j) of C, i >= j, and its mirror image.
  INLINE void product(const Product<T> &x, int64_t i, int64_t j) {
    T *c = square(x.c, x.c_panel, j, i);
    const T *a = x.a + i * x.panel, *b = x.b + j * x.panel;
    const T *other = x.other != nullptr ? square(x.other, x.c_panel, j, i) : nullptr;
    const int64_t rows = x.size - i * W;
    for (int r0 = 0; r0 < W; r0 += R) {
      V sum[R][2];
      multiply(a + r0, b, r0 < rows ? x.depth : 0, i != j ? W : r0 + R, sum);
      for (int r = 0; r < R; r++)
        for (int h = 0; h < 2; h++) {
          const int at = (r0 + r) * W + h * L;
          store(c + at, other == nullptr ? sum[r][h] : x.of_product * sum[r][h] + x.of_other * load(other + at));
        }
    }
    if (i != j)
      return transpose(c, square(x.c, x.c_panel, i, j));
    for (int r = 0; r < W; r++) {
      c[r * W + r] += x.diagonal;
      for (int k = 0; k < r; k++)
        c[k * W + r] = c[r * W + k];
    }
  }

  // momentum makes W rows of M and returns their sum of squares.
  INLINE double momentum(const Momentum<T> &x, int64_t row) {
    const T keep = x.momentum, gradient = x.gradient, of_momentum = x.of_momentum, of_gradient = x.of_gradient;
    const int64_t rows = std::min<int64_t>(W, x.x.rows - row * W);
    double squares = 0;
    for (int64_t j = 0; j * W < x.x.columns; j++) {
      T *to = square(x.panels, x.panel, j, row);
      const int64_t columns = std::min<int64_t>(W, x.x.columns - j * W);
      for (int64_t i = 0; i < W; i++, to += W) {
        const int64_t at = (row * W + i) * x.x.stride + j * W, n = i < rows ? columns : 0;
        T *__restrict m = x.x.m + at;
        const T *__restrict g = x.x.g + at;
#pragma omp simd reduction(+ : squares)
        for (int64_t k = 0; k < n; k++) {
          m[k] = keep * m[k] + gradient * g[k];
          const T d = of_momentum * m[k] + of_gradient * g[k];
          to[k] = d;
          squares += static_cast<double>(d) * d;
        }
        for (int64_t k = n; k < W; k++)
          to[k] = 0;
      }
    }
    return squares;
  }

  // flip scales a square and transposes it.
  INLINE void flip(const Flip<T> &x, int64_t i, int64_t j) {
    T *from = square(x.panels, x.panel, j, i);
    for (int k = 0; k < W * W; k += L)
      store(from + k, x.scale * load(from + k));
    transpose(from, square(x.flipped, x.flipped_panel, i, j));
  }

  // add adds the square (i, j) of the product to the weights.
  INLINE void add(const Addition<T> &x, int64_t i, int64_t j) {
    T product[W * W], flipped[W * W];
    const int64_t larger = std::max(x.to.rows, x.to.columns);
    for (int r0 = 0; r0 < std::min<int64_t>(W, x.depth - i * W); r0 += R) {
      V sum[R][2];
      multiply(x.q + i * x.q_panel + r0, x.x + j * x.x_panel, x.depth, larger - j * W, sum);
      for (int r = 0; r < R; r++)
        for (int h = 0; h < 2; h++)
          store(product + (r0 + r) * W + h * L, sum[r][h]);
    }
    const T *from = product;
    if (x.flip) {
      transpose(product, flipped);
      from = flipped;
      std::swap(i, j);
    }
    const T keep = x.keep, rate = x.rate;
    const int64_t rows = std::min<int64_t>(W, x.to.rows - i * W), columns = std::min<int64_t>(W, x.to.columns - j * W);
    for (int64_t r = 0; r < rows; r++) {
      T *__restrict p = x.to.p + (i * W + r) * x.to.stride + j * W;
      for (int64_t k = 0; k < columns; k++)
        p[k] = keep * p[k] - rate * from[r * W + k];
    }
  }

  // row_squares is the sum of squares of n neighbours.
  INLINE double row_squares(const T *x, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++)
      sum += static_cast<double>(x[k]) * x[k];
    return sum;
  }
#undef INLINE
};

// The loops for the processor, with the W that they have.
template <typename T> struct Kernels {
  int64_t W;
  void (*product)(const Product<T> &, int64_t, int64_t);
  double (*momentum)(const Momentum<T> &, int64_t);
  void (*flip)(const Flip<T> &, int64_t, int64_t);
  void (*add)(const Addition<T> &, int64_t, int64_t);
  double (*row_squares)(const T *, int64_t);
};

#define LOOPS(bytes, rows, level)                                                                                      \
  {                                                                                                                    \
    Loops<T, bytes, rows>::W, Clones<Loops<T, bytes, rows>::product>::level,                                           \
        Clones<Loops<T, bytes, rows>::momentum>::level, Clones<Loops<T, bytes, rows>::flip>::level,                    \
        Clones<Loops<T, bytes, rows>::add>::level, Clones<Loops<T, bytes, rows>::row_squares>::level                   \
  }

template <typename T> const Kernels<T> &kernels() {
  static const Kernels<T> found = []() -> Kernels<T> {
    switch (isa()) {
    case Isa::V4: return LOOPS(64, 8, v4);
    case Isa::V3: return LOOPS(32, 4, v3);
    default: return LOOPS(16, 4, base);
    }
  }();
  return found;
}

int64_t padded(int64_t n, int64_t W) { return (n + W - 1) / W * W; }

// An Orthogonal is the step of one matrix.
template <typename T> struct Orthogonal {
  Rows<T> x;
  OrthogonalArgs a;

  int64_t W() const { return kernels<T>().W; }
  int64_t smaller() const { return std::min(x.rows, x.columns); }
  int64_t larger() const { return std::max(x.rows, x.columns); }
  double work() const { return static_cast<double>(smaller()) * smaller() * (smaller() * 6.0 + larger()); }

  // scratch is the number of elements that run writes to.
  int64_t scratch() const {
    const int64_t m = padded(smaller(), W()), n = padded(larger(), W());
    return 2 * m * n + 4 * m * m;
  }

  // symmetric computes C's squares of and below the diagonal, and the others with them.
  void symmetric(const Product<T> &x) const {
    const int64_t side = (smaller() + W() - 1) / W();
    in_parallel(side * (side + 1) / 2, 2, [&](int64_t from, int64_t n) {
      int64_t i = 0;
      while ((i + 1) * (i + 2) / 2 <= from)
        i++;
      for (int64_t j = from - i * (i + 1) / 2; n > 0; n--) {
        kernels<T>().product(x, i, j);
        if (++j > i)
          i++, j = 0;
      }
    });
  }

  void run(T *scratch) const {
    const Kernels<T> &k = kernels<T>();
    const int64_t m = padded(smaller(), k.W), n = padded(larger(), k.W), mm = m * m;
    const int64_t rows = padded(x.rows, k.W) / k.W, columns = padded(x.columns, k.W) / k.W;
    const bool wide = x.rows <= x.columns;
    T *straight = scratch, *flipped = straight + m * n;
    T *g = flipped + m * n, *p = g + mm, *q = p + mm, *r = q + mm;

    std::vector<double> squares(rows);
    const Momentum<T> momentum{x, straight, rows * k.W * k.W, static_cast<T>(a.momentum), static_cast<T>(a.gradient),
                               static_cast<T>(a.of_momentum), static_cast<T>(a.of_gradient)};
    in_parallel(rows, 1, [&](int64_t from, int64_t count) {
      for (int64_t i = from; i < from + count; i++)
        squares[i] = k.momentum(momentum, i);
    });
    const double norm = std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
    const Flip<T> flip{straight, flipped, rows * k.W * k.W, columns * k.W * k.W,
                       static_cast<T>(1 / std::max(norm, a.least_norm))};
    in_parallel(rows * columns, 4, [&](int64_t from, int64_t count) {
      for (int64_t i = from; i < from + count; i++)
        k.flip(flip, i / columns, i % columns);
    });
    const T *X = wide ? straight : flipped, *Xt = wide ? flipped : straight; // panels over the larger side, the smaller

    symmetric({g, Xt, Xt, smaller(), larger(), n * k.W, m * k.W});
    const int64_t steps = static_cast<int64_t>(a.steps), side = m * k.W;
    for (int64_t step = 0; step < steps; step++) {
      T *const power = step == 0 ? q : p;
      symmetric({power, g, g, smaller(), smaller(), side, side, static_cast<T>(a.c), g, static_cast<T>(a.b), static_cast<T>(a.a)});
      if (step > 0) {
        symmetric({r, q, p, smaller(), smaller(), side, side});
        std::swap(q, r);
      }
      if (step < steps - 1) {
        symmetric({r, power, g, smaller(), smaller(), side, side});
        symmetric({g, r, power, smaller(), smaller(), side, side});
      }
    }
    const Addition<T> addition{q, X, smaller(), side, side, x, !wide, static_cast<T>(a.keep), static_cast<T>(a.rate)};
    in_parallel((m / k.W) * (n / k.W), 2, [&](int64_t from, int64_t count) {
      for (int64_t i = from; i < from + count; i++)
        k.add(addition, i % (m / k.W), i / (m / k.W));
    });
  }
};

} // namespace

template <typename T> void orthogonal_step(const Pass<T> &pass) {
  std::vector<Orthogonal<T>> matrices;
  int64_t scratch = 0;
  for (int64_t i = 0; i < pass.count(); i++) {
    const OrthogonalArgs &a = pass.template args_of<OrthogonalArgs>(i);
    matrices.push_back({Rows<T>(pass.params[i], {a.dim, a.from, a.length}), a});
    scratch = std::max(scratch, matrices[i].scratch());
  }
  std::stable_sort(matrices.begin(), matrices.end(), [](auto &a, auto &b) { return a.work() > b.work(); });
  const int64_t threads = at::get_num_threads(), shares = pass.count() < threads ? 1 : threads;
  const at::Tensor memory = at::empty({shares, scratch}, at::CppTypeToScalarType<T>::value);
  T *const base = memory.template data_ptr<T>();
  std::atomic<int64_t> next{0};
  in_shares(shares, [&](int64_t share) {
    for (int64_t i; (i = next++) < pass.count();)
      matrices[i].run(base + share * scratch);
  });
}

template <typename T> void block_squares(const Pass<T> &pass) {
  in_parallel(pass.count(), 1, [&](int64_t from, int64_t n) {
    for (int64_t i = from; i < from + n; i++) {
      const Rows<T> x(pass.params[i], pass.template args_of<BlockArgs>(i));
      double sum = 0;
      for (int64_t r = 0; r < x.rows; r++)
        sum += kernels<T>().row_squares(x.g + r * x.stride, x.columns);
      pass.template sums_of<Squares>(i).gg = sum;
    }
  });
}

template void orthogonal_step(const Pass<float> &);
template void orthogonal_step(const Pass<double> &);
template void block_squares(const Pass<float> &);
template void block_squares(const Pass<double> &);

} // namespace koala
