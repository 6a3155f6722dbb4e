// NCCL's process group, which is in libtorch_cuda. This is a separate library,
// which is loaded when CUDA devices all-reduce.
#define USE_C10D_NCCL // as libtorch_cuda was compiled
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

using Store = c10::intrusive_ptr<c10d::Store>;

// Called by koala_nccl_open, which repeats its type: change both together.
extern "C" __attribute__((visibility("default"))) void koala_nccl_backend(const Store &store, int rank, int size, int device,
                                                                         int64_t timeout_ms, c10::intrusive_ptr<c10d::Backend> *out) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(timeout_ms);
  *out = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}
