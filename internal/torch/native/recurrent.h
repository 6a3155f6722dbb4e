// What recurrent layers share.
#pragma once
#include <algorithm>

#include "common.h"

namespace koala {

// over_sequences calls f(first, count) for shares of the batch, one a thread.
template <typename F> void over_sequences(int64_t batch, const F &f) {
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), batch / 2));
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < threads; i++) {
    const int64_t from = batch * i / threads;
    f(from, batch * (i + 1) / threads - from);
  }
}

// states_before returns the hidden state before each step: h0 [B, H], then y
// [T, B, H] but its last.
inline at::Tensor states_before(const at::Tensor &h0, const at::Tensor &y) {
  at::Tensor before = at::empty_like(y);
  before.select(0, 0).copy_(h0);
  if (y.size(0) > 1)
    before.narrow(0, 1, y.size(0) - 1).copy_(y.narrow(0, 0, y.size(0) - 1));
  return before;
}

} // namespace koala
