// Attention: causal self-attention of a Transformer's block together with the linear
// layers around it, out attention(in x), and attention of queries to the keys of a cache.
// Queries, keys and values of a token lie in one row. Self-attention may be a branch of
// the residual stream (branch.h).
#include <cmath>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

#include "blocks.h"
#include "simd_math.h"

namespace koala {

namespace {

// The scores of a head are kept as [keys, queries], so that sums over keys run along
// vectors of queries. Key j is seen by the queries from j on; the loops begin at the
// first query of j's vector.
constexpr int64_t lanes = 16; // float32 numbers in the widest vector, of AVX-512
__attribute__((always_inline)) inline int64_t first_query(int64_t j) { return j / lanes * lanes; }

// softmax_causal turns scores [T, T] into weights: each query's add up to 1 over the keys
// that it sees, from its first on. A null first is 0 for all.
KOALA_KERNEL(void, softmax_causal, float *__restrict scores, int64_t length, float scale, float *__restrict top,
             float *__restrict sum, const int32_t *__restrict first) {
  std::fill_n(top, length, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, length, 0.0f);
  for (int64_t j = 0; j < length; j++) {
    float *__restrict row = scores + j * length;
    std::fill(row + first_query(j), row + j, -std::numeric_limits<float>::infinity());
    if (first != nullptr)
#pragma omp simd
      for (int64_t i = j; i < length; i++)
        row[i] = first[i] > static_cast<int32_t>(j) ? -std::numeric_limits<float>::infinity() : row[i];
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

// firsts_of is the first key that each query sees, as int32 [B, T]; undefined where all see
// all.
Tensor firsts_of(const Tensor &first) { return first.defined() ? first.to(at::kInt).contiguous() : first; }

// firsts_in is its row of a sequence, or null.
const int32_t *firsts_in(const Tensor &firsts, int64_t sequence) {
  return firsts.defined() ? firsts.const_data_ptr<int32_t>() + sequence * firsts.size(1) : nullptr;
}

// visible says which of the keys [B or 1, 1, T, from + T] a query sees.
Tensor visible(const Tensor &first, int64_t window, int64_t from, int64_t queries, at::Device device) {
  const auto options = at::TensorOptions(device).dtype(at::kLong);
  const Tensor key = at::arange(from + queries, options), own = at::arange(from, from + queries, options).unsqueeze(1);
  Tensor seen = key.le(own);
  if (window > 0)
    seen = seen.logical_and(key.gt(own - window));
  if (!first.defined())
    return seen.unsqueeze(0).unsqueeze(0);
  return seen.logical_and(key.ge(first.unsqueeze(-1))).unsqueeze(1);
}

// The weights and the norm of self-attention, and the first key that each query sees.
struct AttentionLayer {
  Stream stream;
  Linear in, out;
  int64_t heads;
  Tensor first;

  int64_t elements() const { return in.weight.numel() + out.weight.numel(); }

  void check(const Tensor &x) const {
    TORCH_CHECK(x.dim() == 3 && x.size(2) % heads == 0, "self_attention: ", x.sizes(), " is not [batch, time, ", heads,
                " heads x width]");
    const Tensor &i = in.weight, &o = out.weight;
    TORCH_CHECK(i.dim() == 2 && i.size(0) == 3 * x.size(2) && i.size(1) == x.size(2) && o.dim() == 2 &&
                    o.size(0) == x.size(2) && o.size(1) == x.size(2),
                "self_attention: weights ", i.sizes(), " and ", o.sizes(), " do not fit ", x.sizes());
    TORCH_CHECK(!first.defined() || (first.dim() == 2 && first.size(0) == x.size(0) && first.size(1) == x.size(1)),
                "self_attention: first keys ", first.sizes(), " do not fit ", x.sizes());
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
      return {Stream(gain, shift, 0), Linear(in, in_bias), Linear(out, out_bias), heads, {}};
    }
  };
  struct Buffers {
    Tensor qkv, seen, measures, firsts; // [B T, 3 D]; the heads' results [B, T, D]
    std::array<Tensor *, 4> all() { return {&qkv, &seen, &measures, &firsts}; }
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
  static void weigh(const Scratch &s, const Heads<const float> &seq, int64_t head, const int32_t *firsts) {
    multiply(s.w, seq.k(head), seq.q(head).t());
    softmax_causal(s.w.p, s.w.rows, seq.scale(), s.sums, s.sums + s.w.rows, firsts);
  }

  static Variable apply_to(const Tensor &x, const AttentionLayer &l) {
    return apply(x, given(l.stream.gain), given(l.stream.shift), l.stream.eps, l.in.weight, given(l.in.bias),
                 l.out.weight, given(l.out.bias), l.heads, given(l.first));
  }

  static Variable forward(AutogradContext *ctx, const Variable &input, const std::optional<Tensor> &gain,
                          const std::optional<Tensor> &shift, double eps, const Variable &in,
                          const std::optional<Tensor> &in_bias, const Variable &out,
                          const std::optional<Tensor> &out_bias, int64_t heads, const std::optional<Tensor> &first) {
    const Saved s{input.contiguous(),    or_undefined(gain), or_undefined(shift), in,
                  or_undefined(in_bias), out,                or_undefined(out_bias)};
    AttentionLayer l = s.layer(heads);
    l.stream.eps = eps;
    const Tensor &x = s.x, y = at::empty_like(x), seen = at::empty_like(x);
    const int64_t length = x.size(1), embed = x.size(2), width = embed / heads;
    const Tensor qkv = at::empty({x.size(0) * length, 3 * embed}, x.options()), firsts = firsts_of(or_undefined(first));
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
          weigh(scratch, seq, h, firsts_in(firsts, at / length));
          multiply(S.part(at, length).columns_from(h * width, width), scratch.w.t(), seq.v(h));
        }
      }
      branch.out(Y.part(from, n), from, S.part(from, n), l.out);
    });
    save(ctx, s);
    hold(ctx, Buffers{qkv, seen, branch.measures(), firsts});
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
          weigh(scratch, seq, h, firsts_in(b.firsts, (from + at) / length));
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
            Tensor(),
            Tensor()};
  }
};

// heads_of views part which, 0 for q, 1 for k, 2 for v, of qkv [B, T, 3, H, W] as
// [B, H, T, W].
Tensor heads_of(const Tensor &qkv, int64_t which) { return qkv.select(2, which).transpose(1, 2); }

// Sight is what queries see: of their own key and the keys before it, those from the
// query's first on, and at most window. The first query's own key is number from.
struct Sight {
  Tensor firsts; // as firsts_of has them
  int64_t from = 0, window = 0; // 0: no limit

  bool all_before() const { return !firsts.defined() && window == 0; }

  int64_t first(int64_t sequence, int64_t query) const {
    const int32_t *const firsts_here = firsts_in(firsts, sequence);
    const int64_t first = firsts_here != nullptr ? firsts_here[query] : 0;
    return window > 0 ? std::max(first, from + query + 1 - window) : first;
  }
};

// QueryBlock is a block of neighbouring queries of one sequence, and the keys that at least
// one of them sees. Keys that none sees cost nothing, and a mask is as large as a block.
// Heads that share keys are one head with more queries.
struct QueryBlock {
  static constexpr int64_t longest = 128; // queries
  int64_t sequence, query, queries, key, keys;

  QueryBlock(const Sight &sight, int64_t sequence, int64_t query, int64_t all)
      : sequence(sequence), query(query), queries(std::min(longest, all - query)) {
    const int64_t end = sight.from + query + queries;
    key = end;
    for (int64_t i = query; i < query + queries; i++)
      key = std::min(key, sight.first(sequence, i));
    keys = end - key;
  }

  // each calls f with every block of queries [B, H, T, W].
  template <typename F> static void each(const Sight &sight, const Tensor &q, const F &f) {
    for (int64_t sequence = 0; sequence < q.size(0); sequence++)
      for (int64_t query = 0; query < q.size(2); query += longest)
        f(QueryBlock(sight, sequence, query, q.size(2)));
  }

  // mask is what is added to the scores, in a row for each query of each sharing head.
  Tensor mask(const Sight &sight, int64_t sharing) const {
    const Tensor mask = at::empty({1, 1, sharing, queries, keys}, at::kFloat);
    float *row = mask.mutable_data_ptr<float>();
    for (int64_t i = query; i < query + queries; i++, row += keys) {
      std::fill_n(row, keys, -std::numeric_limits<float>::infinity());
      std::fill(row + sight.first(sequence, i) - key, row + sight.from + i + 1 - key, 0.0f);
    }
    for (int64_t other = 1; other < sharing; other++)
      std::copy_n(mask.const_data_ptr<float>(), queries * keys, mask.mutable_data_ptr<float>() + other * queries * keys);
    return mask.view({1, 1, sharing * queries, keys});
  }

  // of_queries is the block's part of t [B, H, T, ...].
  Tensor of_queries(const Tensor &t) const { return t.narrow(0, sequence, 1).narrow(2, query, queries); }
  Tensor of_keys(const Tensor &t) const { return t.narrow(0, sequence, 1).narrow(2, key, keys); }

  // joined makes heads [1, H, n, ...] that share keys one head, [1, groups, H/groups n, ...].
  static Tensor joined(const Tensor &t, int64_t groups) {
    if (t.size(1) == groups)
      return t;
    std::vector<int64_t> shape = t.sizes().vec();
    shape[2] *= shape[1] / groups;
    shape[1] = groups;
    return t.reshape(shape);
  }
};

// flash_forward is attention by libtorch's kernel: the result [B, H, T, W], and log_sums
// [B, H, T].
std::tuple<Tensor, Tensor> flash_forward(const Tensor &q, const Tensor &k, const Tensor &v, const Sight &sight) {
  const int64_t groups = k.size(1), sharing = q.size(1) / groups;
  if (sight.all_before() && sight.from == 0 && sharing == 1)
    return at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, true);
  const Tensor out = at::empty({q.size(0), q.size(2), q.size(1), q.size(3)}, q.options()).transpose(1, 2);
  const Tensor log_sums = at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat));
  QueryBlock::each(sight, q, [&](const QueryBlock &b) {
    const auto [y, sums] = at::_scaled_dot_product_flash_attention_for_cpu(
        b.joined(b.of_queries(q), groups), b.of_keys(k), b.of_keys(v), 0.0, false, b.mask(sight, sharing));
    const Tensor out_here = b.of_queries(out), sums_here = b.of_queries(log_sums);
    out_here.copy_(y.reshape(out_here.sizes()));
    sums_here.copy_(sums.reshape(sums_here.sizes()));
  });
  return {out, log_sums};
}

// flash_backward returns the gradients of q, k and v.
std::tuple<Tensor, Tensor, Tensor> flash_backward(const Tensor &dy, const Tensor &q, const Tensor &k, const Tensor &v,
                                                  const Tensor &out, const Tensor &log_sums, const Sight &sight) {
  const int64_t groups = k.size(1), sharing = q.size(1) / groups;
  if (sight.all_before() && sight.from == 0 && sharing == 1)
    return at::_scaled_dot_product_flash_attention_for_cpu_backward(dy, q, k, v, out, log_sums, 0.0, true);
  const Tensor dq = at::empty_like(q);
  // Sums over blocks, in float32 for bfloat16 too.
  const Tensor dk = at::zeros(k.sizes(), k.options().dtype(at::kFloat)), dv = at::zeros_like(dk);
  QueryBlock::each(sight, q, [&](const QueryBlock &b) {
    const auto part = [&](const Tensor &t) { return b.joined(b.of_queries(t), groups); };
    const auto [dq_part, dk_part, dv_part] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        part(dy), part(q), b.of_keys(k), b.of_keys(v), part(out), part(log_sums), 0.0, false, b.mask(sight, sharing));
    const Tensor dq_here = b.of_queries(dq);
    dq_here.copy_(dq_part.reshape(dq_here.sizes()));
    b.of_keys(dk).add_(dk_part);
    b.of_keys(dv).add_(dv_part);
  });
  return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type())};
}

// FlashAttention is attention from one tensor of queries, keys and values by libtorch's
// kernel. autograd would take the gradients of the three parts, pad each with zeros to
// the size of all three and add them up.
struct FlashAttention : torch::autograd::Function<FlashAttention> {
  struct Saved {
    Tensor qkv;
    std::array<Tensor *, 1> all() { return {&qkv}; }
  };
  struct Buffers {
    Tensor out, log_sums, firsts;
    std::array<Tensor *, 3> all() { return {&out, &log_sums, &firsts}; }
  };

  static Variable forward(AutogradContext *ctx, const Variable &qkv, const std::optional<Tensor> &first) {
    const Sight sight{firsts_of(or_undefined(first))};
    const auto [out, log_sums] = flash_forward(heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), sight);
    save(ctx, Saved{qkv});
    hold(ctx, Buffers{out, log_sums, sight.firsts});
    return out.transpose(1, 2).reshape({qkv.size(0), qkv.size(1), -1});
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Tensor qkv = saved<Saved>(ctx).qkv;
    const Buffers b = take<Buffers>(ctx, "self_attention");
    const Tensor dy =
        grads[0].reshape({qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4)}).transpose(1, 2);
    const auto [dq, dk, dv] = flash_backward(dy, heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), b.out,
                                             b.log_sums, Sight{b.firsts});
    Tensor d = at::empty_like(qkv);
    heads_of(d, 0).copy_(dq);
    heads_of(d, 1).copy_(dk);
    heads_of(d, 2).copy_(dv);
    return {d, Tensor()};
  }
};

// LimitedAttention is attention of queries that do not see all keys before them, by
// libtorch's kernel.
struct LimitedAttention : torch::autograd::Function<LimitedAttention> {
  struct Saved {
    Tensor q, k, v;
    std::array<Tensor *, 3> all() { return {&q, &k, &v}; }
  };
  using Buffers = FlashAttention::Buffers;

  // takes says whether blocks of queries are worth more calls.
  static bool takes(const Tensor &q, double dropout) {
    return q.is_cpu() && q.scalar_type() == at::kFloat && q.size(2) > QueryBlock::longest && dropout == 0;
  }

  static Variable forward(AutogradContext *ctx, const Variable &q, const Variable &k, const Variable &v,
                          const std::optional<Tensor> &first, int64_t from, int64_t window) {
    const Sight sight{firsts_of(or_undefined(first)), from, window};
    const auto [out, log_sums] = flash_forward(q, k, v, sight);
    save(ctx, Saved{q, k, v});
    hold(ctx, Buffers{out, log_sums, sight.firsts});
    ctx->saved_data["from"] = from;
    ctx->saved_data["window"] = window;
    return out;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Saved s = saved<Saved>(ctx);
    const Buffers b = take<Buffers>(ctx, "attention");
    const Sight sight{b.firsts, ctx->saved_data["from"].toInt(), ctx->saved_data["window"].toInt()};
    const auto [dq, dk, dv] = flash_backward(grads[0], s.q, s.k, s.v, b.out, b.log_sums, sight);
    return {dq, dk, dv, Tensor(), Tensor(), Tensor()};
  }
};

// Causal attention of heads on bfloat16 numbers, in blocks of queries: a block's scores
// with the keys it sees stay in a core's cache, and keys beyond the last query of a block
// cost nothing.
//
// With scores s = scale q k^T, weights p = exp(s - log_sum) and o = p v (Dao et al. 2022,
// "FlashAttention", section B):
//
//	dv = p^T do   dp = do v^T   ds = scale p (dp - do.o)   dq = ds k   dk = ds^T q

// A row of scores becomes weights times sum, in bfloat16, and 0 beyond the keys [first,
// seen) that the query sees. It returns log_sum of the scaled scores, and sum.
struct RowSum {
  float log_sum, sum;
};
KOALA_KERNEL(RowSum, block_softmax_row, const float *__restrict s, float scale, int first, int seen,
             uint16_t *__restrict p, int n) {
  float top = -std::numeric_limits<float>::infinity(), sum = 0;
#pragma omp simd reduction(max : top)
  for (int j = first; j < seen; j++)
    top = s[j] > top ? s[j] : top;
#pragma omp simd reduction(+ : sum)
  for (int j = 0; j < n; j++) {
    const float e = j >= first && j < seen ? exp_nonpositive((s[j] - top) * scale) : 0.0f;
    sum += e;
    p[j] = narrow(e);
  }
  return {top * scale + std::log(sum), sum};
}

// Two rows of scores s and of dp become p and ds, of both rows in pairs, and ds also as
// rows.
struct PairRow {
  const float *s, *dp;
  float log_sum, product; // product is do.o
  int first, seen;
  uint16_t *ds;
};
KOALA_KERNEL(void, block_backward_rows, PairRow a, PairRow b, float scale, uint32_t *__restrict p,
             uint32_t *__restrict ds, int n) {
  const float *__restrict as = a.s, *__restrict bs = b.s, *__restrict ad = a.dp, *__restrict bd = b.dp;
  uint16_t *__restrict a_ds = a.ds, *__restrict b_ds = b.ds;
  const int a_first = a.first, a_seen = a.seen, b_first = b.first, b_seen = b.seen;
  const float a_sum = a.log_sum, b_sum = b.log_sum, a_product = a.product, b_product = b.product;
  // Every load and exp is unconditional: GCC does not vectorise those under a condition.
#pragma omp simd
  for (int j = 0; j < n; j++) {
    const bool sees_a = (j >= a_first) & (j < a_seen), sees_b = (j >= b_first) & (j < b_seen);
    const float ea = exp_nonpositive(sees_a ? as[j] * scale - a_sum : -100.0f);
    const float eb = exp_nonpositive(sees_b ? bs[j] * scale - b_sum : -100.0f);
    const float ga = ea * (ad[j] - a_product) * scale, gb = eb * (bd[j] - b_product) * scale;
    const uint32_t da = narrow(sees_a ? ga : 0.0f), db = narrow(sees_b ? gb : 0.0f);
    p[j] = narrow(ea) | static_cast<uint32_t>(narrow(eb)) << 16;
    ds[j] = da | db << 16;
    a_ds[j] = static_cast<uint16_t>(da);
    b_ds[j] = static_cast<uint16_t>(db);
  }
}

KOALA_KERNEL(void, low_scale_row, const float *__restrict x, float scale, uint16_t *__restrict y, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    y[j] = narrow(x[j] * scale);
}

KOALA_KERNEL(float, low_dot, const uint16_t *__restrict a, const uint16_t *__restrict b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++)
    sum += widen(a[j]) * widen(b[j]);
  return sum;
}

// BlockAttention is attention of the heads in qkv [B T, 3 D], with firsts as firsts_of has them.
class BlockAttention {
public:
  BlockAttention(const Tensor &qkv, int64_t length, int64_t heads, const Tensor &firsts)
      : qkv_(low_matrix(qkv)), firsts_(firsts), length_(length), even_(length + length % 2), heads_(heads),
        width_(qkv_.columns / 3 / heads), scale_(1.0f / std::sqrt(static_cast<float>(width_))) {}

  // Heads whose rows can be read in pairs.
  static bool takes(int64_t width) { return width % 2 == 0 && has_block_products(); }

  // forward writes the heads' results seen [B T, D] and the scores' log_sums [B heads, T].
  void forward(const LowMatrix &seen, const Matrix &log_sums) const {
    each_head([&](int64_t sequence, int64_t head, Scratch &m) {
      const ConstLowMatrix q = part(sequence, head, 0), k = part(sequence, head, 1), v = part(sequence, head, 2);
      const LowMatrix out = head_of(seen, sequence, head);
      float *const sums = log_sums.row(sequence * heads_ + head);
      pair_columns(k, m.k_columns.get());
      pair_all_rows(v, m.v_rows.get());
      for (int64_t from = 0; from < length_; from += block) {
        const int64_t n = std::min(block, length_ - from), keys = keys_of(from, n);
        const Matrix s = dense(m.s.get(), n, keys), o = dense(m.q.get(), n, width_);
        const LowMatrix p = dense(m.ds.get(), n, keys);
        float scales[block];
        block_multiply(s, q.part(from, n), m.k_columns.get(), even_, false);
        for (int64_t i = 0; i < n; i++) {
          const RowSum r = block_softmax_row(s.row(i), scale_, first_of(sequence, from + i),
                                             static_cast<int>(from + i + 1), p.row(i), static_cast<int>(keys));
          sums[from + i] = r.log_sum;
          scales[i] = 1.0f / r.sum;
        }
        block_multiply(o, p, m.v_rows.get(), width_, false);
        for (int64_t i = 0; i < n; i++)
          low_scale_row(o.row(i), scales[i], out.row(from + i), width_);
      }
    });
  }

  // backward writes the gradients of qkv from d_seen, that of seen.
  void backward(const LowMatrix &seen, const ConstMatrix &log_sums, const LowMatrix &d_seen,
                const LowMatrix &d_qkv) const {
    each_head([&](int64_t sequence, int64_t head, Scratch &m) {
      const ConstLowMatrix q = part(sequence, head, 0), k = part(sequence, head, 1), v = part(sequence, head, 2);
      const ConstLowMatrix o = head_of(seen, sequence, head), d_o = head_of(d_seen, sequence, head);
      const LowMatrix dq = head_of(d_qkv, sequence, head), dk = head_of(d_qkv, sequence, heads_ + head),
                      dv = head_of(d_qkv, sequence, 2 * heads_ + head);
      const float *const sums = log_sums.row(sequence * heads_ + head);
      pair_columns(k, m.k_columns.get());
      pair_columns(v, m.v_columns.get());
      pair_all_rows(k, m.k_rows.get());
      std::fill_n(m.dk.get(), width_ * even_, 0.0f);
      std::fill_n(m.dv.get(), width_ * even_, 0.0f);
      for (int64_t from = 0; from < length_; from += block) {
        const int64_t n = std::min(block, length_ - from), even = n + n % 2, keys = keys_of(from, n);
        const Matrix s = dense(m.s.get(), n, keys), dp = dense(m.dp.get(), n, keys);
        const LowMatrix ds = dense(m.ds.get(), even, keys), left = dense(m.left.get(), width_, even);
        block_multiply(s, q.part(from, n), m.k_columns.get(), even_, false);
        block_multiply(dp, d_o.part(from, n), m.v_columns.get(), even_, false);
        for (int64_t i = 0; i < n; i += 2) {
          const auto row = [&](int64_t i) -> PairRow {
            if (i == n) // beyond the last: sees nothing
              return {s.row(n - 1), dp.row(n - 1), 0, 0, 0, 0, ds.row(i)};
            const float product = low_dot(d_o.row(from + i), o.row(from + i), width_);
            return {s.row(i), dp.row(i), sums[from + i], product, first_of(sequence, from + i),
                    static_cast<int>(from + i + 1), ds.row(i)};
          };
          block_backward_rows(row(i), row(i + 1), scale_, m.p_pairs.get() + i / 2 * keys,
                              m.ds_pairs.get() + i / 2 * keys, static_cast<int>(keys));
        }
        const Matrix d_q = dense(m.q.get(), n, width_);
        block_multiply(d_q, ds.part(0, n), m.k_rows.get(), width_, false);
        for (int64_t i = 0; i < n; i++)
          low_scale_row(d_q.row(i), 1.0f, dq.row(from + i), width_);
        // dv^T += do^T p and dk^T += q^T ds
        transpose_block(d_o.part(from, n), left);
        block_multiply(Matrix{m.dv.get(), width_, keys, even_}, left, m.p_pairs.get(), keys, true);
        transpose_block(q.part(from, n), left);
        block_multiply(Matrix{m.dk.get(), width_, keys, even_}, left, m.ds_pairs.get(), keys, true);
      }
      const auto narrowed = [](float x) { return narrow(x); };
      transpose(m.dk.get(), even_, width_, length_, dk.p, dk.step, narrowed);
      transpose(m.dv.get(), even_, width_, length_, dv.p, dv.step, narrowed);
    });
  }

private:
  static constexpr int64_t block = 64; // queries

  // Scratch is a thread's memory for one head.
  struct Scratch {
    Memory<uint32_t> k_columns, v_columns, k_rows, v_rows, p_pairs, ds_pairs;
    Memory<uint16_t> ds, left;
    Memory<float> s, dp, q, dk, dv;

    Scratch(int64_t even, int64_t width)
        : k_columns(width / 2 * even), v_columns(width / 2 * even), k_rows(even / 2 * width), v_rows(even / 2 * width),
          p_pairs(block / 2 * even), ds_pairs(block / 2 * even), ds(block * even), left(width * block),
          s(block * even), dp(block * even), q(block * width), dk(width * even), dv(width * even) {}
  };

  template <typename F> void each_head(const F &f) const {
    const int64_t n = qkv_.rows / length_ * heads_, shares = std::min<int64_t>(n, at::get_num_threads());
    blocks_in_shares(shares, [&](int64_t share) {
      Scratch memory(even_, width_);
      for (int64_t i = n * share / shares; i < n * (share + 1) / shares; i++)
        f(i / heads_, i % heads_, memory);
    });
  }

  int first_of(int64_t sequence, int64_t query) const {
    const int32_t *const firsts = firsts_in(firsts_, sequence);
    return firsts != nullptr ? firsts[query] : 0;
  }

  int64_t keys_of(int64_t from, int64_t n) const { return from + n + (from + n) % 2; } // even

  // The columns of one head in rows of several, of one sequence.
  LowMatrix head_of(const LowMatrix &all, int64_t sequence, int64_t head) const {
    return all.part(sequence * length_, length_).columns_from(head * width_, width_);
  }
  ConstLowMatrix part(int64_t sequence, int64_t head, int64_t which) const {
    return head_of(qkv_, sequence, which * heads_ + head);
  }

  // pair_columns is x^T in pairs of its rows, [W/2][even length][2]; a last column that x
  // does not have is 0.
  void pair_columns(const ConstLowMatrix &x, uint32_t *out) const {
    transpose(reinterpret_cast<const uint32_t *>(x.p), x.step / 2, length_, width_ / 2, out, even_,
              [](uint32_t pair) { return pair; });
    for (int64_t i = 0; even_ > length_ && i < width_ / 2; i++)
      out[i * even_ + length_] = 0;
  }

  // pair_all_rows is x in pairs of its rows, [even length / 2][W][2].
  void pair_all_rows(const ConstLowMatrix &x, uint32_t *out) const {
    const std::vector<uint16_t> zeros(width_);
    for (int64_t i = 0; i < length_; i += 2)
      pair_rows(x.row(i), i + 1 < length_ ? x.row(i + 1) : zeros.data(), out + i / 2 * width_, width_);
  }

  // transpose_block writes x^T [W][even rows].
  void transpose_block(const ConstLowMatrix &x, const LowMatrix &out) const {
    transpose(x.p, x.step, x.rows, width_, out.p, out.step, [](uint16_t v) { return v; });
    for (int64_t i = 0; out.columns > x.rows && i < width_; i++)
      out.row(i)[x.rows] = 0;
  }

  const LowMatrix qkv_;
  const Tensor firsts_;
  const int64_t length_, even_, heads_, width_;
  const float scale_;
};

// LowAttention is self-attention with products of bfloat16 numbers.
struct LowAttention : torch::autograd::Function<LowAttention> {
  struct Saved {
    Tensor x, gain, shift, in, in_bias, out, out_bias;
    std::array<Tensor *, 7> all() { return {&x, &gain, &shift, &in, &in_bias, &out, &out_bias}; }
  };
  struct Buffers { // of bfloat16 but for log_sums, measures and firsts; input and seen [B T, D], qkv [B T, 3 D]
    Tensor input, qkv, seen, log_sums, in, out, measures, firsts;
    std::array<Tensor *, 8> all() { return {&input, &qkv, &seen, &log_sums, &in, &out, &measures, &firsts}; }
  };

  static Variable apply_to(const Tensor &x, const AttentionLayer &l) {
    return apply(x, given(l.stream.gain), given(l.stream.shift), l.stream.eps, l.in.weight, given(l.in.bias),
                 l.out.weight, given(l.out.bias), l.heads, given(l.first));
  }

  // attend is attention itself: by our blocks, or by libtorch's kernel where the processor
  // has no such products.
  static void attend(Buffers &b, int64_t length, int64_t heads) {
    const int64_t rows = b.qkv.size(0), embed = b.qkv.size(1) / 3;
    if (BlockAttention::takes(embed / heads)) {
      b.seen = at::empty({rows, embed}, b.qkv.options());
      b.log_sums = at::empty({rows / length * heads, length}, b.qkv.options().dtype(at::kFloat));
      BlockAttention(b.qkv, length, heads, b.firsts).forward(low_matrix(b.seen), mutable_matrix(b.log_sums));
      return;
    }
    const Tensor qkv = b.qkv.view({rows / length, length, 3, heads, -1});
    Tensor out;
    std::tie(out, b.log_sums) = flash_forward(heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), Sight{b.firsts});
    b.seen = out.transpose(1, 2).reshape({rows, embed});
  }

  // attend_backward returns the gradient of qkv from that of seen.
  static Tensor attend_backward(const Buffers &b, const Tensor &d_seen, int64_t length, int64_t heads) {
    const int64_t rows = b.qkv.size(0), embed = b.qkv.size(1) / 3;
    const Tensor d_qkv = at::empty_like(b.qkv);
    if (BlockAttention::takes(embed / heads)) {
      BlockAttention(b.qkv, length, heads, b.firsts)
          .backward(low_matrix(b.seen), matrix(b.log_sums), low_matrix(d_seen), low_matrix(d_qkv));
      return d_qkv;
    }
    const Tensor qkv = b.qkv.view({rows / length, length, 3, heads, -1}), d = d_qkv.view(qkv.sizes());
    const auto heads_from = [&](const Tensor &t) { return t.view({rows / length, length, heads, -1}).transpose(1, 2); };
    const auto [dq, dk, dv] = flash_backward(heads_from(d_seen), heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2),
                                             heads_from(b.seen), b.log_sums, Sight{b.firsts});
    heads_of(d, 0).copy_(dq);
    heads_of(d, 1).copy_(dk);
    heads_of(d, 2).copy_(dv);
    return d_qkv;
  }

  static Variable forward(AutogradContext *ctx, const Variable &input, const std::optional<Tensor> &gain,
                          const std::optional<Tensor> &shift, double eps, const Variable &in,
                          const std::optional<Tensor> &in_bias, const Variable &out,
                          const std::optional<Tensor> &out_bias, int64_t heads, const std::optional<Tensor> &first) {
    const Saved s{input.contiguous(),    or_undefined(gain), or_undefined(shift), in,
                  or_undefined(in_bias), out,                or_undefined(out_bias)};
    LowBranch branch{s.x, Stream(s.gain, s.shift, eps), {}};
    Buffers b;
    b.input = branch.in();
    b.measures = branch.measures;
    b.in = low(in), b.out = low(out);
    b.firsts = firsts_of(or_undefined(first));
    b.qkv = at::linear(b.input, b.in, low(s.in_bias));
    attend(b, s.x.size(1), heads);
    save(ctx, s);
    hold(ctx, b);
    ctx->saved_data["heads"] = heads;
    return branch.out(at::mm(b.seen, b.out.t()), s.out_bias);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Saved s = saved<Saved>(ctx);
    const Buffers b = take<Buffers>(ctx, "self_attention");
    const LowBranch branch{s.x, Stream(s.gain, s.shift, 0), b.measures};
    const Tensor dy = grads[0].contiguous(), out = low(dy).view({branch.rows(), branch.width()});
    const Tensor d_qkv =
        attend_backward(b, at::mm(out, b.out), s.x.size(1), ctx->saved_data["heads"].toInt());
    const LowBranch::Gradients g = branch.back(at::mm(d_qkv, b.in), dy);
    return {g.x,
            g.gain,
            g.shift,
            Tensor(),
            low_gradient(d_qkv, b.input),
            s.in_bias.defined() ? d_qkv.sum(0, false, at::kFloat) : Tensor(),
            low_gradient(out, b.seen),
            bias_gradient(dy, s.out_bias),
            Tensor(),
            Tensor()};
  }
};

// self_attention_of x, without a branch; flash says whether FlashAttention takes it.
Tensor self_attention_of(const Tensor &x, const AttentionLayer &l, double dropout, bool flash) {
  const Tensor qkv = l.in(x).view({x.size(0), x.size(1), 3, l.heads, -1});
  if (flash)
    return l.out(FlashAttention::apply(qkv, given(l.first)));
  std::optional<Tensor> mask;
  if (l.first.defined())
    mask = visible(l.first, 0, 0, x.size(1), x.device());
  const Tensor seen = at::scaled_dot_product_attention(heads_of(qkv, 0), heads_of(qkv, 1), heads_of(qkv, 2), mask,
                                                       dropout, !mask.has_value());
  return l.out(seen.transpose(1, 2).reshape(x.sizes()));
}

} // namespace

} // namespace koala

using namespace koala;

KOALA_API int koala_self_attention(const koala_self_attention_inputs *in, koala_tensor *out) {
  return guard([&] {
    const Tensor x = ref(in->x);
    const AttentionLayer l{Stream(in->branch), Linear(in->in), Linear(in->out), in->heads, optional(in->first)};
    l.check(x);
    const bool whole = lowered() || ShortAttention::fits(x, l);
    const Path path = choose({x, l.in.weight, l.out.weight, l.stream.gain, l.stream.shift}, Autocast::Fused,
                             {.fused = in->dropout == 0, .branch = whole && l.stream.dropout == 0});
    const auto kernel = lowered() ? LowAttention::apply_to : ShortAttention::apply_to;
    const auto alone = [&](const Tensor &x) {
      return path == Path::Operators || !whole ? self_attention_of(x, l, in->dropout, path != Path::Operators)
                                               : kernel(x, {{}, l.in, l.out, l.heads, l.first});
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
    const Tensor first = optional(in->first);
    TORCH_CHECK(!first.defined() || (first.dim() == 2 && first.size(0) == q.size(0) && first.size(1) == q.size(2)),
                "attention: first keys ", first.sizes(), " do not fit queries ", q.sizes());
    // A single query sees all keys: no mask at all.
    const bool all = q.size(2) == 1, windowed = in->window > 0 && in->window < k.size(2);
    const bool causal = !all && in->from == 0 && !windowed && !first.defined();
    const int64_t window = windowed ? in->window : 0;
    if (!causal && LimitedAttention::takes(q, in->dropout)) {
      const auto as = [](const Tensor &t) { return lowered() ? low(t) : t; }; // what autocast gives operators
      *out = handle(LimitedAttention::apply(as(q), as(k), as(v), given(first), in->from, window));
      return;
    }
    std::optional<Tensor> mask;
    if (windowed || first.defined() || (!all && !causal))
      mask = visible(first, window, in->from, q.size(2), q.device());
    const bool shared = k.size(1) != q.size(1);
    *out = handle(at::scaled_dot_product_attention(q, k, v, mask, in->dropout, causal, std::nullopt, shared));
  });
}
