// The reducer of PyTorch's DistributedDataParallel (Li et al. 2020, section 3.2): it
// all-reduces gradients in buckets while backward still computes others.
#define USE_C10D_GLOO // as libtorch_cpu was compiled
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <exception>
#include <memory>
#include <mutex>

#include "common.h"
#include "process_group.h"

using namespace koala;

namespace {

using Backend = c10::intrusive_ptr<c10d::Backend>;
using Work = c10::intrusive_ptr<c10d::Work>;
using torch::autograd::variable_list;

struct Bucket {
  at::Tensor flat;
  int size = 0, missing = 0;
};

class Reducer {
public:
  Reducer(Backend group, std::vector<Bucket> buckets) : group_(std::move(group)), buckets_(std::move(buckets)) {}

  ~Reducer() {
    for (const auto &[node, key] : hooks_)
      node->del_post_hook(key);
  }

  // A parameter's gradient is complete when its accumulation node has run, once in a
  // backward pass.
  void follow(const at::Tensor &param, const at::Tensor &part, size_t bucket) {
    const auto node = torch::autograd::impl::grad_accumulator(param);
    TORCH_CHECK(node, "backward does not reach a parameter");
    const size_t i = ready_.size();
    ready_.push_back(false);
    auto hook = [this, i, param, part, bucket](const variable_list &outputs, const variable_list &) {
      arrived(i, param, part, buckets_[bucket]);
      return outputs;
    };
    hooks_.emplace_back(node, node->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(std::move(hook))));
  }

  void prepare_for_backward() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto &b : buckets_)
      b.missing = b.size;
    ready_.assign(ready_.size(), false);
    started_.clear();
    failed_ = nullptr;
    active_ = true;
  }

  // finish ends the pass and returns the running all-reduces, one for each of the
  // first buckets.
  std::vector<Work> finish() {
    const std::lock_guard<std::mutex> lock(mutex_);
    active_ = false;
    if (failed_)
      std::rethrow_exception(std::exchange(failed_, nullptr));
    return std::exchange(started_, {});
  }

private:
  // finish rethrows an error of this all-reduce, so that it does not unwind through
  // backward.
  void arrived(size_t i, const at::Tensor &param, const at::Tensor &part, Bucket &bucket) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!active_ || failed_)
      return;
    try {
      TORCH_CHECK(!ready_[i], "a gradient was computed twice in one backward pass");
      ready_[i] = true;
      const at::NoGradGuard guard;
      part.copy_(param.grad());
      --bucket.missing;
      // All ranks start the buckets in the same order, whatever the order of their
      // gradients.
      while (started_.size() < buckets_.size() && buckets_[started_.size()].missing == 0)
        started_.push_back(start_all_reduce(*group_, buckets_[started_.size()].flat));
    } catch (...) {
      failed_ = std::current_exception();
    }
  }

  Backend group_;
  std::vector<Bucket> buckets_;
  std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, uintptr_t>> hooks_;

  std::mutex mutex_;
  bool active_ = false;
  std::vector<char> ready_; // by parameter
  std::vector<Work> started_;
  std::exception_ptr failed_;
};

} // namespace

// counts[b] is the number of parameters of bucket b; params and parts list the
// parameters and their views of the flat tensor, bucket after bucket.
KOALA_API int koala_reducer_open(koala_group g, int buckets, const koala_tensor *flats, const int *counts, const koala_tensor *params,
                               const koala_tensor *parts, koala_reducer *out) {
  return guard([&] {
    std::vector<Bucket> all;
    for (int b = 0; b < buckets; b++)
      all.push_back({ref(flats[b]), counts[b]});
    auto reducer = std::make_unique<Reducer>(*static_cast<Backend *>(g), std::move(all));
    for (int b = 0, i = 0; b < buckets; b++)
      for (const int end = i + counts[b]; i < end; i++)
        reducer->follow(ref(params[i]), ref(parts[i]), b);
    *out = reducer.release();
  });
}

KOALA_API void koala_reducer_close(koala_reducer r) { delete static_cast<Reducer *>(r); }

KOALA_API void koala_reducer_prepare(koala_reducer r) { static_cast<Reducer *>(r)->prepare_for_backward(); }

// works has room for one all-reduce a bucket.
KOALA_API int koala_reducer_finish(koala_reducer r, koala_work *works, int *count) {
  return guard([&] {
    *count = 0;
    for (auto &work : static_cast<Reducer *>(r)->finish())
      works[(*count)++] = new Work(std::move(work));
  });
}
