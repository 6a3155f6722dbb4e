// What every file of the native library needs: exceptions become error codes,
// handles become tensors.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include <optional>
#include <string>

#include "koala_native.h"

#define KOALA_API extern "C" __attribute__((visibility("default")))

// Kernels are compiled for several instruction sets; the loader picks the best
// that the processor has.
#define KOALA_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))

namespace koala {

void set_last_error(const char *what);

// guard runs f and turns whatever it throws into the error code 1.
template <typename F> int guard(F &&f) {
  try {
    f();
    return 0;
  } catch (const std::exception &e) {
    set_last_error(e.what());
  } catch (...) {
    set_last_error("unknown C++ exception");
  }
  return 1;
}

inline const at::Tensor &ref(koala_tensor t) { return *static_cast<at::Tensor *>(t); }

// optional maps the null handle to an undefined tensor.
inline at::Tensor optional(koala_tensor t) { return t ? ref(t) : at::Tensor(); }

// fused says whether our own kernels are for t: float32 on the CPU, unless
// products are to be made in a lower precision.
inline bool fused(const at::Tensor &t) {
  return t.is_cpu() && t.scalar_type() == at::kFloat && !at::autocast::is_autocast_enabled(at::kCPU);
}

// given is what autograd takes for an argument that may be absent.
inline std::optional<at::Tensor> given(const at::Tensor &t) { return t.defined() ? std::optional<at::Tensor>(t) : std::nullopt; }

// or_undefined is the way back.
inline at::Tensor or_undefined(const std::optional<at::Tensor> &t) { return t.has_value() ? *t : at::Tensor(); }

inline koala_tensor handle(at::Tensor t) { return new at::Tensor(std::move(t)); }

} // namespace koala
