// What the differentiable operators share: the choice between our kernels and libtorch's
// operators, and tensors that forward saves for backward.
#pragma once
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <initializer_list>
#include <optional>

#include "common.h"
#include "layers.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// given is how autograd takes an optional tensor, or_undefined the way back.
inline std::optional<Tensor> given(const Tensor &t) { return t.defined() ? std::optional<Tensor>(t) : std::nullopt; }
inline Tensor or_undefined(const std::optional<Tensor> &t) { return t.has_value() ? *t : Tensor(); }

// A Path is the way an operator is computed.
enum class Path {
  Fused,       // by our kernel; a branch's norm, dropout and residual sum are operators beside it
  FusedBranch, // by our kernel, together with the branch's norm and residual sum
  Operators,   // by libtorch's operators: other devices, types, precisions
};

// How our kernel for an operator meets autocast, which lowers the precision of products.
enum class Autocast {
  Operators, // it makes float32 products only, and gives way
  Fused,     // it heeds autocast itself, or makes no products, or is faster all the same
};

// Fit is what a kernel can do with the sizes at hand.
struct Fit {
  bool fused = true;   // it takes them
  bool branch = false; // it takes the branch too
};

// lowered says whether products on the CPU are to be made in bfloat16.
inline bool lowered() { return at::autocast::is_autocast_enabled(at::kCPU); }

// choose decides for every operator alike: kernels are for float32 numbers on the CPU, at
// least one, laid out in memory in the strided way. Undefined tensors do not count.
inline Path choose(std::initializer_list<Tensor> tensors, Autocast autocast, Fit fit = {}) {
  if (!fit.fused || (autocast == Autocast::Operators && lowered()))
    return Path::Operators;
  for (const Tensor &t : tensors)
    if (t.defined() && !(t.is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided && t.numel() > 0))
      return Path::Operators;
  return fit.branch ? Path::FusedBranch : Path::Fused;
}

// records says whether a call on these tensors is to be differentiated.
inline bool records(std::initializer_list<Tensor> tensors) {
  if (!c10::GradMode::is_enabled())
    return false;
  for (const Tensor &t : tensors)
    if (t.defined() && t.requires_grad())
      return true;
  return false;
}

// An operator declares the tensors it saves as a struct, whose all() lists its members.
// Inputs and outputs go through save_for_backward, which notices when they are changed in
// between.
template <typename S> void save(AutogradContext *ctx, S saved) {
  variable_list list;
  for (Tensor *t : saved.all())
    list.push_back(*t);
  ctx->save_for_backward(std::move(list));
}

template <typename S> S saved(AutogradContext *ctx) {
  const variable_list list = ctx->get_saved_variables();
  S s;
  size_t i = 0;
  for (Tensor *t : s.all())
    *t = list[i++];
  return s;
}

// Buffers are neither inputs nor outputs. They belong to backward, which may overwrite
// them and frees them: there is no second backward.
template <typename B> void hold(AutogradContext *ctx, B buffers) {
  std::vector<Tensor> list;
  for (Tensor *t : buffers.all())
    list.push_back(*t);
  ctx->saved_data["buffers"] = std::move(list);
}

template <typename B> B take(AutogradContext *ctx, const char *op) {
  TORCH_CHECK(ctx->saved_data.count("buffers") != 0, op, ": backward a second time: its buffers are gone");
  const std::vector<Tensor> list = ctx->saved_data["buffers"].toTensorVector();
  ctx->saved_data.erase("buffers");
  B b;
  size_t i = 0;
  for (Tensor *t : b.all())
    *t = list[i++];
  return b;
}

} // namespace koala
