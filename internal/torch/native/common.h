// The C interface's two conversions: exceptions to error codes, handles to tensors.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <stdexcept>
#include <string>

#include "koala_native.h"

#define KOALA_API extern "C" __attribute__((visibility("default")))

namespace koala {

void set_last_error(const char *what);

// guard runs f and returns 0, or 1 after an exception, whose text it keeps.
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

inline koala_tensor handle(at::Tensor t) { return new at::Tensor(std::move(t)); }

} // namespace koala
