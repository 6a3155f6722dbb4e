#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

namespace koala {

// start_all_reduce starts a sum over the ranks, in place. c10d keeps tables of what
// runs without a lock, since Python's global lock protects them there; two ranks of
// one process would write them at once.
c10::intrusive_ptr<c10d::Work> start_all_reduce(c10d::Backend &group, const at::Tensor &t);

} // namespace koala
