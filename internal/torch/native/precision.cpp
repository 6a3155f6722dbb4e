// Mixed precision (Micikevicius et al. 2018) by libtorch's autocast: matrix
// products in bfloat16, parameters and everything else in float32.
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

// Whether the CPU multiplies bfloat16 by itself.
KOALA_API int koala_fast_bfloat16(void) { return __builtin_cpu_supports("avx512bf16") ? 1 : 0; }
