// Products of blocks of bfloat16 numbers that stay in a core's cache, made by the calling
// thread: libtorch's brgemm (oneDNN's kernel for blocks, on AVX512-BF16 or AMX). Its right
// factor lies in pairs of rows, [K/2][N][2], here as [K/2][N] numbers of 32 bits.
#pragma once
#include <ATen/cpu/Utils.h>
#include <ATen/native/CPUBlas.h>

#include "lowered.h"

namespace koala {

// Memory is n numbers of libtorch's memory, which begins at a cache line, so that no row of a
// tile lies in two.
template <typename T> class Memory {
public:
  explicit Memory(int64_t n)
      : bytes_(at::empty({n * static_cast<int64_t>(sizeof(T))}, at::kByte)), p_(static_cast<T *>(bytes_.mutable_data_ptr())) {}
  T *get() const { return p_; }
  T &operator[](int64_t i) const { return p_[i]; }

private:
  at::Tensor bytes_;
  T *p_;
};

// c [M, N] = a [M, K] b, or c += a b; K is even, and b_step the numbers from one pair of
// rows of b to the next.
inline void block_multiply(const Matrix &c, const ConstLowMatrix &a, const uint32_t *b, int64_t b_step, bool add) {
  at::native::cpublas::brgemm(c.rows, c.columns, a.columns, a.step, b_step, c.step, add,
                              reinterpret_cast<const at::BFloat16 *>(a.p), reinterpret_cast<const at::BFloat16 *>(b),
                              c.p, true);
}

// blocks_in_shares calls f(share) for every share, each on a thread of its own, which may
// multiply blocks.
template <typename F> void blocks_in_shares(int64_t shares, const F &f) {
  in_shares(shares, [&](int64_t share) {
    f(share);
    at::native::cpublas::brgemm_release();
  });
}

// has_block_products says whether libtorch makes such products here, found by making one.
bool has_block_products();

// has_tiles says whether the processor multiplies tiles of bfloat16 numbers (Intel's AMX).
// Such products take so much less time than others that passes beside them weigh most.
inline bool has_tiles() {
  static const bool has = at::cpu::init_amx();
  return has;
}

// Rows a and b side by side, as a right factor has them.
KOALA_KERNEL(void, pair_rows, const uint16_t *__restrict a, const uint16_t *__restrict b, uint32_t *__restrict out,
             int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    out[j] = a[j] | static_cast<uint32_t>(b[j]) << 16;
}

// transpose writes out [columns][rows] of in [rows][columns], in tiles that stay in cache.
template <typename T, typename U, typename F>
void transpose(const T *in, int64_t in_step, int64_t rows, int64_t columns, U *out, int64_t out_step, const F &f) {
  constexpr int64_t tile = 16;
  for (int64_t i = 0; i < rows; i += tile)
    for (int64_t j = 0; j < columns; j += tile)
      for (int64_t y = j; y < std::min(j + tile, columns); y++)
        for (int64_t x = i; x < std::min(i + tile, rows); x++)
          out[y * out_step + x] = f(in[x * in_step + y]);
}

} // namespace koala
