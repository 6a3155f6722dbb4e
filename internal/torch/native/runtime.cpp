// The library's state (errors, seeds, threads, memory, devices), and operations
// on tensors that gotch does not have.
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/Context.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/GradMode.h>
#include <malloc.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/version.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "common.h"

namespace koala {

static thread_local std::string last_error;

void set_last_error(const char *what) { last_error = what; }

} // namespace koala

using namespace koala;

KOALA_API const char *koala_last_error(void) { return last_error.c_str(); }

// glibc gives large blocks back to the kernel as soon as they are freed, so a
// training step that frees and takes tens of megabytes pays for clearing the
// same pages on every step. With these limits freed memory stays in the heap.
KOALA_API void koala_tune_allocator(void) {
  const int huge = 1 << 30; // larger than any single tensor of a usual step
  mallopt(M_MMAP_THRESHOLD, huge);
  mallopt(M_TRIM_THRESHOLD, huge);
  mallopt(M_TOP_PAD, 64 << 20);
}

// Where memory matters more than time, large blocks go back to the kernel: kept in the
// heap they leave holes between the blocks that live on.
KOALA_API void koala_return_blocks(void) {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TOP_PAD, 0);
}

// Freed memory goes back to the kernel, once.
KOALA_API void koala_trim(void) { malloc_trim(0); }

// Numbers below 1e-38 cost a matrix product ten times its time: a model that has
// diverged, or that predicts with high confidence, is full of them, and they do
// not matter. Threads that this one starts later inherit the mode.
KOALA_API void koala_flush_denormals(int on) { at::globalContext().setFlushDenormal(on != 0); }

// Whether koala_open_cuda has loaded a library. Until then nothing may ask libtorch about
// CUDA: the answer would be no, for the rest of the process.
static std::atomic<bool> cuda_is_open{false};

KOALA_API int koala_manual_seed(uint64_t seed) {
  return guard([&] {
    if (cuda_is_open) {
      at::manual_seed(seed);
      return;
    }
    auto generator = at::globalContext().defaultGenerator(at::kCPU);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  });
}

KOALA_API int koala_set_threads(int intraop) {
  return guard([&] { at::set_num_threads(intraop); });
}

KOALA_API int koala_threads(void) { return at::get_num_threads(); }

KOALA_API const char *koala_libtorch_version(void) { return TORCH_VERSION; }

KOALA_API const char *koala_cpu_capability(void) {
  static const std::string name = at::get_cpu_capability();
  return name.c_str();
}

// libtorch_cuda registers its hooks and kernels when it is loaded. It is not
// linked, so that the same program runs where there is no CUDA. For tests there is a
// device that takes its place (testdevice/device.cpp).
KOALA_API int koala_open_cuda(const char **error) {
  const char *const library = std::getenv("KOALA_LM_TEST_DEVICE") ? "libkoala_test_device.so" : "libtorch_cuda.so";
  if (dlopen(library, RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    *error = dlerror();
    return 1;
  }
  cuda_is_open = true;
  return 0;
}

KOALA_API int koala_cuda_devices(void) {
  try {
    return at::hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0;
  } catch (...) {
    return 0;
  }
}

// The memory that the device reports as free, and what libtorch keeps of freed tensors.
KOALA_API int koala_free_memory(int device, int64_t *bytes) {
  return guard([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    c10::DeviceAllocator *const allocator = c10::getDeviceAllocator(at::kCUDA);
    const auto stats = allocator->getDeviceStats(index);
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *bytes = static_cast<int64_t>(allocator->getMemoryInfo(index).first) + stats.reserved_bytes[all].current -
             stats.allocated_bytes[all].current;
  });
}

KOALA_API int koala_shape(koala_tensor t, int64_t *sizes, int capacity) {
  if (t == nullptr || !ref(t).defined())
    return -1;
  const auto shape = ref(t).sizes();
  for (int i = 0; i < static_cast<int>(shape.size()) && i < capacity; i++)
    sizes[i] = shape[i];
  return static_cast<int>(shape.size());
}

KOALA_API int koala_item(koala_tensor t, double *value) {
  return guard([&] { *value = ref(t).item<double>(); });
}

KOALA_API int koala_clone(koala_tensor t, koala_tensor *out) {
  return guard([&] { *out = handle(ref(t).clone()); });
}

KOALA_API int koala_copy(koala_tensor dst, koala_tensor src) {
  return guard([&] { ref(dst).copy_(ref(src)); });
}

// The copy of a host's tensor on a CUDA device. It goes through pinned memory, so that the
// host need not wait for the device.
KOALA_API int koala_upload(koala_tensor t, int device, koala_tensor *out) {
  return guard([&] {
    const at::Device to(at::kCUDA, static_cast<at::DeviceIndex>(device));
    *out = handle(ref(t).pin_memory().to(to, /*non_blocking=*/true));
  });
}

KOALA_API int koala_split(koala_tensor t, int64_t dim, const int64_t *sizes, int n, koala_tensor *out) {
  return guard([&] {
    const auto parts = at::split_with_sizes(ref(t), at::IntArrayRef(sizes, n), dim);
    for (int i = 0; i < n; i++)
      out[i] = handle(parts[i]);
  });
}

KOALA_API int koala_has_grad(koala_tensor t) { return ref(t).grad().defined() ? 1 : 0; }

// out stays null if there is no gradient.
KOALA_API int koala_grad(koala_tensor t, koala_tensor *out) {
  return guard([&] {
    if (ref(t).grad().defined())
      *out = handle(ref(t).grad());
  });
}

KOALA_API int koala_clear_grad(koala_tensor t) {
  return guard([&] { ref(t).mutable_grad().reset(); });
}

KOALA_API int koala_set_grad(koala_tensor t, koala_tensor gradient) {
  return guard([&] { ref(t).mutable_grad() = ref(gradient); });
}

KOALA_API int koala_set_requires_grad(koala_tensor t, int on) {
  return guard([&] { ref(t).set_requires_grad(on != 0); });
}

// Returns the previous mode. (Gradient recording is a property of the thread.)
KOALA_API int koala_set_grad_mode(int on) {
  const bool before = c10::GradMode::is_enabled();
  c10::GradMode::set_enabled(on != 0);
  return before ? 1 : 0;
}

KOALA_API int koala_backward(koala_tensor *tensors, koala_tensor *gradients, int n) {
  return guard([&] {
    torch::autograd::variable_list roots, grads;
    for (int i = 0; i < n; i++) {
      roots.push_back(ref(tensors[i]));
      grads.push_back(optional(gradients[i]));
    }
    torch::autograd::backward(roots, grads);
  });
}
