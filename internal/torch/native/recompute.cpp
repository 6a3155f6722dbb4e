// Gradient checkpointing (Chen et al. 2016): a function keeps its input alone, and
// backward runs it again before it differentiates it.
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <mutex>
#include <optional>
#include <utility>

#include "common.h"

using namespace koala;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// The generators that dropout on a device draws from.
class Generators {
public:
  explicit Generators(at::Device device) {
    all_.push_back(at::globalContext().defaultGenerator(at::kCPU));
    if (device.is_cuda())
      all_.push_back(at::globalContext().defaultGenerator(device));
  }

  std::vector<at::Tensor> states() {
    std::vector<at::Tensor> states;
    for (auto &g : all_) {
      const std::lock_guard<std::mutex> lock(g.mutex());
      states.push_back(g.get_state());
    }
    return states;
  }

  void restore(const std::vector<at::Tensor> &states) {
    for (size_t i = 0; i < all_.size(); i++) {
      const std::lock_guard<std::mutex> lock(all_[i].mutex());
      all_[i].set_state(states[i]);
    }
  }

private:
  std::vector<at::Generator> all_;
};

// Autocast switches autocast for a while. Its cache of converted weights is off: forward
// would fill it with weights that have no history.
class Autocast {
public:
  Autocast(at::DeviceType device, bool on)
      : device_(device), on_(at::autocast::is_autocast_enabled(device)), cached_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_enabled(device, on);
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~Autocast() {
    at::autocast::set_autocast_enabled(device_, on_);
    at::autocast::set_autocast_cache_enabled(cached_);
  }

private:
  const at::DeviceType device_;
  const bool on_, cached_;
};

struct Result {
  at::Tensor y;
  std::string error;
};

at::Tensor call(koala_function f, uintptr_t id, const at::Tensor &x) {
  Result result;
  at::Tensor in = x;
  f(id, &in, &result);
  TORCH_CHECK(result.error.empty(), result.error);
  return result.y;
}

struct Recompute : torch::autograd::Function<Recompute> {
  // anchor requires a gradient, so that backward comes here even if x does not: f may
  // have parameters that do.
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, const at::Tensor & /*anchor*/, int64_t f, int64_t id) {
    const bool autocast = at::autocast::is_autocast_enabled(x.device().type());
    ctx->save_for_backward({x});
    ctx->saved_data["f"] = f;
    ctx->saved_data["id"] = id;
    ctx->saved_data["x requires grad"] = x.requires_grad();
    ctx->saved_data["autocast"] = autocast;
    ctx->saved_data["generators"] = Generators(x.device()).states();
    const Autocast same(x.device().type(), autocast);
    return call(reinterpret_cast<koala_function>(f), static_cast<uintptr_t>(id), x);
  }

  static variable_list backward(AutogradContext *ctx, variable_list dy) {
    const at::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(ctx->saved_data["x requires grad"].toBool());
    Generators generators(x.device());
    const auto now = generators.states();
    at::Tensor y;
    {
      const at::AutoGradMode grad(true);
      const Autocast same(x.device().type(), ctx->saved_data["autocast"].toBool());
      generators.restore(ctx->saved_data["generators"].toTensorVector());
      y = call(reinterpret_cast<koala_function>(ctx->saved_data["f"].toInt()), static_cast<uintptr_t>(ctx->saved_data["id"].toInt()), x);
      generators.restore(now);
    }
    if (y.requires_grad())
      torch::autograd::backward({y}, dy);
    return {x.grad(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

} // namespace

// Sets out to f(x), called with id. Backward calls f again, with the same random numbers.
KOALA_API int koala_recompute(koala_tensor x, koala_function f, uintptr_t id, koala_tensor *out) {
  return guard([&] {
    const at::Tensor anchor = at::empty({0}, ref(x).options()).requires_grad_(at::GradMode::is_enabled());
    *out = handle(Recompute::apply(ref(x), anchor, static_cast<int64_t>(reinterpret_cast<intptr_t>(f)), static_cast<int64_t>(id)));
  });
}

// A function gives its result, or why there is none, by calling this.
KOALA_API void koala_return(void *result, koala_tensor y, const char *error) {
  auto &r = *static_cast<Result *>(result);
  r.y = optional(y);
  if (error != nullptr)
    r.error = error;
}
