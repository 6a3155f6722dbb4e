// CUDA devices for tests, on machines without one. The library takes libtorch_cuda's
// place: it registers devices, their memory, its hooks and a kernel for every operator under
// CUDA's dispatch key, by the interfaces through which libtorch_cuda registers its own. So
// the code under test is the code that runs on a GPU: the same device, the same branches,
// the same autocast.
//
// An operator runs the CPU's kernel on the device's memory. What differs from a CPU is
// what goes wrong on a GPU:
//   - The host cannot read or write the device's memory: an access ends the process.
//   - Tensors of one operator are on one device.
//   - Memory is limited: KOALA_LM_TEST_DEVICE is its size in MiB.
//   - Launches, copies and waits for the device are counted.
//
// The memory of the CPU's tensors is counted too, for tests of what a computation needs.
#define USE_C10D_GLOO // as libtorch_cpu was compiled
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/library.h>

#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <malloc.h>
#include <omp.h>
#include <sys/mman.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>

#include "testdevice.h"

namespace {

using at::Tensor;
using c10::DispatchKey;
using c10::DispatchKeySet;

// The devices are alike, and share one memory. A rank has one of its own.
constexpr c10::DeviceIndex devices = 4;
thread_local c10::DeviceIndex current = 0;

c10::Device device() { return {c10::kCUDA, current}; }

// An On makes a device the thread's current one, on which tensors are made.
struct On {
  const c10::DeviceIndex before;
  explicit On(c10::DeviceIndex index) : before(std::exchange(current, index < 0 ? current : index)) {}
  ~On() { current = before; }
};

// Counting.

struct Counters {
  std::atomic<int64_t> launches{0}, to_device{0}, to_device_bytes{0}, to_host{0}, to_host_bytes{0}, waits{0};
  std::mutex mutex;
  std::string reasons; // of the waits, a line each
} counters;

// waited counts a point at which the host waits until the device has done all its work.
void waited(const std::string &reason) {
  const std::lock_guard<std::mutex> lock(counters.mutex);
  counters.waits++;
  if (counters.reasons.size() < 1 << 16)
    counters.reasons += reason + "\n";
}

// Memory. The device's memory is reserved twice. Tensors hold addresses of the first
// range, which nothing may access; kernels use the same offsets in the second one.
class Memory {
public:
  Memory() {
    if (const char *text = std::getenv("KOALA_LM_TEST_DEVICE"))
      size_ = std::max<size_t>(1, std::strtoull(text, nullptr, 10)) << 20;
    void *const p = mmap(nullptr, 2 * size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(p != MAP_FAILED, "the test device's address range cannot be reserved");
    base_ = static_cast<char *>(p);
    // Shared memory does not count towards the process's limit of private memory.
    void *const q = mmap(base_ + size_, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    TORCH_CHECK(q != MAP_FAILED, "the test device has no memory");
  }

  bool owns(const void *p) const { return p >= base_ && p < base_ + size_; }
  bool maps(const void *p) const { return p >= base_ + size_ && p < base_ + 2 * size_; }

  // to_host is the address at which kernels find what is at p.
  void *to_host(void *p) const { return p == nullptr ? nullptr : static_cast<char *>(p) + size_; }

  void *allocate(size_t asked) {
    const size_t n = rounded(asked);
    const std::lock_guard<std::mutex> lock(mutex_);
    char *p = nullptr;
    if (auto &free = free_[n]; !free.empty()) {
      p = free.back();
      free.pop_back();
    } else {
      TORCH_CHECK_WITH(OutOfMemoryError, used_ + n <= size_, "CUDA out of memory. Tried to allocate ", n >> 20, ".",
                       (n >> 10) % 1024 * 100 / 1024, " MiB. GPU 0 has a total capacity of ", size_ >> 20, " MiB.");
      p = base_ + used_;
      used_ += n;
    }
    live_ += asked;
    peak_ = std::max(peak_, live_);
    // New memory holds NaN, as a GPU's may: nothing may rely on zeros.
    std::memset(to_host(p), 0xff, n);
    sizes_[p] = {asked, n};
    return p;
  }

  void release(void *p) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto it = sizes_.find(static_cast<char *>(p));
    if (it == sizes_.end())
      return;
    live_ -= it->second.asked;
    free_[it->second.block].push_back(it->first);
    sizes_.erase(it);
  }

  // free is what the device reports as free, which a test may set.
  size_t free() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t reported = reported_;
    return reported != 0 ? reported : size_ - live_;
  }
  void report(size_t free) { reported_ = free; }
  size_t size() const { return size_; }

  size_t live() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return live_;
  }

  // peak returns the largest number of bytes in use since the last call.
  size_t peak() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(peak_, live_);
  }

private:
  // rounded gives blocks of few sizes, so that freed ones are used again.
  static size_t rounded(size_t n) {
    size_t step = 512;
    while (n > 8 * step)
      step *= 2;
    return std::max<size_t>(step, (n + step - 1) / step * step);
  }

  size_t size_ = 2048ull << 20, used_ = 0, live_ = 0, peak_ = 0;
  std::atomic<size_t> reported_{0};
  char *base_ = nullptr;
  std::mutex mutex_;
  std::map<size_t, std::vector<char *>> free_;
  struct Sizes {
    size_t asked, block;
  };
  std::unordered_map<char *, Sizes> sizes_;
};

Memory &memory() {
  static auto *const m = new Memory; // tensors may outlive main
  return *m;
}

struct DeviceAllocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t n) override {
    if (n == 0)
      return {nullptr, device()};
    void *const p = memory().allocate(n);
    return {p, p, [](void *q) { memory().release(q); }, device()};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return [](void *q) { memory().release(q); };
  }
  void copy_data(void *to, const void *from, std::size_t n) const override {
    std::memcpy(memory().to_host(to), memory().to_host(const_cast<void *>(from)), n);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr &, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override { return {}; }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override { return {memory().free(), memory().size()}; }
} device_allocator;

// The CPU's tensors have libtorch's memory, and are counted.
struct CountingAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    void *const p = c10::alloc_cpu(n);
    if (p != nullptr) {
      const int64_t live = used += static_cast<int64_t>(malloc_usable_size(p));
      for (int64_t before = peak; before < live && !peak.compare_exchange_weak(before, live);) {
      }
    }
    return {p, p, release, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return release; }
  void copy_data(void *to, const void *from, std::size_t n) const override { std::memcpy(to, from, n); }

  static void release(void *p);
  std::atomic<int64_t> used{0}, peak{0};
} counting_allocator;

void CountingAllocator::release(void *p) {
  if (p != nullptr)
    counting_allocator.used -= static_cast<int64_t>(malloc_usable_size(p));
  c10::free_cpu(p);
}

const bool counts_cpu = (c10::SetCPUAllocator(&counting_allocator, 1), true);

// Pinned memory is the host's, and known as such: copies to and from it need no wait.
struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    if (n == 0)
      return {nullptr, c10::kCPU};
    void *const p = std::aligned_alloc(64, (n + 63) / 64 * 64);
    const std::lock_guard<std::mutex> lock(mutex);
    blocks[static_cast<char *>(p)] = n;
    return {p, p, release, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return release; }
  void copy_data(void *to, const void *from, std::size_t n) const override { std::memcpy(to, from, n); }

  bool holds(const void *p) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto it = blocks.upper_bound(static_cast<char *>(const_cast<void *>(p)));
    return it != blocks.begin() && p < (--it)->first + it->second;
  }

  static void release(void *p);
  std::mutex mutex;
  std::map<char *, size_t> blocks;
} pinned_allocator;

void PinnedAllocator::release(void *p) {
  const std::lock_guard<std::mutex> lock(pinned_allocator.mutex);
  pinned_allocator.blocks.erase(static_cast<char *>(p));
  std::free(p);
}

// The devices as libtorch asks for them. Each has one stream, on which work is done at once.

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device d) const override { return {c10::kCUDA, std::exchange(current, checked(d))}; }
  c10::Device getDevice() const override { return device(); }
  void setDevice(c10::Device d) const override { current = checked(d); }
  void uncheckedSetDevice(c10::Device d) const noexcept override { current = std::max<c10::DeviceIndex>(0, d.index()); }
  c10::Stream getStream(c10::Device d) const override { return stream(d); }
  c10::Stream getDefaultStream(c10::Device d) const override { return stream(d); }
  c10::Stream getNewStream(c10::Device d, int) const override { return stream(d); }
  c10::Stream getStreamFromGlobalPool(c10::Device d, bool) const override { return stream(d); }
  c10::Stream exchangeStream(c10::Stream s) const override { return s; }
  c10::DeviceIndex deviceCount() const noexcept override { return devices; }
  void record(void **, const c10::Stream &, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void *, const c10::Stream &) const override {}
  bool queryEvent(void *) const override { return true; }
  bool queryStream(const c10::Stream &) const override { return true; }
  void synchronizeStream(const c10::Stream &) const override { waited("synchronize stream"); }
  void synchronizeEvent(void *) const override { waited("synchronize event"); }
  void synchronizeDevice(const c10::DeviceIndex) const override { waited("synchronize device"); }

private:
  static c10::DeviceIndex checked(c10::Device d) {
    TORCH_CHECK(d.index() < devices, "there is no device ", d);
    return d.index() < 0 ? current : d.index();
  }
  static c10::Stream stream(c10::Device d) { return c10::Stream(c10::Stream::DEFAULT, {c10::kCUDA, checked(d)}); }
};

struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
  at::DeviceIndex deviceCount() const override { return devices; }
  int getNumGPUs() const override { return devices; }
  at::DeviceIndex current_device() const override { return current; }
  at::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(at::DeviceIndex d) const override { current = d; }
  at::DeviceIndex exchangeDevice(at::DeviceIndex d) const override { return std::exchange(current, d); }
  at::DeviceIndex maybeExchangeDevice(at::DeviceIndex d) const override { return std::exchange(current, d); }
  bool isPinnedPtr(const void *p) const override { return pinned_allocator.holds(p); }
  at::Allocator *getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  at::Allocator *getCUDADeviceAllocator() const override { return &device_allocator; }
  at::Device getDeviceFromPtr(void *p) const override { return memory().owns(p) ? device() : at::Device(at::kCPU); }
  void deviceSynchronize(at::DeviceIndex) const override { waited("synchronize device"); }
  // Kernels draw from the CPU's generator, so that a seed gives the CPU's numbers.
  const at::Generator &getDefaultGenerator(at::DeviceIndex) const override {
    static const at::Generator generator = at::detail::createCPUGenerator();
    return generator;
  }
  at::Generator getNewGenerator(at::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
};

// Kernels.

// Views are the CPU's views of device tensors, within one operator. Tensors that share
// a storage on the device share one here.
class Views {
public:
  // of returns t's view: the same memory, at the address that kernels use.
  Tensor of(const Tensor &t) {
    if (!t.defined() || !t.is_cuda())
      return t;
    auto &known = tensors_[t.unsafeGetTensorImpl()];
    if (known.view.defined())
      return known.view;
    if (t.is_sparse()) {
      known.view = at::_sparse_coo_tensor_unsafe(of(t._indices()), of(t._values()), t.sizes(), t.options().device(c10::kCPU), t.is_coalesced());
    } else {
      known.view = at::detail::make_tensor<c10::TensorImpl>(storage(t.storage()), DispatchKeySet(DispatchKey::CPU), t.dtype());
      auto *const impl = known.view.unsafeGetTensorImpl();
      impl->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
      if (t.unsafeGetTensorImpl()->is_wrapped_number())
        impl->set_wrapped_number(true);
      known.address = known.view.storage().data();
    }
    known.original = t;
    return known.view;
  }

  // back returns the device's tensor for what a kernel returned.
  Tensor back(const Tensor &result) {
    if (!result.defined() || !result.is_cpu())
      return result;
    for (auto &[impl, known] : tensors_)
      if (known.view.is_same(result))
        return known.original;
    if (result.is_sparse())
      return at::_sparse_coo_tensor_unsafe(back(result._indices()), back(result._values()), result.sizes(), result.options().device(device()), result.is_coalesced());
    for (auto &[impl, known] : tensors_)
      if (known.view.has_storage() && result.numel() > 0 && known.view.is_alias_of(result)) {
        auto t = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(known.original.storage()), DispatchKeySet(DispatchKey::CUDA), result.dtype());
        t.unsafeGetTensorImpl()->set_sizes_and_strides(result.sizes(), result.strides(), result.storage_offset());
        return t;
      }
    return uploaded(result);
  }

  // resized repeats on the device what a kernel did to its outputs' sizes.
  void resized() {
    for (auto &[impl, known] : tensors_) {
      if (!known.view.has_storage())
        continue;
      auto *const to = known.original.unsafeGetTensorImpl();
      if (known.view.storage().data() != known.address) {
        auto *const storage = to->unsafe_storage().unsafeGetStorageImpl();
        storage->set_data_ptr_noswap(upload(known.view.storage()));
        storage->set_nbytes(known.view.storage().nbytes());
      }
      if (to->sizes() != known.view.sizes() || to->strides() != known.view.strides())
        to->set_sizes_and_strides(known.view.sizes(), known.view.strides(), known.view.storage_offset());
    }
  }

private:
  struct Known {
    Tensor view, original;
    const void *address = nullptr;
  };

  c10::Storage storage(const c10::Storage &on_device) {
    auto &known = storages_[on_device.unsafeGetStorageImpl()];
    if (!known)
      known = c10::Storage(c10::Storage::use_byte_size_t(), on_device.nbytes(),
                           c10::DataPtr(memory().to_host(const_cast<void *>(on_device.data())), c10::kCPU), c10::GetAllocator(c10::kCPU), true);
    return known;
  }

  static c10::DataPtr upload(const c10::Storage &from) {
    auto to = device_allocator.allocate(from.nbytes());
    if (from.nbytes() > 0)
      std::memcpy(memory().to_host(to.get()), from.data(), from.nbytes());
    return to;
  }

  static Tensor uploaded(const Tensor &t) {
    c10::Storage s(c10::Storage::use_byte_size_t(), t.storage().nbytes(), upload(t.storage()), &device_allocator, true);
    auto out = at::detail::make_tensor<c10::TensorImpl>(std::move(s), DispatchKeySet(DispatchKey::CUDA), t.dtype());
    out.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
    return out;
  }

  std::unordered_map<c10::TensorImpl *, Known> tensors_;
  std::unordered_map<c10::StorageImpl *, c10::Storage> storages_;
};

// These operators' results depend on the data, in their shape or on the host, so that a
// GPU's kernels wait for it.
const std::set<std::string> waiting = {
    "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::equal",
    "aten::bincount", "aten::repeat_interleave", "aten::_coalesce", "aten::_linalg_eigh", "aten::_linalg_svd", "aten::linalg_eigh",
    "aten::linalg_cholesky_ex", "aten::linalg_inv_ex"};

// index_of returns the device of a kernel's inputs, -1 if none is on a device. Inputs on two
// devices are an error, but for scalars of the host, which a GPU's kernels take as arguments.
c10::DeviceIndex index_of(const c10::OperatorHandle &op, const std::vector<Tensor> &inputs) {
  c10::DeviceIndex index = -1;
  for (const Tensor &t : inputs)
    if (t.defined() && t.is_cuda() && index < 0)
      index = t.get_device();
  for (const Tensor &t : inputs)
    TORCH_CHECK(!t.defined() || (t.is_cuda() ? t.get_device() == index : t.dim() == 0),
                "Expected all tensors to be on the same device, but found at least two devices, cuda:", static_cast<int>(index), " and ",
                t.device(), "! (", op.schema().name(), ", a tensor of ", t.sizes(), ")");
  return index;
}

// Kernels run on the thread that calls them: of a whole test suite on a few cores, threads
// that wait for each other would take most of the time.
struct OneThread {
  const int before = omp_get_max_threads();
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before); }
};

// run is the kernel of every operator that has none below: it runs the CPU's.
void run(const c10::OperatorHandle &op, DispatchKeySet, torch::jit::Stack *stack) {
  const auto &schema = op.schema();
  const size_t first = stack->size() - schema.arguments().size();
  std::vector<Tensor> inputs;
  for (size_t i = first; i < stack->size(); i++) {
    const auto &v = (*stack)[i];
    if (v.isTensor())
      inputs.push_back(v.toTensor());
    else if (v.isTensorList() || v.isOptionalTensorList())
      for (const c10::IValue &t : v.toListRef())
        if (t.isTensor())
          inputs.push_back(t.toTensor());
  }
  const On guard(index_of(op, inputs));
  const bool sparse = std::any_of(inputs.begin(), inputs.end(), [](const Tensor &t) { return t.defined() && t.is_sparse(); });
  Views views;
  for (size_t i = first; i < stack->size(); i++) {
    auto &v = (*stack)[i];
    if (v.isTensor()) {
      v = views.of(v.toTensor());
    } else if (v.isTensorList()) {
      std::vector<Tensor> list;
      for (const Tensor &t : v.toTensorVector())
        list.push_back(views.of(t));
      v = std::move(list);
    } else if (v.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const c10::IValue &t : v.toListRef())
        list.push_back(t.isTensor() ? std::optional<Tensor>(views.of(t.toTensor())) : std::nullopt);
      v = std::move(list);
    } else if (v.isDevice() && v.toDevice().is_cuda()) {
      v = c10::Device(c10::kCPU);
    }
  }
  counters.launches++;
  if (waiting.count(schema.name()) != 0)
    waited(schema.name());
  {
    const OneThread one;
    op.redispatchBoxed(DispatchKeySet(sparse ? DispatchKey::SparseCPU : DispatchKey::CPU), stack);
  }
  views.resized();
  const size_t start = stack->size() - schema.returns().size();
  for (size_t i = start; i < stack->size(); i++) {
    auto &v = (*stack)[i];
    if (v.isTensor()) {
      v = views.back(v.toTensor());
    } else if (v.isTensorList()) {
      std::vector<Tensor> list;
      for (const Tensor &t : v.toTensorVector())
        list.push_back(views.back(t));
      v = std::move(list);
    }
  }
}

// Operators on lists for which libtorch_cuda has a kernel on all tensors. It uses it for
// tensors of one type and layout, in each list and from list to list, and else as many
// kernels as there are tensors. Copies may convert.
const char *const on_lists[] = {
    "_foreach_add.List", "_foreach_sub.List", "_foreach_mul.List", "_foreach_div.List", "_foreach_maximum.List", "_foreach_mul.ScalarList",
    "_foreach_add.ScalarList", "_foreach_clamp_min.ScalarList", "_foreach_sqrt", "_foreach_sign", "_foreach_abs", "_foreach_norm.Scalar",
    "_foreach_clamp_max_.Scalar", "_foreach_sub_.List", "_foreach_add_.List", "_foreach_mul_.List", "_foreach_mul_.ScalarList", "_foreach_copy_"};

void run_lists(const c10::OperatorHandle &op, DispatchKeySet keys, torch::jit::Stack *stack) {
  std::vector<std::vector<Tensor>> lists;
  for (size_t i = stack->size() - op.schema().arguments().size(); i < stack->size(); i++)
    if ((*stack)[i].isTensorList())
      lists.push_back((*stack)[i].toTensorVector());
  const size_t n = lists[0].size();
  const bool converts = op.schema().name() == "aten::_foreach_copy_";
  bool together = true;
  for (const auto &list : lists)
    for (size_t i = 0; i < n; i++)
      together = together && list[i].is_non_overlapping_and_dense() && list[i].strides() == lists[0][i].strides() &&
                 list[i].sizes() == lists[0][i].sizes() && list[i].dtype() == (converts ? list[0] : lists[0][0]).dtype();
  run(op, keys, stack);
  if (!together)
    counters.launches += static_cast<int64_t>(n) - 1;
}

Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout, std::optional<at::Device> where,
             std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const On guard(where.value_or(device()).index());
  TORCH_CHECK(layout.value_or(at::kStrided) == at::kStrided, "the test device makes strided tensors");
  return at::detail::empty_generic(size, &device_allocator, DispatchKeySet(DispatchKey::CUDA), at::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<at::Device> where, std::optional<bool>) {
  const On guard(where.value_or(device()).index());
  return at::detail::empty_strided_generic(size, stride, &device_allocator, DispatchKeySet(DispatchKey::CUDA), at::dtype_or_default(dtype));
}

Tensor &copy_(Tensor &to, const Tensor &from, bool non_blocking) {
  Views views;
  const bool up = to.is_cuda() && from.is_cpu(), down = to.is_cpu() && from.is_cuda();
  const int64_t bytes = static_cast<int64_t>(to.nbytes());
  if (up) {
    counters.to_device++, counters.to_device_bytes += bytes;
    if (!(non_blocking && from.is_pinned()))
      waited(c10::str("copy to the device: ", from.toString(), from.sizes()));
  } else if (down) {
    counters.to_host++, counters.to_host_bytes += bytes;
    if (!(non_blocking && to.is_pinned()))
      waited(c10::str("copy to the host: ", from.toString(), from.sizes()));
  } else {
    counters.launches++;
  }
  views.of(to).copy_(views.of(from));
  return to;
}

at::Scalar local_scalar_dense(const Tensor &t) {
  counters.to_host++, counters.to_host_bytes += static_cast<int64_t>(t.nbytes());
  waited("item");
  Views views;
  return at::_local_scalar_dense(views.of(t));
}

// The cells of recurrent layers, which libtorch has for GPUs alone. What forward keeps for
// backward, its workspace, is a kernel's own affair.

using Optional = std::optional<Tensor>;

Tensor biased(Views &views, const Tensor &gates, const Optional &bias) {
  const Tensor g = views.of(gates).to(at::kFloat);
  return bias.has_value() && bias->defined() ? g + views.of(*bias) : g;
}

// i, f, g, o are the gates after their activations: c' = f c + i g, h' = o tanh(c').
std::tuple<Tensor, Tensor, Tensor> lstm_cell(const Tensor &input, const Tensor &hidden, const Tensor &c, const Optional &input_bias,
                                             const Optional &hidden_bias) {
  counters.launches++;
  const On guard(input.get_device());
  Views views;
  const auto gates = (biased(views, input, input_bias) + biased(views, hidden, hidden_bias)).chunk(4, 1);
  const Tensor i = gates[0].sigmoid(), f = gates[1].sigmoid(), g = gates[2].tanh(), o = gates[3].sigmoid();
  const Tensor next = f * views.of(c) + i * g;
  return {views.back((o * next.tanh()).to(input.scalar_type())), views.back(next.to(c.scalar_type())), views.back(at::cat({i, f, g, o}, 1))};
}

std::tuple<Tensor, Tensor, Tensor> lstm_cell_backward(const Optional &d_h, const Optional &d_c, const Tensor &c, const Tensor &next,
                                                      const Tensor &workspace, bool has_bias) {
  counters.launches++;
  const On guard(workspace.get_device());
  Views views;
  const auto gates = views.of(workspace).chunk(4, 1);
  const Tensor &i = gates[0], &f = gates[1], &g = gates[2], &o = gates[3], t = views.of(next).tanh();
  const auto given = [&](const Optional &d) { return d.has_value() && d->defined() ? views.of(*d).to(at::kFloat) : at::zeros_like(t); };
  const Tensor dh = given(d_h), dc = given(d_c) + dh * o * (1 - t * t);
  const Tensor d = at::cat({dc * g * i * (1 - i), dc * views.of(c) * f * (1 - f), dc * i * (1 - g * g), dh * t * o * (1 - o)}, 1);
  return {views.back(d), views.back(dc * f), has_bias ? views.back(d.sum(0)) : Tensor()};
}

// r, z, n are the gates after their activations: n = tanh(input + r hidden), h' = n + z (h - n).
std::tuple<Tensor, Tensor> gru_cell(const Tensor &input, const Tensor &hidden, const Tensor &h, const Optional &input_bias,
                                    const Optional &hidden_bias) {
  counters.launches++;
  const On guard(input.get_device());
  Views views;
  const auto in = biased(views, input, input_bias).chunk(3, 1), hid = biased(views, hidden, hidden_bias).chunk(3, 1);
  const Tensor r = (in[0] + hid[0]).sigmoid(), z = (in[1] + hid[1]).sigmoid(), n = (in[2] + r * hid[2]).tanh(), old = views.of(h).to(at::kFloat);
  return {views.back((n + z * (old - n)).to(h.scalar_type())), views.back(at::cat({r, z, n, old, hid[2]}, 1))};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gru_cell_backward(const Tensor &d_h, const Tensor &workspace, bool has_bias) {
  counters.launches++;
  const On guard(workspace.get_device());
  Views views;
  const auto kept = views.of(workspace).chunk(5, 1);
  const Tensor &r = kept[0], &z = kept[1], &n = kept[2], &h = kept[3], &hidden = kept[4], d = views.of(d_h).to(at::kFloat);
  const Tensor dn = d * (1 - z) * (1 - n * n), dz = d * (h - n) * z * (1 - z), dr = dn * hidden * r * (1 - r);
  const Tensor di = at::cat({dr, dz, dn}, 1), dhid = at::cat({dr, dz, dn * r}, 1);
  return {views.back(di), views.back(dhid), views.back(d * z), has_bias ? views.back(di.sum(0)) : Tensor(), has_bias ? views.back(dhid.sum(0)) : Tensor()};
}

// NCCL's place is taken by Gloo, on the device's memory.
class Reduction final : public c10d::Backend {
public:
  Reduction(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, std::chrono::milliseconds timeout) : Backend(rank, size) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    gloo_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  }

  const std::string getBackendName() const override { return "nccl"; }

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<Tensor> &tensors, const c10d::AllreduceOptions &options) override {
    std::vector<Tensor> views;
    for (const Tensor &t : tensors) {
      TORCH_CHECK(t.is_cuda(), "nccl: a tensor is not on the device");
      views.push_back(Views().of(t)); // the caller keeps t until the work is done
    }
    return gloo_->allreduce(views, options);
  }

private:
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo_;
};

} // namespace

namespace at {
// CUDAHooksRegistry looks its hooks up under this name.
REGISTER_CUDA_HOOKS(CUDAHooks)
} // namespace at

C10_REGISTER_GUARD_IMPL(CUDA, Guard)
REGISTER_ALLOCATOR(c10::kCUDA, &device_allocator)

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run>()); }
TORCH_LIBRARY_IMPL(_, SparseCUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("copy_", copy_);
  m.impl("_local_scalar_dense", local_scalar_dense);
  m.impl("_thnn_fused_lstm_cell", lstm_cell);
  m.impl("_thnn_fused_lstm_cell_backward_impl", lstm_cell_backward);
  m.impl("_thnn_fused_gru_cell", gru_cell);
  m.impl("_thnn_fused_gru_cell_backward", gru_cell_backward);
  for (const char *name : on_lists)
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&run_lists>());
}

TORCH_LIBRARY_IMPL(aten, SparseCUDA, m) {
  m.impl("_sparse_coo_tensor_with_dims_and_tensors", at::native::new_with_dims_and_tensor_sparse_symint);
  m.impl("_indices", at::native::_indices_sparse);
  m.impl("_values", at::native::_values_sparse);
  m.impl("is_coalesced", at::native::is_coalesced_sparse);
  m.impl("sparse_dim", at::native::sparse_dim_sparse);
  m.impl("dense_dim", at::native::dense_dim_sparse);
  m.impl("_nnz", at::native::_nnz_sparse);
}

// The interface to tests.

extern "C" __attribute__((visibility("default"))) void koala_test_device_counts(koala_test_device_numbers *out) {
  out->launches = counters.launches;
  out->to_device = counters.to_device;
  out->to_device_bytes = counters.to_device_bytes;
  out->to_host = counters.to_host;
  out->to_host_bytes = counters.to_host_bytes;
  out->waits = counters.waits;
  out->bytes = static_cast<int64_t>(memory().live());
  out->peak_bytes = static_cast<int64_t>(memory().peak());
  out->host_bytes = counting_allocator.used;
  out->host_peak_bytes = counting_allocator.peak.exchange(counting_allocator.used);
}

// koala_test_device_report sets how many bytes the device reports as free, 0 for those that are.
extern "C" __attribute__((visibility("default"))) void koala_test_device_report(int64_t free) { memory().report(static_cast<size_t>(free)); }

// koala_test_device_reasons returns what the host waited for since the last call, a line each,
// for the caller to free.
extern "C" __attribute__((visibility("default"))) char *koala_test_device_reasons(void) {
  const std::lock_guard<std::mutex> lock(counters.mutex);
  return strdup(std::exchange(counters.reasons, {}).c_str());
}

// In the place of nccl.cpp's.
extern "C" __attribute__((visibility("default"))) void koala_nccl_backend(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, int,
                                                                         int64_t timeout_ms, c10::intrusive_ptr<c10d::Backend> *out) {
  *out = c10::make_intrusive<Reduction>(store, rank, size, std::chrono::milliseconds(timeout_ms));
}
