// Steps along the orthogonal factor of a matrix's momentum, by Newton-Schulz iterations
// (koala/spec/orthogonal.go has the operator form):
//
//   X <- (a I + b X X^T + c (X X^T)^2) X,  X from M/|M|
//
// X has no more rows than columns. All of its iterates are products P_k ... P_1 X of the first
// one with polynomials of G = X X^T, which are symmetric and commute. The iterations run on
// them alone, and reach X after a block of several:
//
//   N = b G + c G G,  Q <- Q (a I + N),  G <- (a I + N) G (a I + N);  at last X <- Q X
//
// A product of symmetric matrices that commute is symmetric: half of it is computed. For
// a square X this costs as much as the iterations on half of X X^T, and less for any other.
// Rounding errors of G grow by a^2 an iteration. A block ends before they are large, and the
// next one computes G = X X^T again. The code keeps Q as a number s and a symmetric matrix
// whose sum s I + Q it is: in the sum the matrix would lose bits.
//
// In bfloat16, G, N, Q and X are rounded to it, and sums are of float32, as those of PyTorch's
// Muon are.
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

#include <sys/syscall.h>
#include <unistd.h>

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

// Numbers holds a T in each cell of a panel.
template <typename T> struct Numbers {
  typedef T Number;
  typedef T Cell;
  struct Registers {};                                          // a thread's, while it makes products
  static constexpr bool pairs = false;                          // in a cell
  static constexpr int rows = 1;                                // of the matrix in a panel's row of cells
  static constexpr double growth = sizeof(T) == 4 ? 1e5 : 1e10; // of rounding errors that a block allows
};

// Pairs holds two bfloat16 in each cell, of one column: the upper one in the lower half.
struct Pairs {
  typedef float Number;
  typedef uint32_t Cell;
  struct Registers {};
  static constexpr bool pairs = true;
  static constexpr int rows = 2;
  static constexpr double growth = 200;
};

// Tiles holds each square twice, for AMX: its pairs, as a product's right factor wants them, and
// then their transpose, for the left one.
struct Tiles {
  typedef float Number;
  typedef uint32_t Cell;
  static constexpr bool pairs = true;
  static constexpr int rows = 1;
  static constexpr double growth = 200;

  // Eight tiles of 16 rows of 64 bytes. While a thread has them, the kernel saves them at each
  // switch and signal.
  struct Registers {
    struct alignas(64) Configuration {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    Registers() {
      static constexpr Configuration wanted;
      asm volatile("ldtilecfg %0" ::"m"(wanted));
    }
    ~Registers() { asm volatile("tilerelease"); }
    Registers(const Registers &) = delete;
  };
};

// C = A^T B + of_other O + of_third P, symmetric. O and P may be null.
template <typename F> struct Product {
  typename F::Cell *c;
  const typename F::Cell *a, *b;
  int64_t size, depth;    // rows of C; of A and B
  int64_t panel, c_panel; // cells of a panel of A and B, and of C, O and P
  typename F::Number of_product = 1;
  const typename F::Cell *other = nullptr, *third = nullptr;
  typename F::Number of_other = 0, of_third = 0;
};

// M = of_momentum m + of_gradient g into panels, after m = momentum m + gradient g.
template <typename T> struct Momentum {
  Rows<T> x;
  T *panels;
  int64_t panel;
  T momentum, gradient, of_momentum, of_gradient;
};

// A matrix in panels and its transpose.
template <typename F> struct Both {
  typename F::Cell *straight, *flipped;
  int64_t panel, flipped_panel;
};

// X = scale M
template <typename F> struct Scaled {
  const typename F::Number *m;
  int64_t panel; // numbers of a panel of M
  Both<F> x;
  typename F::Number scale;
};

// Y = s X + Q^T X, and into next with its transpose, or p = keep p - rate Y.
template <typename F> struct Factor {
  const typename F::Cell *q, *x;
  int64_t depth, larger, q_panel, x_panel; // rows of Q and X, columns of X
  typename F::Number s;
  Both<F> next;
  const Rows<typename F::Number> *to;
  bool flip; // p is as X's transpose
  typename F::Number keep, rate;
};

// The inner loops for vectors of so many bytes, each over a square of W rows and columns.
template <typename F, int bytes, int tile_rows> struct Loops {
  typedef typename F::Number T;
  typedef typename F::Cell Cell;
  static constexpr int L = bytes / sizeof(T), W = 2 * L, R = tile_rows;
  static constexpr bool tiles = std::is_same_v<F, Tiles>;
  typedef T V __attribute__((vector_size(bytes), aligned(sizeof(T)), may_alias));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index __attribute__((vector_size(bytes)));
  typedef uint32_t Bits __attribute__((vector_size(bytes), aligned(sizeof(T)), may_alias));

#define INLINE static __attribute__((always_inline)) inline

  template <typename N> INLINE const V &load(const N *p) { return *reinterpret_cast<const V *>(p); }
  template <typename N> INLINE void store(N *p, const V &v) { *reinterpret_cast<V *>(p) = v; }

  // square is the square of W rows from row on in a panel of a matrix whose cells have so
  // many rows.
  template <int rows = F::rows, typename P> INLINE P square(P matrix, int64_t panel, int64_t index, int64_t row) {
    return matrix + index * panel + row * (W / rows) * W;
  }

  // get returns half a row of a square.
  INLINE V get(const Cell *square, int row, int half) {
    if constexpr (!F::pairs)
      return load(square + row * W + half * L);
    else {
      const Bits pairs = *reinterpret_cast<const Bits *>(square + row / 2 * W + half * L);
      return reinterpret_cast<V>(row % 2 == 0 ? pairs << 16 : pairs & 0xffff0000u);
    }
  }

  // rounded has finite numbers in the upper halves, rounded to the nearest, ties to even.
  INLINE Bits rounded(const V &v) {
    const Bits bits = reinterpret_cast<Bits>(v);
    return bits + 0x7fffu + (bits >> 16 & 1u);
  }

  // put writes a square.
  INLINE void put(const T *from, Cell *square) {
    if constexpr (!F::pairs)
      std::copy(from, from + W * W, square);
    else
      for (int r = 0; r < W; r += 2)
        for (int k = 0; k < W; k += L)
          *reinterpret_cast<Bits *>(square + r / 2 * W + k) =
              rounded(load(from + r * W + k)) >> 16 | (rounded(load(from + (r + 1) * W + k)) & 0xffff0000u);
    if constexpr (tiles)
      transpose<W / 2, W>(square, square + W / 2 * W);
  }

  // put_transposed writes a square's transpose.
  INLINE void put_transposed(const T *from, Cell *square) {
    if constexpr (tiles) { // pairs of neighbours in a row are those of the transpose's columns
      Cell *const rows = square + W / 2 * W;
      for (int r = 0; r < W; r++)
        asm("vcvtne2ps2bf16 %2, %1, %0"
            : "=v"(*reinterpret_cast<Bits *>(rows + r * L))
            : "v"(load(from + r * W + L)), "v"(load(from + r * W)));
      return transpose<W, W / 2>(rows, square);
    }
    T transposed[W * W];
    transpose<W, W>(from, transposed);
    put(transposed, square);
  }

  // transpose writes the transpose of so many rows and columns.
  template <int rows, int columns, typename N> INLINE void transpose(const N *from, N *to) {
    Index low{}, high{};
    for (int i = 0; i < L; i++) {
      low[i] = i / 2 + i % 2 * L;
      high[i] = low[i] + L / 2;
    }
    for (int i = 0; i < rows; i += L)
      for (int j = 0; j < columns; j += L) {
        V mine[L], mixed[L];
        for (int r = 0; r < L; r++)
          mine[r] = load(from + (i + r) * columns + j);
        for (int half = 1; half < L; half *= 2) { // a perfect shuffle of all elements
          for (int r = 0; r < L / 2; r++) {
            mixed[2 * r] = __builtin_shuffle(mine[r], mine[r + L / 2], low);
            mixed[2 * r + 1] = __builtin_shuffle(mine[r], mine[r + L / 2], high);
          }
          for (int r = 0; r < L; r++)
            mine[r] = mixed[r];
        }
        for (int r = 0; r < L; r++)
          store(to + (j + r) * rows + i, mine[r]);
      }
  }

  // mirror makes a square symmetric: above the diagonal as below.
  INLINE void mirror(T *square) {
    T transposed[W * W];
    transpose<W, W>(square, transposed);
    Index column{};
    for (int k = 0; k < L; k++)
      column[k] = k;
    for (int r = 0; r < W; r++)
      for (int k = 0; k < W; k += L)
        store(square + r * W + k, column + k > r ? load(transposed + r * W + k) : load(square + r * W + k));
  }

  // plus adds to each column the product of a with its cell of b. Pairs make two products:
  // VDPBF16PS is in AVX512_BF16, for which the callers are not compiled.
  INLINE V plus(V sum, const Cell &a, const V &b) {
    if constexpr (!F::pairs)
      return sum + a * b;
    else {
      asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(b), "v"(Bits{} + a));
      return sum;
    }
  }

  // some_rows returns R rows of a square of A^T B: the first columns of each, and zeros.
  INLINE void some_rows(const Cell *a, const Cell *b, int64_t depth, int64_t columns, V (&sum)[R][2]) {
    for (int r = 0; r < R; r++)
      sum[r][0] = sum[r][1] = V{};
    depth = (depth + F::rows - 1) / F::rows;
    const T *numbers = reinterpret_cast<const T *>(b);
    if (columns <= L) {
      for (int64_t k = 0; k < depth; k++) {
        const V b0 = load(numbers + k * W);
        for (int r = 0; r < R; r++)
          sum[r][0] = plus(sum[r][0], a[k * W + r], b0);
      }
      return;
    }
    for (int64_t k = 0; k < depth; k++) {
      const V b0 = load(numbers + k * W), b1 = load(numbers + k * W + L);
      for (int r = 0; r < R; r++) {
        sum[r][0] = plus(sum[r][0], a[k * W + r], b0);
        sum[r][1] = plus(sum[r][1], a[k * W + r], b1);
      }
    }
  }

  // in_tiles writes a square of A^T B, whose quarters are the tiles 0 to 3.
  INLINE void in_tiles(const Cell *a, const Cell *b, int64_t depth, T *sum) {
    constexpr int64_t row = L * sizeof(Cell), wide = 2 * row;
    asm volatile("tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3" ::: "memory");
    for (int64_t k = 0; k < depth; k += W, a += W * W, b += W * W) {
      const Cell *const left = a + W / 2 * W;
      asm volatile("tileloadd (%0,%4,1), %%tmm4\n tileloadd (%1,%4,1), %%tmm5\n"
                   "tileloadd (%2,%5,1), %%tmm6\n tileloadd (%3,%5,1), %%tmm7\n"
                   "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n"
                   "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n tdpbf16ps %%tmm7, %%tmm5, %%tmm3"
                   ::"r"(left), "r"(left + L * L), "r"(b), "r"(b + L), "r"(row), "r"(wide) : "memory");
    }
    asm volatile("tilestored %%tmm0, (%0,%4,1)\n tilestored %%tmm1, (%1,%4,1)\n"
                 "tilestored %%tmm2, (%2,%4,1)\n tilestored %%tmm3, (%3,%4,1)"
                 ::"r"(sum), "r"(sum + L), "r"(sum + L * W), "r"(sum + L * W + L), "r"(wide) : "memory");
  }

  // multiply calls use(row, half, sum) for all half rows of a square of A^T B. Beyond so many rows
  // and columns it is 0; with lower it is on the diagonal, and above that not computed.
  template <typename Use>
  INLINE void multiply(const Cell *a, const Cell *b, int64_t depth, int64_t rows, int64_t columns, bool lower, const Use &use) {
    if constexpr (tiles) {
      alignas(64) T square[W * W];
      in_tiles(a, b, depth, square);
      for (int r = 0; r < W; r++)
        for (int h = 0; h < 2; h++)
          use(r, h, load(square + r * W + h * L));
    } else
      for (int r0 = 0; r0 < W; r0 += R) {
        V sum[R][2];
        some_rows(a + r0, b, r0 < rows ? depth : 0, lower ? r0 + R : columns, sum);
        for (int r = 0; r < R; r++)
          for (int h = 0; h < 2; h++)
            use(r0 + r, h, sum[r][h]);
      }
  }

  // product computes the square (i, j) of C, i >= j, and its mirror image.
  INLINE void product(const Product<F> &x, int64_t i, int64_t j) {
    T local[W * W], *c = local;
    Cell *const to = square(x.c, x.c_panel, j, i);
    if constexpr (!F::pairs)
      c = to;
    const Cell *other = x.other != nullptr ? square(x.other, x.c_panel, j, i) : nullptr;
    const Cell *third = x.third != nullptr ? square(x.third, x.c_panel, j, i) : nullptr;
    multiply(x.a + i * x.panel, x.b + j * x.panel, x.depth, x.size - i * W, W, i == j,
             [&](int row, int half, V v) __attribute__((always_inline)) {
               if (other != nullptr)
                 v = x.of_product * v + x.of_other * get(other, row, half);
               if (third != nullptr)
                 v += x.of_third * get(third, row, half);
               store(c + row * W + half * L, v);
             });
    if (i != j)
      put_transposed(c, square(x.c, x.c_panel, i, j));
    else
      mirror(c);
    if constexpr (F::pairs)
      put(c, to);
  }

  // momentum makes W rows of M and returns their sum of squares.
  INLINE double momentum(const Momentum<T> &x, int64_t row) {
    const int64_t rows = std::min<int64_t>(W, x.x.rows - row * W);
    double squares[W] = {};
    for (int64_t i = 0; i < W; i++)
      for (int64_t j = 0; j * W < x.x.columns; j++) {
        T *const to = square<1>(x.panels, x.panel, j, row) + i * W;
        const int64_t at = (row * W + i) * x.x.stride + j * W, n = i < rows ? std::min<int64_t>(W, x.x.columns - j * W) : 0;
        if (n == W)
          momentum_of(x, at, W, to, squares);
        else {
          momentum_of(x, at, n, to, squares);
          std::fill(to + n, to + W, T{0});
        }
      }
    return std::accumulate(squares, squares + W, 0.0);
  }

  INLINE void momentum_of(const Momentum<T> &x, int64_t at, int64_t n, T *__restrict to, double *__restrict squares) {
    const T keep = x.momentum, gradient = x.gradient, of_momentum = x.of_momentum, of_gradient = x.of_gradient;
    T *__restrict m = x.x.m + at;
    const T *__restrict g = x.x.g + at;
    for (int64_t k = 0; k < n; k++) {
      m[k] = keep * m[k] + gradient * g[k];
      const T d = of_momentum * m[k] + of_gradient * g[k];
      to[k] = d;
      squares[k] += static_cast<double>(d) * d;
    }
  }

  // scale makes the square (i, j) of X and of its transpose.
  INLINE void scale(const Scaled<F> &x, int64_t i, int64_t j) {
    T scaled[W * W];
    const T *m = square<1>(x.m, x.panel, j, i);
    for (int k = 0; k < W * W; k += L)
      store(scaled + k, x.scale * load(m + k));
    put(scaled, square(x.x.straight, x.x.panel, j, i));
    put_transposed(scaled, square(x.x.flipped, x.x.flipped_panel, i, j));
  }

  // factor makes the square (i, j) of Y.
  INLINE void factor(const Factor<F> &x, int64_t i, int64_t j) {
    T y[W * W], flipped[W * W];
    const Cell *X = square(x.x, x.x_panel, j, i);
    multiply(x.q + i * x.q_panel, x.x + j * x.x_panel, x.depth, x.depth - i * W, x.larger - j * W, false,
             [&](int row, int half, const V &v) __attribute__((always_inline)) {
               store(y + row * W + half * L, v + x.s * get(X, row, half));
             });
    if (x.to == nullptr) {
      put(y, square(x.next.straight, x.next.panel, j, i));
      return put_transposed(y, square(x.next.flipped, x.next.flipped_panel, i, j));
    }
    const T *from = y;
    if (x.flip) {
      transpose<W, W>(y, flipped);
      from = flipped;
      std::swap(i, j);
    }
    const T keep = x.keep, rate = x.rate;
    const int64_t rows = std::min<int64_t>(W, x.to->rows - i * W), columns = std::min<int64_t>(W, x.to->columns - j * W);
    for (int64_t r = 0; r < rows; r++) {
      T *__restrict p = x.to->p + (i * W + r) * x.to->stride + j * W;
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
template <typename F> struct Kernels {
  typedef typename F::Number T;
  int64_t W;
  void (*product)(const Product<F> &, int64_t, int64_t);
  double (*momentum)(const Momentum<T> &, int64_t);
  void (*scale)(const Scaled<F> &, int64_t, int64_t);
  void (*factor)(const Factor<F> &, int64_t, int64_t);
  double (*row_squares)(const T *, int64_t);
};

#define LOOPS(bytes, rows, level)                                                                                      \
  {                                                                                                                    \
    Loops<F, bytes, rows>::W, Clones<Loops<F, bytes, rows>::product>::level,                                           \
        Clones<Loops<F, bytes, rows>::momentum>::level, Clones<Loops<F, bytes, rows>::scale>::level,                   \
        Clones<Loops<F, bytes, rows>::factor>::level, Clones<Loops<F, bytes, rows>::row_squares>::level                \
  }

template <typename F> const Kernels<F> &kernels() {
  static const Kernels<F> found = []() -> Kernels<F> {
    switch (isa()) {
    case Isa::V4: return LOOPS(64, 8, v4);
    case Isa::V3: return LOOPS(32, 4, v3);
    default: return LOOPS(16, 4, base);
    }
  }();
  return found;
}

// Pairs are for processors that multiply them at twice the rate of float32. AMD's do (measured on
// Zen 5), Intel's have AMX for it: VDPBF16PS has half the rate of float32 there (Emerald Rapids).
bool has_pairs() {
  return isa() == Isa::V4 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
}

// Tiles multiply at 16 times the rate of float32. Linux gives them to a process that asks for them.
bool has_tiles() {
  constexpr int ask = 0x1023, tile_data = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool given = isa() == Isa::V4 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("amx-bf16") &&
                            syscall(SYS_arch_prctl, ask, tile_data) == 0;
  return given;
}

template <> const Kernels<Pairs> &kernels() {
  typedef Pairs F;
  static const Kernels<F> found = LOOPS(64, 8, v4);
  return found;
}

template <> const Kernels<Tiles> &kernels() {
  typedef Tiles F;
  static const Kernels<F> found = LOOPS(64, 8, v4);
  return found;
}

int64_t padded(int64_t n, int64_t W) { return (n + W - 1) / W * W; }

// An Orthogonal is the step of one matrix.
template <typename F> struct Orthogonal {
  typedef typename F::Number T;
  typedef typename F::Cell Cell;
  const Rows<T> &x;
  const OrthogonalArgs &a;
  const Kernels<F> &k = kernels<F>();
  const int64_t W = k.W, smaller = std::min(x.rows, x.columns), larger = std::max(x.rows, x.columns);
  const int64_t m = padded(smaller, W), n = padded(larger, W);
  const int64_t side = m * W / F::rows, wide_side = n * W / F::rows; // cells of a panel with so many rows

  // scratch is the number of elements that run writes to.
  int64_t scratch() const { return 3 * m * n + 4 * m * m; }

  // symmetric computes C's squares of and below the diagonal, and the others with them.
  void symmetric(const Product<F> &x) const {
    const int64_t squares = m / W;
    in_parallel(squares * (squares + 1) / 2, 2, [&](int64_t from, int64_t n) {
      [[maybe_unused]] const typename F::Registers registers{};
      int64_t i = 0;
      while ((i + 1) * (i + 2) / 2 <= from)
        i++;
      for (int64_t j = from - i * (i + 1) / 2; n > 0; n--) {
        k.product(x, i, j);
        if (++j > i)
          i++, j = 0;
      }
    });
  }

  // momentum makes M in panels and returns its norm.
  double momentum(T *panels, int64_t rows) const {
    std::vector<double> squares(rows);
    const Momentum<T> momentum{x, panels, rows * W * W, static_cast<T>(a.momentum), static_cast<T>(a.gradient),
                               static_cast<T>(a.of_momentum), static_cast<T>(a.of_gradient)};
    in_parallel(rows, 1, [&](int64_t from, int64_t count) {
      for (int64_t i = from; i < from + count; i++)
        squares[i] = k.momentum(momentum, i);
    });
    return std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
  }

  // block is the number of iterations on G between two X: of those whose rounding errors stay
  // small the one with the fewest products, the shorter among equals.
  int64_t block() const {
    const int64_t all = static_cast<int64_t>(a.steps);
    int64_t best = 1;
    double grown = 1;
    for (int64_t steps = 2; steps <= all; steps++)
      if ((grown *= a.a * a.a) <= F::growth && products(steps) < products(best))
        best = steps;
    return best;
  }

  // products is the number of products of columns, of all iterations in blocks of so many: for
  // G and Q X in each block, and for up to four of symmetric matrices in each iteration.
  double products(int64_t block) const {
    const int64_t all = static_cast<int64_t>(a.steps), blocks = (all + block - 1) / block;
    return blocks * larger * 1.5 + (4 * all - 3 * blocks) * smaller * 0.5;
  }

  void run(T *scratch) const {
    const int64_t rows = padded(x.rows, W) / W, columns = padded(x.columns, W) / W, mm = m * m;
    const bool wide = x.rows <= x.columns;
    T *const M = scratch;
    Cell *const straight = reinterpret_cast<Cell *>(M + m * n), *const flipped = straight + m * n;
    Cell *g = flipped + m * n, *p = g + mm, *q = p + mm, *r = q + mm;

    const double norm = momentum(M, rows);
    const Scaled<F> scaled{M, rows * W * W, {straight, flipped, rows * W * W / F::rows, columns * W * W / F::rows},
                           static_cast<T>(1 / std::max(norm, a.least_norm))};
    in_parallel(rows * columns, 4, [&](int64_t from, int64_t count) {
      for (int64_t i = from; i < from + count; i++)
        k.scale(scaled, i / columns, i % columns);
    });
    // X lies in panels over its larger side, X^T over the smaller one. M's memory takes the next X.
    Cell *X = wide ? straight : flipped, *const Xt = wide ? flipped : straight, *next = reinterpret_cast<Cell *>(M);

    const T A = static_cast<T>(a.a), B = static_cast<T>(a.b), C = static_cast<T>(a.c);
    for (int64_t left = static_cast<int64_t>(a.steps); left > 0;) {
      const int64_t steps = std::min(left, block());
      left -= steps;
      symmetric({g, Xt, Xt, smaller, larger, wide_side, side});
      T s = A;
      for (int64_t step = 0; step < steps; step++) {
        Cell *const power = step == 0 ? q : p; // N
        symmetric({power, g, g, smaller, smaller, side, side, C, g, nullptr, B});
        if (step > 0) { // (s I + Q) (a I + N)
          symmetric({r, q, p, smaller, smaller, side, side, 1, q, p, A, s});
          std::swap(q, r);
          s *= A;
        }
        if (step < steps - 1) { // (a I + N) G (a I + N)
          symmetric({r, power, g, smaller, smaller, side, side, 1, g, nullptr, A});
          symmetric({g, r, power, smaller, smaller, side, side, 1, r, nullptr, A});
        }
      }
      const Factor<F> factor{q, X, smaller, larger, side, side, s, {next, Xt, side, wide_side},
                             left > 0 ? nullptr : &x, !wide, static_cast<T>(a.keep), static_cast<T>(a.rate)};
      in_parallel((m / W) * (n / W), 2, [&](int64_t from, int64_t count) {
        [[maybe_unused]] const typename F::Registers registers{};
        for (int64_t i = from; i < from + count; i++)
          k.factor(factor, i % (m / W), i / (m / W));
      });
      std::swap(X, next);
    }
  }
};

// A Block is one matrix, iterated in its numbers or in bfloat16. Few rows have few singular values,
// whose errors do not average out, and cost nothing.
template <typename T> struct Block {
  Rows<T> x;
  const OrthogonalArgs &a;

  static constexpr int64_t least_rows = 32; // in bfloat16

  double work() const { return std::pow(std::min(x.rows, x.columns), 2.0) * (x.rows + x.columns); }

  template <typename Do> auto with(const Do &f) const {
    if constexpr (std::is_same_v<T, float>)
      if (a.bfloat16 != 0 && std::min(x.rows, x.columns) >= least_rows) {
        if (has_tiles())
          return f(Orthogonal<Tiles>{x, a});
        if (has_pairs())
          return f(Orthogonal<Pairs>{x, a});
      }
    return f(Orthogonal<Numbers<T>>{x, a});
  }
};

} // namespace

template <typename T> void orthogonal_step(const Pass<T> &pass) {
  std::vector<Block<T>> matrices;
  int64_t scratch = 0;
  for (int64_t i = 0; i < pass.count(); i++) {
    const OrthogonalArgs &a = pass.template args_of<OrthogonalArgs>(i);
    matrices.push_back({Rows<T>(pass.params[i], {a.dim, a.from, a.length}), a});
    scratch = std::max(scratch, matrices[i].with([](const auto &m) { return m.scratch(); }));
  }
  std::vector<int64_t> order(pass.count()); // the longest first
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return matrices[i].work() > matrices[j].work(); });
  const int64_t threads = at::get_num_threads(), shares = pass.count() < threads ? 1 : threads;
  const at::Tensor memory = at::empty({shares, scratch}, at::CppTypeToScalarType<T>::value);
  T *const base = memory.template data_ptr<T>();
  std::atomic<int64_t> next{0};
  in_shares(shares, [&](int64_t share) {
    for (int64_t i; (i = next++) < pass.count();)
      matrices[order[i]].with([&](const auto &m) { m.run(base + share * scratch); });
  });
}

template <typename T> void block_squares(const Pass<T> &pass) {
  in_parallel(pass.count(), 1, [&](int64_t from, int64_t n) {
    for (int64_t i = from; i < from + n; i++) {
      const Rows<T> x(pass.params[i], pass.template args_of<BlockArgs>(i));
      double sum = 0;
      for (int64_t r = 0; r < x.rows; r++)
        sum += kernels<Numbers<T>>().row_squares(x.g + r * x.stride, x.columns);
      pass.template sums_of<Squares>(i).gg = sum;
    }
  });
}

template void orthogonal_step(const Pass<float> &);
template void orthogonal_step(const Pass<double> &);
template void block_squares(const Pass<float> &);
template void block_squares(const Pass<double> &);

} // namespace koala
