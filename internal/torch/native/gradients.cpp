// Gradients that are added up over a group while backward still makes others, as
// PyTorch's DistributedDataParallel does (Li et al. 2020, section 3.2).
#define USE_C10D_GLOO // as libtorch_cpu was compiled
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <exception>
#include <memory>
#include <mutex>

#include "common.h"

using namespace koala;

namespace {

using Backend = c10::intrusive_ptr<c10d::Backend>;
using Work = c10::intrusive_ptr<c10d::Work>;
using torch::autograd::variable_list;

struct Bucket {
  at::Tensor flat;
  int size = 0, missing = 0;
};

class Watch {
public:
  Watch(Backend group, std::vector<Bucket> buckets) : group_(std::move(group)), buckets_(std::move(buckets)) {}

  ~Watch() {
    for (const auto &[node, key] : hooks_)
      node->del_post_hook(key);
  }

  // A parameter's gradient is whole when the node that adds to it has run, once in
  // a pass.
  void follow(const at::Tensor &param, const at::Tensor &part, size_t bucket) {
    const auto node = torch::autograd::impl::grad_accumulator(param);
    TORCH_CHECK(node, "a parameter that backward does not reach");
    const size_t i = here_.size();
    here_.push_back(false);
    auto hook = [this, i, param, part, bucket](const variable_list &outputs, const variable_list &) {
      arrived(i, param, part, buckets_[bucket]);
      return outputs;
    };
    hooks_.emplace_back(node, node->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(std::move(hook))));
  }

  void arm() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto &b : buckets_)
      b.missing = b.size;
    here_.assign(here_.size(), false);
    started_.clear();
    failed_ = nullptr;
    armed_ = true;
  }

  // take ends the watch over a pass and returns the sums that are under way, those
  // of the first buckets.
  std::vector<Work> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    armed_ = false;
    if (failed_)
      std::rethrow_exception(std::exchange(failed_, nullptr));
    return std::exchange(started_, {});
  }

private:
  // What fails is told by take: backward has nothing to do with it.
  void arrived(size_t i, const at::Tensor &param, const at::Tensor &part, Bucket &bucket) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!armed_ || failed_)
      return;
    try {
      TORCH_CHECK(!here_[i], "a gradient was made twice in a pass");
      here_[i] = true;
      const at::NoGradGuard guard;
      part.copy_(param.grad());
      --bucket.missing;
      // In the order of all ranks, which may come to their gradients in another.
      while (started_.size() < buckets_.size() && buckets_[started_.size()].missing == 0) {
        std::vector<at::Tensor> one{buckets_[started_.size()].flat};
        started_.push_back(group_->allreduce(one));
      }
    } catch (...) {
      failed_ = std::current_exception();
    }
  }

  Backend group_;
  std::vector<Bucket> buckets_;
  std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, uintptr_t>> hooks_;

  std::mutex mutex_;
  bool armed_ = false;
  std::vector<char> here_; // by parameter
  std::vector<Work> started_;
  std::exception_ptr failed_;
};

} // namespace

// counts are of the parameters of each bucket, and params and parts theirs, one
// bucket's after another's.
KOALA_API int koala_watch_open(koala_group g, int buckets, const koala_tensor *flats, const int *counts, const koala_tensor *params,
                               const koala_tensor *parts, koala_watch *out) {
  return guard([&] {
    std::vector<Bucket> all;
    for (int b = 0; b < buckets; b++)
      all.push_back({ref(flats[b]), counts[b]});
    auto watch = std::make_unique<Watch>(*static_cast<Backend *>(g), std::move(all));
    for (int b = 0, i = 0; b < buckets; b++)
      for (const int end = i + counts[b]; i < end; i++)
        watch->follow(ref(params[i]), ref(parts[i]), b);
    *out = watch.release();
  });
}

KOALA_API void koala_watch_close(koala_watch w) { delete static_cast<Watch *>(w); }

KOALA_API void koala_watch_arm(koala_watch w) { static_cast<Watch *>(w)->arm(); }

// works has room for one of each bucket.
KOALA_API int koala_watch_take(koala_watch w, koala_work *works, int *count) {
  return guard([&] {
    *count = 0;
    for (auto &work : static_cast<Watch *>(w)->take())
      works[(*count)++] = new Work(std::move(work));
  });
}
