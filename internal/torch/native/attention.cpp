// Attention on libtorch's scaled dot-product attention.
#include "common.h"

using namespace koala;

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
