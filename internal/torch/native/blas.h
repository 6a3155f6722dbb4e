// Matrix products on raw pointers, inside threads of our own. The BLAS is the
// one in libtorch_cpu (MKL in the wheels), which runs on the calling thread alone
// when that belongs to a parallel region. A libtorch whose BLAS is not exported
// is served by its own operator.
#pragma once
#include <ATen/ATen.h>

extern "C" __attribute__((weak)) void sgemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k,
                                             const float *alpha, const float *a, const int *lda, const float *b, const int *ldb,
                                             const float *beta, float *c, const int *ldc);

extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int threads); // returns what was set before

namespace koala {

// OneThread tells MKL what it would find out by itself, that its caller belongs to a
// parallel region, but too late: it would have chosen to copy small matrices before it
// multiplies them, as for many threads.
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

// A Matrix is float32 in someone's memory: row after row, or turned, column
// after column.
struct Matrix {
  float *p;
  int64_t rows, columns;
  int64_t step; // from one row (turned: column) to the next
  bool turned = false;

  Matrix t() const { return {p, columns, rows, step, !turned}; }
  // Rows or columns [from, from + n) of a matrix that is not turned.
  Matrix part(int64_t from, int64_t n) const { return {p + from * step, n, columns, step}; }
  Matrix columns_from(int64_t from, int64_t n) const { return {p + from, rows, n, step}; }
  float *row(int64_t i) const { return p + i * step; }
  at::Tensor tensor() const {
    const int64_t one = 1;
    return at::from_blob(p, {rows, columns}, turned ? at::IntArrayRef({one, step}) : at::IntArrayRef({step, one}), at::kFloat);
  }
};

// dense is rows that follow one another without gaps.
inline Matrix dense(const float *p, int64_t rows, int64_t columns) { return {const_cast<float *>(p), rows, columns, columns}; }

// c = a b, or c += a b where add is set; c is not turned.
inline void multiply(const Matrix &c, const Matrix &a, const Matrix &b, bool add = false) {
  if (sgemm_ == nullptr) {
    at::Tensor out = c.tensor();
    add ? out.addmm_(a.tensor(), b.tensor()) : at::mm_out(out, a.tensor(), b.tensor());
    return;
  }
  // Column-major, c is c^T: c^T = b^T a^T.
  const int m = static_cast<int>(c.columns), n = static_cast<int>(c.rows), k = static_cast<int>(a.columns);
  const int lda = static_cast<int>(a.step), ldb = static_cast<int>(b.step), ldc = static_cast<int>(c.step);
  const float one = 1.0f, beta = add ? 1.0f : 0.0f;
  sgemm_(b.turned ? "T" : "N", a.turned ? "T" : "N", &m, &n, &k, &one, b.p, &ldb, a.p, &lda, &beta, c.p, &ldc);
}

// matrix is a view of t, whose dimensions but the last become rows; the elements
// of a row, or of a column, are neighbours.
inline Matrix matrix(const at::Tensor &t) {
  float *p = static_cast<float *>(t.data_ptr());
  if (t.dim() == 2 && t.stride(0) == 1 && t.stride(1) >= t.size(0) && !t.is_contiguous())
    return {p, t.size(0), t.size(1), t.stride(1), true};
  TORCH_CHECK(t.is_contiguous(), "matrix: a tensor of ", t.sizes(), " with gaps");
  return dense(p, t.numel() / t.size(-1), t.size(-1));
}

} // namespace koala
