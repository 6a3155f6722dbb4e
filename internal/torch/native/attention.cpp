// Causal self-attention on libtorch's scaled dot-product attention.
#include <torch/csrc/autograd/custom_function.h>

#include "common.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// heads_of views part k of qkv [B, T, 3, H, W] as [B, H, T, W].
static Tensor heads_of(const Tensor &qkv, int64_t k) { return qkv.select(2, k).transpose(1, 2); }

// SelfAttention is attention from one tensor of queries, keys and values. Left to
// its own, autograd would take their gradients apart, pad each with zeros to the
// size of all three and add those up.
struct SelfAttention : torch::autograd::Function<SelfAttention> {
  static Variable forward(AutogradContext *ctx, const Variable &qkv) {
    const auto [out, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), 0.0, true);
    ctx->save_for_backward({qkv});
    ctx->saved_data["out"] = out;
    ctx->saved_data["log_sums"] = log_sums;
    return out.transpose(1, 2).reshape({qkv.size(0), qkv.size(1), -1});
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Tensor qkv = ctx->get_saved_variables()[0], out = ctx->saved_data["out"].toTensor(), log_sums = ctx->saved_data["log_sums"].toTensor();
    const Tensor dy = grads[0].reshape({qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4)}).transpose(1, 2);
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        dy, heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), out, log_sums, 0.0, true);
    Tensor d = at::empty_like(qkv);
    heads_of(d, 0).copy_(dq);
    heads_of(d, 1).copy_(dk);
    heads_of(d, 2).copy_(dv);
    return {d};
  }
};

} // namespace koala

using namespace koala;

// qkv [B, T, 3 H W], queries, keys and values in a row; out [B, T, H W].
KOALA_API int koala_self_attention(koala_tensor qkv_, int64_t heads, double dropout, koala_tensor *out) {
  return guard([&] {
    at::Tensor qkv = ref(qkv_);
    TORCH_CHECK(qkv.dim() == 3 && qkv.size(2) % (3 * heads) == 0, "self_attention: ", qkv.sizes(), " is not [batch, time, 3 x ", heads, " x width]");
    const int64_t batch = qkv.size(0), length = qkv.size(1);
    qkv = qkv.contiguous().view({batch, length, 3, heads, -1});
    if (fused(qkv) && dropout == 0) {
      *out = handle(SelfAttention::apply(qkv));
      return;
    }
    const at::Tensor y = at::scaled_dot_product_attention(heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), std::nullopt, dropout, true);
    *out = handle(y.transpose(1, 2).reshape({batch, length, -1}));
  });
}

// Attention for queries that follow what a cache holds: q [B, H, T, W]; k and v
// [B, G, from + T, W], where G divides H and each H/G neighbouring heads share
// keys and values. Query t sees the keys up to from + t.
KOALA_API int koala_attention(koala_tensor q_, koala_tensor k_, koala_tensor v_, int64_t from, double dropout, koala_tensor *out) {
  return guard([&] {
    const at::Tensor q = ref(q_), k = ref(k_), v = ref(v_);
    TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4, "attention: expected 4 dimensions, got ", q.sizes(), ", ", k.sizes(), " and ", v.sizes());
    TORCH_CHECK(k.size(2) == from + q.size(2), "attention: ", q.size(2), " queries after ", from, " and ", k.size(2), " keys");
    std::optional<at::Tensor> mask;
    if (from > 0 && q.size(2) > 1)
      mask = at::ones({q.size(2), k.size(2)}, q.options().dtype(at::kBool)).tril_(from);
    // A single query sees all keys: no mask at all.
    const bool causal = from == 0 && q.size(2) > 1;
    *out = handle(at::scaled_dot_product_attention(q, k, v, mask, dropout, causal, std::nullopt, k.size(1) != q.size(1)));
  });
}
