// Mixed precision: matrix products in bfloat16, everything else and all that is
// kept in float32 (Micikevicius et al. 2018), by libtorch's autocast.
#include <ATen/autocast_mode.h>

#include "common.h"

using namespace koala;

// Switches it for this thread; the weights that were converted are forgotten when
// it ends.
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
