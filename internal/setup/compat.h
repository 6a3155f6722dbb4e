// Overloads that gotch v0.9.1 calls and libtorch 2.11 no longer has, with the
// argument lists of gotch's torch_api_generated.cpp.h. Nothing here uses these
// operators: whoever reaches one through gotch gets an error instead of a
// wrong result. This header is forced in with -include, ahead of torch_api.cpp.
#pragma once
#include <torch/torch.h>

#include <stdexcept>
#include <tuple>

namespace torch {

inline Tensor _cslt_sparse_mm(const Tensor &, const Tensor &, const Tensor &, bool) {
  throw std::runtime_error("_cslt_sparse_mm: not available through gotch with libtorch 2.11");
}

inline std::tuple<Tensor, Tensor> _scaled_mm(const Tensor &, const Tensor &, const Tensor &,
                                             c10::optional<at::ScalarType>, const Tensor &,
                                             const Tensor &, const Tensor &) {
  throw std::runtime_error("_scaled_mm: not available through gotch with libtorch 2.11");
}

inline std::tuple<Tensor, Tensor> _scaled_mm_out(const Tensor &, const Tensor &, const Tensor &,
                                                 const Tensor &, const Tensor &,
                                                 c10::optional<at::ScalarType>, const Tensor &,
                                                 const Tensor &, const Tensor &) {
  throw std::runtime_error("_scaled_mm_out: not available through gotch with libtorch 2.11");
}

} // namespace torch
