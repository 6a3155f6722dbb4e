#include "blocks.h"

namespace koala {

bool has_block_products() {
  static const bool works = [] {
    constexpr int64_t m = 32, n = 48, k = 64;
    std::vector<uint16_t> a(m * k);
    std::vector<uint32_t> b(k / 2 * n);
    std::vector<float> c(m * n);
    for (int64_t i = 0; i < m * k; i++)
      a[i] = narrow(static_cast<float>(i % 7));
    const auto number = [](int64_t row, int64_t column) { return static_cast<float>((3 * row + column) % 5); };
    for (int64_t i = 0; i < k / 2; i++)
      for (int64_t j = 0; j < n; j++)
        b[i * n + j] = narrow(number(2 * i, j)) | static_cast<uint32_t>(narrow(number(2 * i + 1, j))) << 16;
    try {
      block_multiply(dense(c.data(), m, n), dense<const uint16_t>(a.data(), m, k), b.data(), n, false);
      at::native::cpublas::brgemm_release();
    } catch (const std::exception &) {
      return false;
    }
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) {
        float want = 0;
        for (int64_t l = 0; l < k; l++)
          want += static_cast<float>((i * k + l) % 7) * number(l, j);
        if (c[i * n + j] != want)
          return false;
      }
    return true;
  }();
  return works;
}

// MKL's product has float32 sums, libtorch's is rounded to bfloat16 and converted. With
// tiles MKL's is faster; they were not compared elsewhere.
Tensor low_gradient(const Tensor &dy, const Tensor &x) {
  if (!has_tiles())
    return at::mm(dy.t(), x).to(at::kFloat);
  const Tensor d = at::empty({dy.size(1), x.size(1)}, x.options().dtype(at::kFloat));
  multiply(mutable_matrix(d), low_matrix(dy).t(), low_matrix(x));
  return d;
}

} // namespace koala
