// Process groups of c10d, PyTorch's own library for distributed training, which is
// part of libtorch. A store holds the addresses of the ranks, a process group
// all-reduces their tensors.
#define USE_C10D_GLOO // as libtorch_cpu was compiled
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>

#include <dlfcn.h>

#include <mutex>

#include "common.h"
#include "process_group.h"

using namespace koala;
using std::chrono::milliseconds;

namespace {

using Store = c10::intrusive_ptr<c10d::Store>;
using Backend = c10::intrusive_ptr<c10d::Backend>;
using Work = c10::intrusive_ptr<c10d::Work>;

// Unlike tensors, these classes change their layout between versions. If the library
// had another version than the headers, this code would write beyond the end of its
// objects. Errors come as exceptions, so c10d need not print them as well.
void prepare() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr)
    FLAGS_caffe2_log_level = 3; // fatal
  const uint64_t have = aoti_torch_abi_version(), want = TORCH_ABI_VERSION;
  TORCH_CHECK(have >> 40 == want >> 40, "c10d was compiled for libtorch ", TORCH_VERSION, ", and the one that is loaded is ",
              have >> 56, ".", have >> 48 & 255, ".", have >> 40 & 255);
}

// gloo_options checks that this code reads the same option values that the library
// wrote.
c10::intrusive_ptr<c10d::ProcessGroupGloo::Options> gloo_options(const std::string &address, milliseconds timeout) {
  using Gloo = c10d::ProcessGroupGloo;
  if (address.empty() || std::getenv("GLOO_SOCKET_IFNAME") != nullptr)
    return Gloo::Options::create_default(timeout);
  auto options = Gloo::Options::create(timeout);
  TORCH_CHECK(options->timeout == timeout && options->backend == "gloo" && options->threads == 2 && options->devices.empty(),
              "c10d's Gloo options are laid out otherwise than in its header");
  options->devices.push_back(Gloo::createDeviceForHostname(address));
  return options;
}

} // namespace

c10::intrusive_ptr<c10d::Work> koala::start_all_reduce(c10d::Backend &group, const at::Tensor &t) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<at::Tensor> one{t};
  return group.allreduce(one);
}

// A server may pass port 0 to get a free port; *port becomes the port in use.
// listener is a listening socket, which the server will own, or -1 to let c10d make
// one. prefix is put before every key.
KOALA_API int koala_store_open(const char *host, int *port, int server, int listener, const char *prefix, int64_t timeout_ms, koala_store *out) {
  return guard([&] {
    prepare();
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(*port);
    options.isServer = server != 0;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    if (listener >= 0)
      options.masterListenFd = listener;
    auto tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
    *port = tcp->getPort();
    Store store = tcp;
    if (*prefix != '\0')
      store = c10::make_intrusive<c10d::PrefixStore>(prefix, store);
    *out = new Store(store);
  });
}

KOALA_API void koala_store_close(koala_store s) { delete static_cast<Store *>(s); }

KOALA_API int koala_store_set(koala_store s, const char *key, const char *value) {
  return guard([&] {
    const std::string text = value;
    (*static_cast<Store *>(s))->set(key, std::vector<uint8_t>(text.begin(), text.end()));
  });
}

// Sets length to -1 if the key does not exist.
KOALA_API int koala_store_get(koala_store s, const char *key, char *value, int capacity, int *length) {
  return guard([&] {
    auto &store = **static_cast<Store *>(s);
    *length = -1;
    if (!store.check({key}))
      return;
    const auto bytes = store.get(key);
    TORCH_CHECK(static_cast<int>(bytes.size()) <= capacity, key, " holds ", bytes.size(), " bytes");
    std::copy(bytes.begin(), bytes.end(), value);
    *length = static_cast<int>(bytes.size());
  });
}

KOALA_API int koala_gloo_open(koala_store s, int rank, int size, const char *address, int64_t timeout_ms, koala_group *out) {
  return guard([&] {
    prepare();
    const auto options = gloo_options(address, milliseconds(timeout_ms));
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(*static_cast<Store *>(s), rank, size, options);
    *out = new Backend(gloo);
  });
}

// NCCL is in libtorch_cuda, which is not linked. So the code that uses its classes is
// in a separate library.
KOALA_API int koala_nccl_open(koala_store s, int rank, int size, int device, int64_t timeout_ms, koala_group *out) {
  return guard([&] {
    prepare();
    const char *const name = "koala_nccl_backend";
    void *address = dlsym(RTLD_DEFAULT, name); // the test device has its own
    if (address == nullptr) {
      void *const library = dlopen("libkoala_nccl.so", RTLD_NOW);
      TORCH_CHECK(library != nullptr, "NCCL does not load: ", dlerror(), " (make setup-cuda prepares it)");
      address = dlsym(library, name);
      TORCH_CHECK(address != nullptr, "NCCL does not load: ", dlerror());
    }
    using Open = void(const Store &, int, int, int, int64_t, Backend *);
    auto *open = reinterpret_cast<Open *>(address);
    Backend nccl;
    open(*static_cast<Store *>(s), rank, size, device, timeout_ms, &nccl);
    *out = new Backend(nccl);
  });
}

// Waits for running all-reduces, which need the other ranks.
KOALA_API void koala_group_close(koala_group g) { delete static_cast<Backend *>(g); }

// Starts an all-reduce (sum) of a tensor, in place.
KOALA_API int koala_all_reduce(koala_group g, koala_tensor t, koala_work *out) {
  return guard([&] { *out = new Work(start_all_reduce(**static_cast<Backend *>(g), ref(t))); });
}

// Returns 2 if the work is not done after that time. A wait for Gloo's work throws
// after that time and can be repeated; NCCL's work would be aborted, so it is polled.
KOALA_API int koala_work_wait(koala_work w, int cuda, int64_t timeout_ms) {
  auto &work = **static_cast<Work *>(w);
  bool done = true;
  const int failed = guard([&] {
    if (cuda) {
      const auto end = std::chrono::steady_clock::now() + milliseconds(timeout_ms);
      while (!(done = work.isCompleted()) && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      if (done)
        work.wait();
      return;
    }
    try {
      work.wait(milliseconds(timeout_ms));
    } catch (...) {
      if (work.isCompleted())
        throw;
      done = false;
    }
  });
  return done ? failed : 2;
}

KOALA_API void koala_work_free(koala_work w) { delete static_cast<Work *>(w); }
