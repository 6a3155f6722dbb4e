// Softmax cross-entropy on a CPU with tiles (AMX): the products of blocks of words, whose
// logits never leave a core's cache.
//
// With s = W h + b and losses l = log_sum - s[target], forward takes each block of words
// through all tokens and keeps exp(s - top) in bfloat16, two bytes a logit, where top is
// the largest logit of the token in the blocks before and this one. Backward scales these to
//
//	p = (exp(s - log_sum) - [v = target]) scale    dW = p h    dh = p^T W    db = sum p
//
// Words lie in rows and tokens in columns, so that sums over words run along vectors of
// tokens, and a block of W is the left factor as it lies.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "blocks.h"
#include "simd_math.h"

namespace koala {

// Of every column: top becomes the largest of top and the logits s + bias of a block.
KOALA_KERNEL(void, block_tops, const float *__restrict s, int64_t step, const float *__restrict bias, int64_t words,
             float *__restrict top, int64_t n) {
  for (int64_t i = 0; i < words; i++) {
    const float *__restrict row = s + i * step;
    const float b = bias[i];
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      top[j] = row[j] + b > top[j] ? row[j] + b : top[j];
  }
}

// e = exp(s + bias - top), rounded, and part its sum over a block, not rounded.
KOALA_KERNEL(void, block_exps, const float *__restrict s, int64_t step, const float *__restrict bias, int64_t words,
             const float *__restrict top, float *__restrict part, uint16_t *__restrict e, int64_t e_step, int64_t n) {
  std::fill_n(part, n, 0.0f);
  for (int64_t i = 0; i < words; i++) {
    const float *__restrict row = s + i * step;
    uint16_t *__restrict out = e + i * e_step;
    const float b = bias[i];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      const float x = exp_nonpositive(row[j] + b - top[j]);
      part[j] += x;
      out[j] = narrow(x);
    }
  }
}

// sum = sum exp(before - top) + part
KOALA_KERNEL(void, block_sums, const float *__restrict before, const float *__restrict top, const float *__restrict part,
             float *__restrict sum, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    sum[j] = sum[j] * exp_nonpositive(before[j] - top[j]) + part[j];
}

// factor = scale exp(top - log_sum)
KOALA_KERNEL(void, block_factors, const float *__restrict top, const float *__restrict log_sum,
             const float *__restrict scale, float *__restrict factor, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    factor[j] = scale[j] * exp_nonpositive(top[j] - log_sum[j]);
}

// Two rows of exps times the factors, as rows and as pairs; their sums are added to d_bias.
KOALA_KERNEL(void, block_gradient_rows, const uint16_t *__restrict a, const uint16_t *__restrict b,
             const float *__restrict factor, uint16_t *__restrict pa, uint16_t *__restrict pb,
             uint32_t *__restrict pairs, float *__restrict d_bias, int64_t n) {
  float sum_a = 0, sum_b = 0;
#pragma omp simd reduction(+ : sum_a, sum_b)
  for (int64_t j = 0; j < n; j++) {
    const float x = widen(a[j]) * factor[j], y = widen(b[j]) * factor[j];
    sum_a += x;
    sum_b += y;
    pa[j] = narrow(x);
    pb[j] = narrow(y);
    pairs[j] = narrow(x) | static_cast<uint32_t>(narrow(y)) << 16;
  }
  d_bias[0] += sum_a;
  d_bias[1] += sum_b;
}

class BlockLoss {
public:
  // takes says whether blocks are worth it: of few words there are too few, and of wide
  // states a core's second-level cache (2 MB) does not hold them.
  static bool takes(int64_t width, int64_t words) {
    return width % 2 == 0 && width <= 1024 && words >= 1024 && has_tiles() && has_block_products();
  }

  // hidden [N, D], weight [V, D], bias [V] or null, targets [N], those below 0 without a
  // loss; scale is the factor of each token's gradient, and kept at most so many bytes of
  // exps at a time.
  BlockLoss(const ConstMatrix &hidden, const ConstMatrix &weight, const float *bias, const int64_t *targets, float scale,
            int64_t kept)
      : hidden_(hidden), weight_(weight), bias_(bias), targets_(targets), scale_(scale), width_(hidden.columns) {
    shares_ = std::min<int64_t>(at::get_num_threads(), weight.rows / 64);
    const int64_t rounds = (weight.rows + shares_ * most_words - 1) / (shares_ * most_words);
    words_ = (weight.rows + shares_ * rounds - 1) / (shares_ * rounds);
    words_ = std::min(up(words_, 32), most_words); // whole tiles
    blocks_ = (weight.rows + words_ - 1) / words_;
    shares_ = std::min(shares_, blocks_); // each share has a block
    const int64_t groups = std::max<int64_t>(1, (2 * weight.rows * hidden.rows + kept - 1) / kept);
    group_ = (hidden.rows + groups - 1) / groups;
    group_ = std::max<int64_t>(most_tokens, (group_ + most_tokens - 1) / most_tokens * most_tokens);
  }

  // Gradients are where gradients go; d_bias may be null.
  struct Gradients {
    Matrix d_hidden, d_weight;
    float *d_bias;
  };

  // run writes each token's loss, and the gradients, where there are any.
  void run(float *losses, const Gradients *gradients) {
    if (gradients != nullptr && gradients->d_bias != nullptr)
      std::fill_n(gradients->d_bias, weight_.rows, 0.0f);
    for (int64_t from = 0; from < hidden_.rows; from += group_) {
      Group g(*this, from, std::min(group_, hidden_.rows - from), gradients != nullptr);
      g.forward(losses + from);
      if (gradients != nullptr)
        g.backward(*gradients, from > 0);
    }
  }

private:
  // A block of words and a chunk of tokens make 256 KB of logits.
  static constexpr int64_t most_words = 256, most_tokens = 256;
  static constexpr int64_t gap = 32; // between rows, so that they fall on different sets of the cache

  static int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

  // A Block is the words [from, from + n).
  struct Block {
    int64_t number, from, n;
    int64_t even() const { return n + n % 2; }
  };

  // each_block calls f for the blocks of a share, in order.
  template <typename F> void each_block(int64_t share, const F &f) const {
    for (int64_t i = blocks_ * share / shares_; i < blocks_ * (share + 1) / shares_; i++)
      f(Block{i, i * words_, std::min(words_, weight_.rows - i * words_)});
  }

  // A Group is the tokens [from, from + n), in chunks of at most most_tokens.
  struct Group {
    const BlockLoss &of;
    const int64_t from, n, chunks, height; // a chunk's tokens, the last's may be fewer
    const int64_t embed, inner;            // inner is embed in whole tiles, with zeros
    const bool gradients;
    // Of each chunk the hidden states: pairs of features [D/2][tokens], and of tokens [tokens/2][D].
    Memory<uint32_t> features, tokens;
    Memory<uint16_t> exps;                        // [V][n], rows in whole cache lines
    Memory<float> tops;                           // of each block [n]: the top that its exps have
    std::vector<float> logits, log_sums, scales;  // of the targets; of all words; 0 without a loss
    std::vector<std::pair<int64_t, int64_t>> targets; // (target, token), in order

    static constexpr int64_t step = most_tokens + gap / 2; // of pairs of rows of tokens
    int64_t pair_step() const { return inner + gap / 2; }
    int64_t exp_step() const { return up(n, 32); }
    const uint32_t *features_of(int64_t chunk) const { return features.get() + chunk * inner / 2 * step; }
    const uint32_t *tokens_of(int64_t chunk) const { return tokens.get() + chunk * most_tokens / 2 * pair_step(); }
    int64_t tokens_in(int64_t chunk) const { return std::min(height, n - chunk * height); }

    Group(const BlockLoss &of, int64_t from, int64_t n, bool gradients)
        : of(of), from(from), n(n), chunks((n + most_tokens - 1) / most_tokens),
          height(up((n + chunks - 1) / chunks, 32)), embed(of.width_), inner(up(embed, 32)), gradients(gradients),
          features(chunks * inner / 2 * step), tokens(gradients ? chunks * most_tokens / 2 * pair_step() : 0),
          exps(gradients ? of.weight_.rows * exp_step() : 0), tops(gradients ? of.blocks_ * n : 0), logits(n),
          log_sums(n), scales(n) {
      for (int64_t i = 0; i < n; i++) {
        const int64_t target = of.targets_[from + i];
        if (target >= 0)
          targets.emplace_back(target, i);
        scales[i] = target >= 0 ? of.scale_ : 0.0f;
      }
      std::sort(targets.begin(), targets.end());
      in_parallel(chunks, 1, [&](int64_t first, int64_t count) {
        const Memory<uint16_t> low((most_tokens + 1) * inner);
        for (int64_t c = first; c < first + count; c++)
          pair(c, low.get());
      });
    }

    // narrow_tiles rounds a row, and fills it up to whole tiles.
    void narrow_tiles(const float *x, uint16_t *y) const {
      narrow_row(x, y, embed);
      std::fill(y + embed, y + inner, uint16_t{0});
    }

    // pair fills in the hidden states of a chunk.
    void pair(int64_t chunk, uint16_t *low) {
      const int64_t m = tokens_in(chunk);
      for (int64_t i = 0; i < m; i++)
        narrow_tiles(of.hidden_.row(from + chunk * height + i), low + i * inner);
      std::fill_n(low + m * inner, inner, uint16_t{0}); // pairs with an odd last token
      transpose(reinterpret_cast<const uint32_t *>(low), inner / 2, m, inner / 2,
                features.get() + chunk * inner / 2 * step, step, [](uint32_t pair) { return pair; });
      for (int64_t i = 0; gradients && i < m; i += 2)
        pair_rows(low + i * inner, low + (i + 1) * inner,
                  tokens.get() + (chunk * most_tokens / 2 + i / 2) * pair_step(), inner);
    }

    // each_target calls f(word of the block, token) for targets in a block.
    template <typename F> void each_target(const Block &b, const F &f) const {
      for (auto t = std::lower_bound(targets.begin(), targets.end(), std::pair(b.from, int64_t{0}));
           t != targets.end() && t->first < b.from + b.n; t++)
        f(t->first - b.from, t->second);
    }

    void forward(float *losses) {
      const Memory<float> top(of.shares_ * n), sum(of.shares_ * n);
      std::fill_n(top.get(), of.shares_ * n, -std::numeric_limits<float>::infinity());
      std::fill_n(sum.get(), of.shares_ * n, 0.0f);
      blocks_in_shares(of.shares_, [&](int64_t share) { forward(share, top.get() + share * n, sum.get() + share * n); });
      for (int64_t i = 0; i < n; i++) {
        float highest = -std::numeric_limits<float>::infinity(), total = 0;
        for (int64_t s = 0; s < of.shares_; s++)
          highest = std::max(highest, top[s * n + i]);
        for (int64_t s = 0; s < of.shares_; s++)
          total += sum[s * n + i] * std::exp(top[s * n + i] - highest);
        const float log_sum = std::log(total);
        log_sums[i] = highest + log_sum;
        losses[i] = scales[i] != 0 ? (highest - logits[i]) + log_sum : 0.0f;
      }
    }

    void forward(int64_t share, float *top, float *sum) {
      const int64_t left_step = inner + gap;
      const Memory<uint16_t> words(most_words * left_step);
      const Memory<uint16_t> unused(gradients ? 0 : most_tokens);
      const Memory<float> s(most_words * step);
      const std::vector<float> zeros(most_words);
      float part[most_tokens], before[most_tokens];
      of.each_block(share, [&](const Block &b) {
        const float *const bias = of.bias_ != nullptr ? of.bias_ + b.from : zeros.data();
        for (int64_t i = 0; i < b.n; i++)
          narrow_tiles(of.weight_.row(b.from + i), words.get() + i * left_step);
        for (int64_t c = 0; c < chunks; c++) {
          const int64_t m = tokens_in(c), at = c * height;
          block_multiply(Matrix{s.get(), b.n, m, step}, {words.get(), b.n, inner, left_step}, features_of(c), step, false);
          each_target(b, [&](int64_t word, int64_t token) {
            if (token >= at && token < at + m)
              logits[token] = s[word * step + token - at] + bias[word];
          });
          std::copy_n(top + at, m, before);
          block_tops(s.get(), step, bias, b.n, top + at, m);
          block_exps(s.get(), step, bias, b.n, top + at, part,
                     gradients ? exps.get() + b.from * exp_step() + at : unused.get(), gradients ? exp_step() : 0, m);
          block_sums(before, top + at, part, sum + at, m);
        }
        if (gradients)
          std::copy_n(top, n, tops.get() + b.number * n);
      });
    }

    void backward(const Gradients &to, bool add) {
      // Each share's sum of dh^T, of each chunk [D][tokens].
      const int64_t chunk_size = embed * step;
      const Memory<float> d_hidden(of.shares_ * chunks * chunk_size);
      blocks_in_shares(of.shares_, [&](int64_t share) {
        backward(share, to, add, d_hidden.get() + share * chunks * chunk_size);
      });
      in_parallel(chunks, 1, [&](int64_t first, int64_t count) {
        for (int64_t c = first; c < first + count; c++) {
          float *const sum = d_hidden.get() + c * chunk_size;
          for (int64_t s = 1; s < of.shares_; s++)
            add_to(sum + s * chunks * chunk_size, sum, chunk_size);
          const Matrix d = to.d_hidden.part(from + c * height, tokens_in(c));
          transpose(sum, step, embed, d.rows, d.p, d.step, [](float x) { return x; });
        }
      });
    }

    void backward(int64_t share, const Gradients &to, bool add, float *d_hidden) {
      constexpr int64_t p_step = most_tokens + gap, w_step = most_words + gap;
      const Memory<uint16_t> low(2 * embed), p(most_words * p_step);
      const Memory<uint32_t> rows(most_words / 2 * embed), pairs(most_words / 2 * step);
      const Memory<uint32_t> columns(embed * w_step / 2); // of the words: [D][words]
      const std::vector<uint16_t> no_exps(most_tokens);
      const Memory<float> sums(most_words * pair_step()); // of dW, of a block
      float factor[most_tokens], d_bias[most_words];
      bool begun = false;
      of.each_block(share, [&](const Block &b) {
        for (int64_t i = 0; i < b.n; i += 2) {
          narrow_row(of.weight_.row(b.from + i), low.get(), embed);
          i + 1 < b.n ? narrow_row(of.weight_.row(b.from + i + 1), low.get() + embed, embed)
                      : (void)std::fill_n(low.get() + embed, embed, uint16_t{0});
          pair_rows(low.get(), low.get() + embed, rows.get() + i / 2 * embed, embed);
        }
        transpose(rows.get(), embed, b.even() / 2, embed, columns.get(), w_step / 2, [](uint32_t pair) { return pair; });
        std::fill_n(d_bias, most_words, 0.0f);
        const Matrix d_words{sums.get(), b.n, inner, pair_step()};
        for (int64_t c = 0; c < chunks; c++) {
          const int64_t m = tokens_in(c), even = m + m % 2, at = c * height;
          block_factors(tops.get() + b.number * n + at, log_sums.data() + at, scales.data() + at, factor, m);
          for (int64_t i = 0; i < b.even(); i += 2) {
            uint16_t *const a = p.get() + i * p_step;
            const uint16_t *const e = exps.get() + (b.from + i) * exp_step() + at;
            block_gradient_rows(e, i + 1 < b.n ? e + exp_step() : no_exps.data(), factor, a, a + p_step, pairs.get() + i / 2 * step,
                                d_bias + i, m);
            a[m] = a[p_step + m] = 0; // beyond an odd last token
          }
          each_target(b, [&](int64_t word, int64_t token) {
            if (token < at || token >= at + m)
              return;
            const uint16_t x = narrow((exp_nonpositive(logits[token] - log_sums[token]) - 1.0f) * scales[token]);
            p[word * p_step + token - at] = x;
            reinterpret_cast<uint16_t *>(pairs.get())[word / 2 * 2 * step + 2 * (token - at) + word % 2] = x;
            d_bias[word] -= scales[token];
          });
          block_multiply(d_words, {p.get(), b.n, even, p_step}, tokens_of(c), pair_step(), c > 0);
          block_multiply(Matrix{d_hidden + c * embed * step, embed, m, step},
                         {reinterpret_cast<const uint16_t *>(columns.get()), embed, b.even(), w_step}, pairs.get(), step,
                         begun);
        }
        begun = true;
        for (int64_t i = 0; i < b.n; i++)
          add ? add_to(d_words.row(i), to.d_weight.row(b.from + i), embed)
              : (void)std::copy_n(d_words.row(i), embed, to.d_weight.row(b.from + i));
        if (to.d_bias != nullptr)
          add_to(d_bias, to.d_bias + b.from, b.n);
      });
    }
  };

  const ConstMatrix hidden_, weight_;
  const float *const bias_;
  const int64_t *const targets_;
  const float scale_;
  const int64_t width_;
  int64_t shares_, words_, blocks_, group_;
};

} // namespace koala
