// Matrix products on raw pointers, inside threads of our own. The BLAS is the
// one in libtorch_cpu (MKL in the wheels), which runs on the calling thread alone
// when that belongs to a parallel region. A libtorch whose BLAS is not exported
// is served by its own operator.
#pragma once
#include <ATen/ATen.h>

extern "C" __attribute__((weak)) void sgemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k,
                                             const float *alpha, const float *a, const int *lda, const float *b, const int *ldb,
                                             const float *beta, float *c, const int *ldc);

namespace koala {

inline at::Tensor borrow(const float *p, int64_t rows, int64_t columns) {
  return at::from_blob(const_cast<float *>(p), {rows, columns}, at::kFloat);
}

// c [m, n] += a [m, k] b^T with b [n, k], all row-major.
inline void add_product_transposed(float *c, const float *a, const float *b, int64_t m, int64_t n, int64_t k) {
  if (sgemm_ == nullptr) {
    at::Tensor out = borrow(c, m, n);
    out.addmm_(borrow(a, m, k), borrow(b, n, k).t());
    return;
  }
  // Column-major, c is c^T: c^T = b a^T.
  const int M = static_cast<int>(n), N = static_cast<int>(m), K = static_cast<int>(k);
  const float one = 1.0f;
  sgemm_("T", "N", &M, &N, &K, &one, b, &K, a, &K, &one, c, &M);
}

// c [m, n] = a [m, k] b with b [k, n], all row-major.
inline void product(float *c, const float *a, const float *b, int64_t m, int64_t n, int64_t k) {
  if (sgemm_ == nullptr) {
    at::Tensor out = borrow(c, m, n);
    at::mm_out(out, borrow(a, m, k), borrow(b, k, n));
    return;
  }
  const int M = static_cast<int>(n), N = static_cast<int>(m), K = static_cast<int>(k);
  const float one = 1.0f, zero = 0.0f;
  sgemm_("N", "N", &M, &N, &K, &one, b, &M, a, &K, &zero, c, &M);
}

} // namespace koala
