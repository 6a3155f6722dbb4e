// Matrix products on raw pointers, for code that runs in threads of its own. The BLAS is
// the one that libtorch_cpu exports: MKL in PyTorch's wheels, which uses the calling
// thread alone inside a parallel region. Where none is exported, libtorch's operators
// make the products.
#pragma once
#include <ATen/ATen.h>

#include <cstdlib>
#include <cstring>
#include <type_traits>

extern "C" __attribute__((weak)) void sgemm_(const char *transa, const char *transb, const int *m, const int *n,
                                             const int *k, const float *alpha, const float *a, const int *lda,
                                             const float *b, const int *ldb, const float *beta, float *c,
                                             const int *ldc);

extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int threads); // returns the setting before

namespace koala {

// OneThread limits MKL to one thread. MKL detects a parallel region itself, but only
// after it has chosen to pack small matrices, as for many threads.
class OneThread {
public:
  OneThread() : before_(MKL_Set_Num_Threads_Local ? MKL_Set_Num_Threads_Local(1) : 0) {}
  OneThread(const OneThread &) = delete;
  ~OneThread() {
    if (MKL_Set_Num_Threads_Local)
      MKL_Set_Num_Threads_Local(before_);
  }

private:
  const int before_;
};

// A MatrixOf is a view of memory that its owner keeps: row after row or, transposed,
// column after column.
template <typename T> struct MatrixOf {
  T *p;
  int64_t rows, columns;
  int64_t step; // elements from one row (transposed: column) to the next
  bool transposed = false;

  operator MatrixOf<const T>() const { return {p, rows, columns, step, transposed}; }
  MatrixOf t() const { return {p, columns, rows, step, !transposed}; }
  // Rows [from, from + n) and columns [from, from + n) of a matrix that is not transposed.
  MatrixOf part(int64_t from, int64_t n) const { return {p + from * step, n, columns, step}; }
  MatrixOf columns_from(int64_t from, int64_t n) const { return {p + from, rows, n, step}; }
  T *row(int64_t i) const { return p + i * step; }
  at::Tensor tensor() const {
    const int64_t one = 1;
    return at::from_blob(const_cast<float *>(p), {rows, columns},
                         transposed ? at::IntArrayRef({one, step}) : at::IntArrayRef({step, one}), at::kFloat);
  }
};

using Matrix = MatrixOf<float>;
using ConstMatrix = MatrixOf<const float>;

// dense is rows that follow one another without gaps.
template <typename T> MatrixOf<T> dense(T *p, int64_t rows, int64_t columns) { return {p, rows, columns, columns}; }

// blas says whether products go to sgemm_. KOALA_LM_BLAS=operators in the environment
// says no, as a libtorch does that exports none.
inline bool blas() {
  static const bool found = [] {
    const char *choice = std::getenv("KOALA_LM_BLAS");
    return sgemm_ != nullptr && !(choice != nullptr && std::strcmp(choice, "operators") == 0);
  }();
  return found;
}

// c = a b, or c += a b where add is set; c is not transposed.
inline void multiply(const Matrix &c, const ConstMatrix &a, const ConstMatrix &b, bool add = false) {
  if (!blas()) {
    at::Tensor out = c.tensor();
    add ? out.addmm_(a.tensor(), b.tensor()) : at::mm_out(out, a.tensor(), b.tensor());
    return;
  }
  // sgemm_ is column-major: to it c is c^T = b^T a^T.
  const int m = static_cast<int>(c.columns), n = static_cast<int>(c.rows), k = static_cast<int>(a.columns);
  const int lda = static_cast<int>(a.step), ldb = static_cast<int>(b.step), ldc = static_cast<int>(c.step);
  const float one = 1.0f, beta = add ? 1.0f : 0.0f;
  sgemm_(b.transposed ? "T" : "N", a.transposed ? "T" : "N", &m, &n, &k, &one, b.p, &ldb, a.p, &lda, &beta, c.p, &ldc);
}

// view_of is a matrix on t's memory: t's dimensions but the last are its rows. The
// elements of a row or of a column are neighbours.
template <typename T> MatrixOf<T> view_of(T *p, const at::Tensor &t) {
  if (t.dim() == 2 && t.stride(0) == 1 && t.stride(1) >= t.size(0) && !t.is_contiguous())
    return {p, t.size(0), t.size(1), t.stride(1), true};
  TORCH_CHECK(t.is_contiguous(), "matrix: a tensor of ", t.sizes(), " with gaps");
  return dense(p, t.numel() / t.size(-1), t.size(-1));
}

// matrix reads t, mutable_matrix also writes it.
inline ConstMatrix matrix(const at::Tensor &t) { return view_of(t.const_data_ptr<float>(), t); }
inline Matrix mutable_matrix(const at::Tensor &t) { return view_of(t.mutable_data_ptr<float>(), t); }

} // namespace koala
