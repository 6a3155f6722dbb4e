// Attention: causal self-attention of a Transformer's block together with the linear
// layers around it, out attention(in x), and attention of queries to the keys of a cache.
// Queries, keys and values of a token lie in one row. Self-attention may be a branch of
// the residual stream (branch.h).
#include <cmath>
#include <limits>
#include <memory>

#include "lowered.h"
#include "simd_math.h"

namespace koala {

namespace {

// The scores of a head are kept as [keys, queries], so that sums over keys run along
// vectors of queries. Key j is seen by the queries from j on; the loops begin at the
// first query of j's vector.
constexpr int64_t lanes = 16; // float32 numbers in the widest vector, of AVX-512
__attribute__((always_inline)) inline int64_t first_query(int64_t j) { return j / lanes * lanes; }

// softmax_causal turns scores [T, T] into weights: each query's add up to 1 over the keys
// that it sees.
KOALA_KERNEL(void, softmax_causal, float *__restrict scores, int64_t length, float scale, float *__restrict top,
             float *__restrict sum) {
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

// softmax_backward turns d, the gradient of the weights w, into the gradient of the
// scores.
KOALA_KERNEL(void, softmax_backward, const float *__restrict w, float *__restrict d, int64_t length, float scale,
             float *__restrict sum) {
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

// Heads are the rows [T, 3 D] of queries, keys and values of one sequence, or the
// gradients of these.
template <typename T> struct Heads {
  MatrixOf<T> rows;
  int64_t width; // of a head

  MatrixOf<T> q(int64_t head) const { return part(0, head); }
  MatrixOf<T> k(int64_t head) const { return part(1, head); }
  MatrixOf<T> v(int64_t head) const { return part(2, head); }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(width)); }

private:
  MatrixOf<T> part(int64_t which, int64_t head) const {
    return rows.columns_from(which * rows.columns / 3 + head * width, width);
  }
};

// The weights and the norm of self-attention.
struct AttentionLayer {
  Stream stream;
  Linear in, out;
  int64_t heads;

  int64_t elements() const { return in.weight.numel() + out.weight.numel(); }

  void check(const Tensor &x) const {
    TORCH_CHECK(x.dim() == 3 && x.size(2) % heads == 0, "self_attention: ", x.sizes(), " is not [batch, time, ", heads,
                " heads x width]");
    const Tensor &i = in.weight, &o = out.weight;
    TORCH_CHECK(i.dim() == 2 && i.size(0) == 3 * x.size(2) && i.size(1) == x.size(2) && o.dim() == 2 &&
                    o.size(0) == x.size(2) && o.size(1) == x.size(2),
                "self_attention: weights ", i.sizes(), " and ", o.sizes(), " do not fit ", x.sizes());
    in.check();
    out.check();
    stream.check(x);
  }
};

// ShortAttention takes a few sequences at a time through all of self-attention. It is for
// contexts whose scores of a head, and for weights, that stay in a core's cache.
struct ShortAttention : torch::autograd::Function<ShortAttention> {
  static constexpr int64_t longest = 256; // tokens: 256 KiB of scores

  static bool fits(const Tensor &x, const AttentionLayer &l) { return x.size(1) <= longest && cached(l.elements()); }

  struct Saved {
    Tensor x, gain, shift, in, in_bias, out, out_bias;
    std::array<Tensor *, 7> all() { return {&x, &gain, &shift, &in, &in_bias, &out, &out_bias}; }
    AttentionLayer layer(int64_t heads) const {
      return {Stream(gain, shift, 0), Linear(in, in_bias), Linear(out, out_bias), heads};
    }
  };
  struct Buffers {
    Tensor qkv, seen, measures; // [B T, 3 D]; the heads' results [B, T, D]
    std::array<Tensor *, 3> all() { return {&qkv, &seen, &measures}; }
  };

  // Scratch is a thread's memory for one head: weights and their gradient [T, T], and sums
  // over keys.
  struct Scratch {
    Scratch(int64_t length, int64_t matrices)
        : memory(new float[length * (matrices * length + 2)]), w(dense(memory.get(), length, length)),
          dw(dense(w.p + length * length, length, length)), sums(w.p + matrices * length * length) {}
    const std::unique_ptr<float[]> memory;
    const Matrix w, dw;
    float *const sums;
  };

  // weigh writes the attention weights of a head.
  static void weigh(const Scratch &s, const Heads<const float> &seq, int64_t head) {
    multiply(s.w, seq.k(head), seq.q(head).t());
    softmax_causal(s.w.p, s.w.rows, seq.scale(), s.sums, s.sums + s.w.rows);
  }

  static Variable apply_to(const Tensor &x, const AttentionLayer &l) {
    return apply(x, given(l.stream.gain), given(l.stream.shift), l.stream.eps, l.in.weight, given(l.in.bias),
                 l.out.weight, given(l.out.bias), l.heads);
  }

  static Variable forward(AutogradContext *ctx, const Variable &input, const std::optional<Tensor> &gain,
                          const std::optional<Tensor> &shift, double eps, const Variable &in,
                          const std::optional<Tensor> &in_bias, const Variable &out,
                          const std::optional<Tensor> &out_bias, int64_t heads) {
    const Saved s{input.contiguous(),    or_undefined(gain), or_undefined(shift), in,
                  or_undefined(in_bias), out,                or_undefined(out_bias)};
    AttentionLayer l = s.layer(heads);
    l.stream.eps = eps;
    const Tensor &x = s.x, y = at::empty_like(x), seen = at::empty_like(x);
    const int64_t length = x.size(1), embed = x.size(2), width = embed / heads;
    const Tensor qkv = at::empty({x.size(0) * length, 3 * embed}, x.options());
    const Matrix QKV = mutable_matrix(qkv), S = mutable_matrix(seen), Y = mutable_matrix(y);
    const Chunks chunks = chunks_of(x.size(0), length, l.elements());
    Branch branch(x, l.stream, chunks, length);
    chunks.each([&](int64_t share, int64_t first, int64_t sequences) {
      const int64_t from = first * length, n = sequences * length;
      l.in.apply(QKV.part(from, n), branch.in(share, from, n));
      const Scratch scratch(length, 1);
      for (int64_t at = from; at < from + n; at += length) {
        const Heads<const float> seq{QKV.part(at, length), width};
        for (int64_t h = 0; h < heads; h++) {
          weigh(scratch, seq, h);
          multiply(S.part(at, length).columns_from(h * width, width), scratch.w.t(), seq.v(h));
        }
      }
      branch.out(Y.part(from, n), from, S.part(from, n), l.out);
    });
    save(ctx, s);
    hold(ctx, Buffers{qkv, seen, branch.measures()});
    ctx->saved_data["heads"] = heads;
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Saved s = saved<Saved>(ctx);
    const Buffers b = take<Buffers>(ctx, "self_attention");
    const AttentionLayer l = s.layer(ctx->saved_data["heads"].toInt());
    const int64_t length = s.x.size(1), embed = s.x.size(2), width = embed / l.heads;
    const Chunks chunks = chunks_of(s.x.size(0), length, l.elements());
    const Tensor dy = grads[0].contiguous(), dx = at::empty_like(s.x);
    const Tensor buffers = at::empty({chunks.shares, chunks.height() * length, 4 * embed}, s.x.options());
    Branch branch(s.x, l.stream, b.measures, chunks, length);
    const ConstMatrix QKV = matrix(b.qkv), S = matrix(b.seen), DY = matrix(dy);
    const Matrix DX = mutable_matrix(dx);
    LinearGradient d_in(l.in, chunks.shares), d_out(l.out, chunks.shares);
    chunks.each([&](int64_t share, int64_t first, int64_t sequences) {
      const int64_t from = first * length, n = sequences * length;
      float *const free = buffers.select(0, share).mutable_data_ptr<float>();
      const Matrix d_seen = dense(free, n, embed), d_qkv = dense(free + n * embed, n, 3 * embed);
      multiply(d_seen, DY.part(from, n), matrix(l.out.weight));
      const Scratch scratch(length, 2);
      for (int64_t at = 0; at < n; at += length) {
        const Heads<const float> seq{QKV.part(from + at, length), width};
        const Heads<float> d{d_qkv.part(at, length), width};
        for (int64_t h = 0; h < l.heads; h++) {
          const Matrix ds = d_seen.part(at, length).columns_from(h * width, width);
          weigh(scratch, seq, h);
          multiply(d.v(h), scratch.w, ds);
          multiply(scratch.dw, seq.v(h), ds.t());
          softmax_backward(scratch.w.p, scratch.dw.p, length, seq.scale(), scratch.sums);
          multiply(d.q(h), scratch.dw.t(), seq.k(h));
          multiply(d.k(h), scratch.dw, seq.q(h));
        }
      }
      const Matrix d_x = branch.gradient_in(share, DX.part(from, n));
      multiply(d_x, d_qkv, matrix(l.in.weight));
      branch.back(share, from, d_x, DY.part(from, n), DX.part(from, n));
      d_in.add(share, d_qkv, branch.in(share, from, n));
      d_out.add(share, DY.part(from, n), S.part(from, n));
    });
    return {dx,
            branch.d_gain.total(),
            branch.d_shift.total(),
            Tensor(),
            d_in.weight.total(),
            d_in.bias.total(),
            d_out.weight.total(),
            d_out.bias.total(),
            Tensor()};
  }
};

// heads_of views part which, 0 for q, 1 for k, 2 for v, of qkv [B, T, 3, H, W] as
// [B, H, T, W].
Tensor heads_of(const Tensor &qkv, int64_t which) { return qkv.select(2, which).transpose(1, 2); }

// FlashAttention is attention from one tensor of queries, keys and values by libtorch's
// kernel. autograd would take the gradients of the three parts, pad each with zeros to
// the size of all three and add them up.
struct FlashAttention : torch::autograd::Function<FlashAttention> {
  struct Saved {
    Tensor qkv;
    std::array<Tensor *, 1> all() { return {&qkv}; }
  };
  struct Buffers {
    Tensor out, log_sums;
    std::array<Tensor *, 2> all() { return {&out, &log_sums}; }
  };

  static Variable forward(AutogradContext *ctx, const Variable &qkv) {
    const auto [out, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(
        heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), 0.0, true);
    save(ctx, Saved{qkv});
    hold(ctx, Buffers{out, log_sums});
    return out.transpose(1, 2).reshape({qkv.size(0), qkv.size(1), -1});
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Tensor qkv = saved<Saved>(ctx).qkv;
    const Buffers b = take<Buffers>(ctx, "self_attention");
    const Tensor dy =
        grads[0].reshape({qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4)}).transpose(1, 2);
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        dy, heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), b.out, b.log_sums, 0.0, true);
    Tensor d = at::empty_like(qkv);
    heads_of(d, 0).copy_(dq);
    heads_of(d, 1).copy_(dk);
    heads_of(d, 2).copy_(dv);
    return {d};
  }
};

// LowAttention is self-attention with products of bfloat16 numbers, attention itself by
// libtorch's kernel.
struct LowAttention : torch::autograd::Function<LowAttention> {
  struct Saved {
    Tensor x, gain, shift, in, in_bias, out, out_bias;
    std::array<Tensor *, 7> all() { return {&x, &gain, &shift, &in, &in_bias, &out, &out_bias}; }
  };
  struct Buffers { // of bfloat16 but for the measures and the sums' logarithms
    Tensor input, qkv, seen, log_sums, in, out, measures; // qkv [B, T, 3, H, W], seen [B, H, T, W]
    std::array<Tensor *, 7> all() { return {&input, &qkv, &seen, &log_sums, &in, &out, &measures}; }
  };

  static Variable apply_to(const Tensor &x, const AttentionLayer &l) {
    return apply(x, given(l.stream.gain), given(l.stream.shift), l.stream.eps, l.in.weight, given(l.in.bias),
                 l.out.weight, given(l.out.bias), l.heads);
  }

  // The heads' results [B, H, T, W] as rows [B T, D], and the way back.
  static Tensor rows_of(const Tensor &heads) {
    return heads.transpose(1, 2).reshape({heads.size(0) * heads.size(2), heads.size(1) * heads.size(3)});
  }
  static Tensor heads_from(const Tensor &rows, const Tensor &like) {
    return rows.view({like.size(0), like.size(2), like.size(1), like.size(3)}).transpose(1, 2);
  }

  static Variable forward(AutogradContext *ctx, const Variable &input, const std::optional<Tensor> &gain,
                          const std::optional<Tensor> &shift, double eps, const Variable &in,
                          const std::optional<Tensor> &in_bias, const Variable &out,
                          const std::optional<Tensor> &out_bias, int64_t heads) {
    const Saved s{input.contiguous(),    or_undefined(gain), or_undefined(shift), in,
                  or_undefined(in_bias), out,                or_undefined(out_bias)};
    LowBranch branch{s.x, Stream(s.gain, s.shift, eps), {}};
    Buffers b;
    b.input = branch.in();
    b.measures = branch.measures;
    b.in = low(in), b.out = low(out);
    b.qkv = at::linear(b.input, b.in, low(s.in_bias)).view({s.x.size(0), s.x.size(1), 3, heads, -1});
    std::tie(b.seen, b.log_sums) = at::_scaled_dot_product_flash_attention_for_cpu(
        heads_of(b.qkv, 0), heads_of(b.qkv, 1), heads_of(b.qkv, 2), 0.0, true);
    save(ctx, s);
    hold(ctx, b);
    return branch.out(at::mm(rows_of(b.seen), b.out.t()), s.out_bias);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Saved s = saved<Saved>(ctx);
    const Buffers b = take<Buffers>(ctx, "self_attention");
    const LowBranch branch{s.x, Stream(s.gain, s.shift, 0), b.measures};
    const Tensor dy = grads[0].contiguous(), out = low(dy).view({branch.rows(), branch.width()});
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        heads_from(at::mm(out, b.out), b.seen), heads_of(b.qkv, 0), heads_of(b.qkv, 1), heads_of(b.qkv, 2), b.seen,
        b.log_sums, 0.0, true);
    Tensor parts = at::empty_like(b.qkv);
    heads_of(parts, 0).copy_(dq);
    heads_of(parts, 1).copy_(dk);
    heads_of(parts, 2).copy_(dv);
    const Tensor d_qkv = parts.view({branch.rows(), 3 * branch.width()});
    const LowBranch::Gradients g = branch.back(at::mm(d_qkv, b.in), dy);
    return {g.x,
            g.gain,
            g.shift,
            Tensor(),
            low_gradient(d_qkv, b.input),
            s.in_bias.defined() ? d_qkv.sum(0, false, at::kFloat) : Tensor(),
            low_gradient(out, rows_of(b.seen)),
            bias_gradient(dy, s.out_bias),
            Tensor()};
  }
};

// self_attention_of x, without a branch; flash says whether FlashAttention takes it.
Tensor self_attention_of(const Tensor &x, const AttentionLayer &l, double dropout, bool flash) {
  const Tensor qkv = l.in(x).view({x.size(0), x.size(1), 3, l.heads, -1});
  if (flash)
    return l.out(FlashAttention::apply(qkv));
  const Tensor seen = at::scaled_dot_product_attention(heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2),
                                                       std::nullopt, dropout, true);
  return l.out(seen.transpose(1, 2).reshape(x.sizes()));
}

} // namespace

} // namespace koala

using namespace koala;

KOALA_API int koala_self_attention(const koala_self_attention_inputs *in, koala_tensor *out) {
  return guard([&] {
    const Tensor x = ref(in->x);
    const AttentionLayer l{Stream(in->branch), Linear(in->in), Linear(in->out), in->heads};
    l.check(x);
    const bool whole = lowered() || ShortAttention::fits(x, l);
    const Path path = choose({x, l.in.weight, l.out.weight, l.stream.gain, l.stream.shift}, Autocast::Fused,
                             {.fused = in->dropout == 0, .branch = whole && l.stream.dropout == 0});
    const auto kernel = lowered() ? LowAttention::apply_to : ShortAttention::apply_to;
    const auto alone = [&](const Tensor &x) {
      return path == Path::Operators || !whole ? self_attention_of(x, l, in->dropout, path != Path::Operators)
                                               : kernel(x, {{}, l.in, l.out, l.heads});
    };
    *out = handle(path == Path::FusedBranch ? kernel(x, l) : l.stream.apply(x, alone));
  });
}

KOALA_API int koala_attention(const koala_attention_inputs *in, koala_tensor *out) {
  return guard([&] {
    const Tensor q = ref(in->q), k = ref(in->k), v = ref(in->v);
    TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4, "attention: expected 4 dimensions, got ", q.sizes(), ", ",
                k.sizes(), " and ", v.sizes());
    TORCH_CHECK(k.size(2) == in->from + q.size(2), "attention: ", q.size(2), " queries after ", in->from, " and ",
                k.size(2), " keys");
    std::optional<Tensor> mask;
    if (in->from > 0 && q.size(2) > 1)
      mask = at::ones({q.size(2), k.size(2)}, q.options().dtype(at::kBool)).tril_(in->from);
    // A single query sees all keys: no mask at all.
    const bool causal = in->from == 0 && q.size(2) > 1;
    const bool shared = k.size(1) != q.size(1);
    *out = handle(at::scaled_dot_product_attention(q, k, v, mask, in->dropout, causal, std::nullopt, shared));
  });
}
