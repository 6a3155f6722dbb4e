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

extern "C" __attribute__((weak)) size_t cblas_sgemm_pack_get_size(int identifier, int m, int n, int k);
extern "C" __attribute__((weak)) void cblas_sgemm_pack(int layout, int identifier, int trans, int m, int n, int k,
                                                       float alpha, const float *src, int ld, float *dest);
extern "C" __attribute__((weak)) void cblas_sgemm_compute(int layout, int transa, int transb, int m, int n, int k,
                                                          const float *a, int lda, const float *b, int ldb, float beta,
                                                          float *c, int ldc);

extern "C" __attribute__((weak)) void cblas_gemm_bf16bf16f32(int layout, int transa, int transb, int m, int n, int k,
                                                             float alpha, const uint16_t *a, int lda,
                                                             const uint16_t *b, int ldb, float beta, float *c, int ldc);

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
    return at::from_blob(const_cast<std::remove_const_t<T> *>(p), {rows, columns},
                         transposed ? at::IntArrayRef({one, step}) : at::IntArrayRef({step, one}),
                         sizeof(T) == 2 ? at::kBFloat16 : at::kFloat);
  }
};

using Matrix = MatrixOf<float>;
using ConstMatrix = MatrixOf<const float>;
// Of numbers in bfloat16, the upper half of a float32.
using LowMatrix = MatrixOf<uint16_t>;
using ConstLowMatrix = MatrixOf<const uint16_t>;

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

// mkl_cblas.h: CblasRowMajor, CblasNoTrans, CblasTrans, CblasPacked, CblasBMatrix
namespace cblas {
constexpr int row_major = 101, plain = 111, transposed = 112, packed = 151, right = 162;
}

// The same of factors in bfloat16. Sums and c are float32.
inline void multiply(const Matrix &c, const ConstLowMatrix &a, const ConstLowMatrix &b, bool add = false) {
  if (!blas() || cblas_gemm_bf16bf16f32 == nullptr) {
    at::Tensor out = c.tensor(), wide_a = a.tensor().to(at::kFloat), wide_b = b.tensor().to(at::kFloat);
    add ? out.addmm_(wide_a, wide_b) : at::mm_out(out, wide_a, wide_b);
    return;
  }
  cblas_gemm_bf16bf16f32(cblas::row_major, a.transposed ? cblas::transposed : cblas::plain,
                         b.transposed ? cblas::transposed : cblas::plain, static_cast<int>(c.rows),
                         static_cast<int>(c.columns), static_cast<int>(a.columns), 1.0f, a.p, static_cast<int>(a.step),
                         b.p, static_cast<int>(b.step), add ? 1.0f : 0.0f, c.p, static_cast<int>(c.step));
}

// packs says whether RightFactor packs (blas.cpp).
bool packs();

// A RightFactor is b of many products c = a b or c += a b of few rows each. Of few rows, the
// library spends as long on bringing b into the order in which its kernel reads it as on
// the products, or multiplies out of order at half the rate; here b is brought into order
// once.
class RightFactor {
public:
  // b is to be multiplied with about so many rows at a time, so many times.
  RightFactor(const ConstMatrix &b, int64_t rows, int64_t times) : b_(b) {
    if (times < 4 || !packs())
      return;
    const OneThread alone; // whose products are made by one thread each
    const int m = static_cast<int>(rows), n = static_cast<int>(b.columns), k = static_cast<int>(b.rows);
    const size_t bytes = cblas_sgemm_pack_get_size(cblas::right, m, n, k);
    packed_ = at::empty({static_cast<int64_t>(bytes / sizeof(float) + 1)}, at::kFloat);
    cblas_sgemm_pack(cblas::row_major, cblas::right, b.transposed ? cblas::transposed : cblas::plain, m, n, k, 1.0f,
                     b.p, static_cast<int>(b.step), packed_.mutable_data_ptr<float>());
  }

  // c = a b, or c += a b where add is set; neither a nor c is transposed.
  void multiply(const Matrix &c, const ConstMatrix &a, bool add = false) const {
    if (!packed_.defined())
      return koala::multiply(c, a, b_, add);
    cblas_sgemm_compute(cblas::row_major, cblas::plain, cblas::packed, static_cast<int>(c.rows),
                        static_cast<int>(c.columns), static_cast<int>(a.columns), a.p, static_cast<int>(a.step),
                        packed_.const_data_ptr<float>(), static_cast<int>(b_.step), add ? 1.0f : 0.0f, c.p,
                        static_cast<int>(c.step));
  }

private:
  ConstMatrix b_;
  at::Tensor packed_;
};

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
