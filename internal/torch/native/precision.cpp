// Mixed precision (Micikevicius et al. 2018) by libtorch's autocast: matrix
// products in bfloat16, parameters and everything else in float32.
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

#include "common.h"

using namespace koala;

// Switches autocast for this thread. Switching it off frees the cache of
// converted weights.
KOALA_API int koala_autocast(int cuda, int on) {
  return guard([&] {
    const at::DeviceType device = cuda ? at::kCUDA : at::kCPU;
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::set_autocast_enabled(device, on != 0);
    if (!on)
      at::autocast::clear_cache();
  });
}

// Lets CUDA's products of float32 matrices round their factors to TF32: 8 bits of exponent,
// 10 of mantissa. Returns what was set before.
KOALA_API int koala_tf32(int on) {
  at::Context &context = at::globalContext();
  const bool before = context.allowTF32CuBLAS();
  context.setAllowTF32CuBLAS(on != 0);
  context.setAllowTF32CuDNN(on != 0);
  return before ? 1 : 0;
}
