// Causal self-attention of a Transformer's block, with the linear layers around it:
// out attention(in x). Queries, keys and values of a token lie in one row. The whole
// may be a branch of the residual stream (branch.h).
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>
#include <memory>

#include "branch.h"
#include "simd_math.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// The scores of a head are kept as [keys, queries], so that sums over keys run
// along vectors of queries. Key j is seen by the queries from j on; the loops
// begin at the first of j's vector.
static int64_t first_query(int64_t j) { return j / 16 * 16; }

// softmax_causal turns scores [T, T] into the weights of what each query sees.
KOALA_SIMD static void softmax_causal(float *__restrict scores, int64_t length, float scale, float *__restrict top, float *__restrict sum) {
  std::fill_n(top, length, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, length, 0.0f);
  for (int64_t j = 0; j < length; j++) {
    float *__restrict row = scores + j * length;
    std::fill(row + first_query(j), row + j, -std::numeric_limits<float>::infinity());
#pragma omp simd
    for (int64_t i = first_query(j); i < length; i++)
      top[i] = row[i] > top[i] ? row[i] : top[i];
  }
  for (int64_t j = 0; j < length; j++) {
    float *__restrict row = scores + j * length;
#pragma omp simd
    for (int64_t i = first_query(j); i < length; i++) {
      row[i] = exp_nonpositive((row[i] - top[i]) * scale);
      sum[i] += row[i];
    }
  }
#pragma omp simd
  for (int64_t i = 0; i < length; i++)
    sum[i] = 1.0f / sum[i];
  for (int64_t j = 0; j < length; j++) {
    float *__restrict row = scores + j * length;
    std::fill_n(row, first_query(j), 0.0f);
#pragma omp simd
    for (int64_t i = first_query(j); i < length; i++)
      row[i] *= sum[i];
  }
}

// softmax_backward turns d, the gradient of the weights w, into that of the scores.
KOALA_SIMD static void softmax_backward(const float *__restrict w, float *__restrict d, int64_t length, float scale, float *__restrict sum) {
  std::fill_n(sum, length, 0.0f);
  for (int64_t j = 0; j < length; j++) {
    const float *__restrict row = w + j * length, *__restrict d_row = d + j * length;
#pragma omp simd
    for (int64_t i = first_query(j); i < length; i++)
      sum[i] += row[i] * d_row[i];
  }
  for (int64_t j = 0; j < length; j++) {
    const float *__restrict row = w + j * length;
    float *__restrict d_row = d + j * length;
    std::fill_n(d_row, first_query(j), 0.0f);
#pragma omp simd
    for (int64_t i = first_query(j); i < length; i++)
      d_row[i] = row[i] * (d_row[i] - sum[i]) * scale;
  }
}

// Heads is one sequence's rows [T, 3 D] of queries, keys and values, or of their
// gradients.
struct Heads {
  Matrix rows;
  int64_t width; // of a head
  Matrix part(int64_t which, int64_t head) const {
    return {rows.p + which * rows.columns / 3 + head * width, rows.rows, width, rows.step};
  }
  Matrix q(int64_t head) const { return part(0, head); }
  Matrix k(int64_t head) const { return part(1, head); }
  Matrix v(int64_t head) const { return part(2, head); }
};

// ShortAttention is for contexts so short that a head's scores stay near, and for
// weights that do: a few sequences at a time go through all of it.
struct ShortAttention : torch::autograd::Function<ShortAttention> {
  static constexpr int64_t longest = 256; // tokens: 256 KiB of scores

  static Chunks chunks(const Tensor &x, const Tensor &in, const Tensor &out) {
    return chunks_of(x.size(0), x.size(1), in.numel() + out.numel());
  }

  // What a thread needs for one head: weights and their gradient [T, T], and sums
  // over keys.
  struct Scratch {
    explicit Scratch(int64_t length, int64_t matrices)
        : memory(new float[length * (matrices * length + 2)]), w(dense(memory.get(), length, length)), dw(dense(w.p + length * length, length, length)),
          sums(w.p + matrices * length * length) {}
    const std::unique_ptr<float[]> memory;
    const Matrix w, dw;
    float *const sums;
  };

  static float scale(const Heads &seq) { return 1.0f / std::sqrt(static_cast<float>(seq.width)); }

  // The attention weights of a head.
  static void weigh(const Scratch &s, const Heads &seq, int64_t head) {
    multiply(s.w, seq.k(head), seq.q(head).t());
    softmax_causal(s.w.p, s.w.rows, scale(seq), s.sums, s.sums + s.w.rows);
  }

  static Variable forward(AutogradContext *ctx, const Variable &input, const std::optional<Tensor> &maybe_gain,
                          const std::optional<Tensor> &maybe_shift, double eps, const Variable &in, const std::optional<Tensor> &in_bias,
                          const Variable &out, const std::optional<Tensor> &out_bias, int64_t heads) {
    const Tensor x = input.contiguous(), y = at::empty_like(x), seen = at::empty_like(x);
    const int64_t length = x.size(1), embed = x.size(2), width = embed / heads;
    const Tensor qkv = at::empty({x.size(0) * length, 3 * embed}, x.options());
    const Matrix QKV = matrix(qkv), S = matrix(seen), Y = matrix(y), In = matrix(in), Out = matrix(out);
    const Tensor in_b = or_undefined(in_bias), out_b = or_undefined(out_bias), gain = or_undefined(maybe_gain), shift = or_undefined(maybe_shift);
    const Chunks c = chunks(x, in, out);
    const Branch branch(x, gain, shift, eps, c, length);
    c.each([&](int64_t share, int64_t first, int64_t sequences) {
      const int64_t from = first * length, n = sequences * length;
      affine(QKV.part(from, n), branch.in(share, from, n), In, in_b);
      const Scratch scratch(length, 1);
      for (int64_t at = from; at < from + n; at += length) {
        const Heads seq{QKV.part(at, length), width};
        for (int64_t h = 0; h < heads; h++) {
          weigh(scratch, seq, h);
          multiply(S.part(at, length).columns_from(h * width, width), scratch.w.t(), seq.v(h));
        }
      }
      branch.out(Y.part(from, n), from, S.part(from, n), Out, out_b);
    });
    ctx->save_for_backward({x, in, in_b, out, out_b, gain, shift});
    // Neither inputs nor outputs: they may live outside save_for_backward.
    ctx->saved_data["qkv"] = qkv;
    ctx->saved_data["seen"] = seen;
    ctx->saved_data["heads"] = heads;
    if (branch.normed())
      ctx->saved_data["measures"] = branch.measures();
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &in = saved[1], &out = saved[3], qkv = ctx->saved_data["qkv"].toTensor(), seen = ctx->saved_data["seen"].toTensor(),
                 &gain = saved[5], &shift = saved[6], measures = gain.defined() ? ctx->saved_data["measures"].toTensor() : gain;
    const int64_t length = x.size(1), embed = x.size(2), heads = ctx->saved_data["heads"].toInt(), width = embed / heads;
    const Chunks c = chunks(x, in, out);
    const Tensor dy = grads[0].contiguous(), dx = at::empty_like(x),
                 buffers = at::empty({c.shares, c.height() * length, 4 * embed}, x.options());
    const Branch branch(x, gain, shift, measures, c, length);
    const Matrix QKV = matrix(qkv), S = matrix(seen), DY = matrix(dy), DX = matrix(dx), In = matrix(in), Out = matrix(out);
    Gradient d_in(in, c.shares), d_in_bias(saved[2], c.shares), d_out(out, c.shares), d_out_bias(saved[4], c.shares);
    c.each([&](int64_t share, int64_t first, int64_t sequences) {
      const int64_t from = first * length, n = sequences * length;
      float *const free = buffers.select(0, share).mutable_data_ptr<float>();
      const Matrix d_seen = dense(free, n, embed), d_qkv = dense(free + n * embed, n, 3 * embed);
      multiply(d_seen, DY.part(from, n), Out);
      const Scratch scratch(length, 2);
      for (int64_t at = 0; at < n; at += length) {
        const Heads seq{QKV.part(from + at, length), width}, d{d_qkv.part(at, length), width};
        for (int64_t h = 0; h < heads; h++) {
          const Matrix ds = d_seen.part(at, length).columns_from(h * width, width);
          weigh(scratch, seq, h);
          multiply(d.v(h), scratch.w, ds);
          multiply(scratch.dw, seq.v(h), ds.t());
          softmax_backward(scratch.w.p, scratch.dw.p, length, scale(seq), scratch.sums);
          multiply(d.q(h), scratch.dw.t(), seq.k(h));
          multiply(d.k(h), scratch.dw, seq.q(h));
        }
      }
      const Matrix d_x = branch.gradient_in(share, DX.part(from, n));
      multiply(d_x, d_qkv, In);
      branch.back(share, from, d_x, DY.part(from, n), DX.part(from, n));
      d_in.add(share, d_qkv, branch.in(share, from, n));
      d_in_bias.add(share, d_qkv);
      d_out.add(share, DY.part(from, n), S.part(from, n));
      d_out_bias.add(share, DY.part(from, n));
    });
    return {dx, branch.d_gain.total(), branch.d_shift.total(), Tensor(), d_in.total(), d_in_bias.total(), d_out.total(), d_out_bias.total(), Tensor()};
  }
};

// heads_of views part k of qkv [B, T, 3, H, W] as [B, H, T, W].
static Tensor heads_of(const Tensor &qkv, int64_t k) { return qkv.select(2, k).transpose(1, 2); }

// FlashAttention is attention from one tensor of queries, keys and values by
// libtorch's kernel. Left to its own, autograd would take their gradients apart,
// pad each with zeros to the size of all three and add those up.
struct FlashAttention : torch::autograd::Function<FlashAttention> {
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

// x [B, T, D]; in [3 D, D] makes queries, keys and values in a row, out is [D, D];
// biases may be null. dropout zeroes attention weights. With a gain it is a branch,
// whose branch_dropout zeroes elements of what comes back.
KOALA_API int koala_self_attention(koala_tensor x_, koala_tensor gain_, koala_tensor shift_, double eps, koala_tensor in_, koala_tensor in_bias_,
                                   koala_tensor out_, koala_tensor out_bias_, int64_t heads, double dropout, double branch_dropout,
                                   koala_tensor *y) {
  return guard([&] {
    const at::Tensor x = ref(x_), gain = optional(gain_), shift = optional(shift_), in = ref(in_), in_bias = optional(in_bias_), out = ref(out_),
                     out_bias = optional(out_bias_);
    TORCH_CHECK(x.dim() == 3 && x.size(2) % heads == 0, "self_attention: ", x.sizes(), " is not [batch, time, ", heads, " heads x width]");
    TORCH_CHECK(in.dim() == 2 && in.size(0) == 3 * x.size(2) && in.size(1) == x.size(2) && out.dim() == 2 && out.size(0) == x.size(2) && out.size(1) == x.size(2),
                "self_attention: weights ", in.sizes(), " and ", out.sizes(), " do not fit ", x.sizes());
    check_bias(in_bias, in);
    check_bias(out_bias, out);
    check_branch(x, gain, shift);
    const bool fast = fused(x) && in.scalar_type() == at::kFloat && dropout == 0 && x.numel() > 0;
    const bool near = fast && x.size(1) <= ShortAttention::longest && stay_near(in.numel() + out.numel());
    const auto apply = [&](const at::Tensor &x, const at::Tensor &gain, const at::Tensor &shift) -> at::Tensor {
      if (near)
        return ShortAttention::apply(x, given(gain), given(shift), eps, in, given(in_bias), out, given(out_bias), heads);
      const at::Tensor qkv = at::linear(x, in, in_bias).view({x.size(0), x.size(1), 3, heads, -1});
      const at::Tensor seen = fast ? FlashAttention::apply(qkv)
                                   : at::scaled_dot_product_attention(heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), std::nullopt, dropout, true)
                                         .transpose(1, 2).reshape(x.sizes());
      return at::linear(seen, out, out_bias);
    };
    if (!gain.defined() || (near && fused(gain) && branch_dropout == 0))
      *y = handle(apply(x, gain, shift));
    else
      *y = handle(x + dropped(apply(norm(x, gain, shift, eps), {}, {}), branch_dropout));
  });
}
