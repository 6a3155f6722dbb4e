// Threads, all of them by libtorch's at::parallel_for: inside a parallel region it runs
// on the calling thread alone.
#pragma once
#include <ATen/Parallel.h>

#include "blas.h"

namespace koala {

// in_shares calls f(share) for every share, each on a thread of its own. A single share
// runs on the calling thread, where a matrix product may use all threads.
template <typename F> void in_shares(int64_t shares, const F &f) {
  if (shares == 1) {
    f(int64_t{0});
    return;
  }
  at::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
    const OneThread alone;
    for (int64_t s = first; s < last; s++)
      f(s);
  });
}

// in_parallel calls f(from, count) for consecutive parts of [0, n), each of at least
// grain items.
template <typename F> void in_parallel(int64_t n, int64_t grain, const F &f) {
  at::parallel_for(0, n, grain, [&](int64_t from, int64_t to) { f(from, to - from); });
}

} // namespace koala
