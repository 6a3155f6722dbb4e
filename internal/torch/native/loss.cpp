// Softmax cross-entropy from hidden states, without ever holding all logits.
//
// For a word-level model the logits of one step are by far its largest tensor:
// 700 tokens x 33,278 words are 93 MB, and PyTorch keeps them, their softmax and
// the gradient of both. Here the rows are taken in chunks: logits of a chunk ->
// log-sum-exp and losses -> gradient in place -> its share of dH, dW and db. The
// chunk's buffer is all that is held, and the mean of the squared losses, which
// KOALA's measurement noise R needs, comes for free.
#include <omp.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>

#include "common.h"
#include "simd_math.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// LogSum is log(sum(exp(x))) in two parts, so that a loss, top - x + log(sum), does
// not lose the digits of a large x.
struct LogSum {
  float top, log_sum;
  float loss(float x) const { return (top - x) + log_sum; }
};

// softmax_row turns n logits (with bias, if any, added) into their softmax times
// scale, in place, and with a bias adds that to d_bias while it is near.
KOALA_SIMD static LogSum softmax_row(float *__restrict row, const float *__restrict bias, float *__restrict d_bias, int64_t n, float scale) {
  float top = -std::numeric_limits<float>::infinity();
  if (bias != nullptr) {
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) {
      row[j] += bias[j];
      top = row[j] > top ? row[j] : top;
    }
  } else {
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++)
      top = row[j] > top ? row[j] : top;
  }
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) {
    const float e = exp_nonpositive(row[j] - top);
    row[j] = e;
    sum += e;
  }
  const float factor = scale / sum;
  if (bias != nullptr) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      row[j] *= factor;
      d_bias[j] += row[j];
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      row[j] *= factor;
  }
  return {top, std::log(sum)};
}

// log_sum_exp_row is softmax_row without the gradient: evaluation needs no more.
KOALA_SIMD static LogSum log_sum_exp_row(const float *__restrict row, const float *__restrict bias, int64_t n) {
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < n; j++) {
    const float x = bias != nullptr ? row[j] + bias[j] : row[j];
    top = x > top ? x : top;
  }
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++)
    sum += exp_nonpositive((bias != nullptr ? row[j] + bias[j] : row[j]) - top);
  return {top, std::log(sum)};
}

struct Chunked {
  Tensor loss;       // scalar: mean over the tokens that count
  Tensor per_token;  // [N] float32, 0 where the target is negative
  Tensor d_hidden, d_weight, d_bias;
  double mean_square = 0;
  int64_t counted = 0;
};

static Chunked run_cpu(const Tensor &hidden, const Tensor &weight, const Tensor &bias, const Tensor &targets,
                       int64_t chunk_bytes, bool gradients) {
  const int64_t n = hidden.size(0), v = weight.size(0);
  const int64_t rows = std::max<int64_t>(1, std::min<int64_t>(n, chunk_bytes / (v * static_cast<int64_t>(sizeof(float)))));
  // Chunks of equal height: a short last one would waste the matrix product.
  const int64_t chunks = (n + rows - 1) / rows, height = (n + chunks - 1) / chunks;

  Chunked r;
  r.per_token = at::empty({n}, hidden.options());
  const int64_t *target = targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < n; i++) {
    TORCH_CHECK_INDEX(target[i] < v, "target ", target[i], " is outside the vocabulary of ", v, " entries");
    r.counted += target[i] >= 0;
  }
  const float scale = r.counted > 0 ? 1.0f / static_cast<float>(r.counted) : 0.0f;
  if (gradients) {
    r.d_hidden = at::empty_like(hidden);
    r.d_weight = at::empty_like(weight);
  }
  // Each thread sums its rows' share of the bias's gradient.
  const int threads = at::get_num_threads();
  const Tensor d_biases = gradients && bias.defined() ? at::zeros({threads, v}, hidden.options()) : Tensor();
  float *d_b = d_biases.defined() ? d_biases.mutable_data_ptr<float>() : nullptr;
  Tensor logits = at::empty({height, v}, hidden.options());
  // Under autocast the products are of bfloat16, and what is summed up is not.
  const bool low = at::autocast::is_autocast_enabled(at::kCPU);
  const auto lowered = [low](const Tensor &t) { return low ? t.to(at::kBFloat16) : t; };
  const Tensor states = lowered(hidden), words = lowered(weight), words_t = words.t();
  const float *b = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  float *losses = r.per_token.mutable_data_ptr<float>();

  for (int64_t from = 0; from < n; from += height) {
    const int64_t m = std::min(height, n - from);
    Tensor chunk = logits.narrow(0, 0, m);
    const Tensor h = states.narrow(0, from, m);
    if (low)
      chunk.copy_(at::mm(h, words_t));
    else
      at::mm_out(chunk, h, words_t);
    float *x = chunk.mutable_data_ptr<float>();
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < m; i++) {
      float *row = x + i * v, *const d_row = d_b != nullptr ? d_b + omp_get_thread_num() * v : nullptr;
      const int64_t want = target[from + i];
      if (want < 0) {
        losses[from + i] = 0;
        if (gradients)
          std::fill(row, row + v, 0.0f);
        continue;
      }
      const float logit = row[want] + (b != nullptr ? b[want] : 0.0f);
      if (gradients) {
        losses[from + i] = softmax_row(row, b, d_row, v, scale).loss(logit);
        row[want] -= scale;
        if (d_row != nullptr)
          d_row[want] -= scale;
      } else {
        losses[from + i] = log_sum_exp_row(row, b, v).loss(logit);
      }
    }
    if (gradients) {
      Tensor d_h = r.d_hidden.narrow(0, from, m);
      if (low) {
        const Tensor d = lowered(chunk);
        d_h.copy_(at::mm(d, words));
        from == 0 ? r.d_weight.copy_(at::mm(d.t(), h)) : r.d_weight.add_(at::mm(d.t(), h));
      } else {
        at::mm_out(d_h, chunk, weight);
        from == 0 ? at::mm_out(r.d_weight, chunk.t(), h) : r.d_weight.addmm_(chunk.t(), h);
      }
    }
  }
  if (d_biases.defined())
    r.d_bias = d_biases.sum(0);
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += losses[i];
    squares += static_cast<double>(losses[i]) * losses[i];
  }
  const double count = static_cast<double>(std::max<int64_t>(1, r.counted));
  r.mean_square = squares / count;
  r.loss = at::scalar_tensor(sum / count, hidden.options());
  return r;
}

// run_operators is the same in libtorch's own operators, for any device and
// floating point type.
static Chunked run_operators(const Tensor &hidden, const Tensor &weight, const Tensor &bias, const Tensor &targets,
                             int64_t chunk_bytes, bool gradients) {
  const int64_t n = hidden.size(0), v = weight.size(0);
  const int64_t rows = std::max<int64_t>(1, std::min<int64_t>(n, chunk_bytes / (v * 4)));
  const auto wide = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  Chunked r;
  r.per_token = at::empty({n}, hidden.options().dtype(wide));
  const Tensor counts = targets.ge(0);
  r.counted = counts.sum().item<int64_t>();
  const double scale = r.counted > 0 ? 1.0 / static_cast<double>(r.counted) : 0.0;
  if (gradients) {
    r.d_hidden = at::empty_like(hidden);
    r.d_weight = at::zeros_like(weight);
    if (bias.defined())
      r.d_bias = at::zeros_like(bias);
  }
  for (int64_t from = 0; from < n; from += rows) {
    const int64_t m = std::min(rows, n - from);
    const Tensor h = hidden.narrow(0, from, m);
    const Tensor count = counts.narrow(0, from, m).unsqueeze(1).to(wide);
    const Tensor target = targets.narrow(0, from, m).clamp_min(0).unsqueeze(1);
    Tensor logits = at::mm(h, weight.t()).to(wide);
    if (bias.defined())
      logits.add_(bias);
    const Tensor lse = logits.logsumexp(1, true);
    r.per_token.narrow(0, from, m).copy_((lse - logits.gather(1, target)).mul_(count).squeeze(1));
    if (gradients) {
      Tensor d = logits.sub_(lse).exp_();
      d.scatter_add_(1, target, at::full_like(target, -1, d.options()));
      d.mul_(count * scale);
      if (bias.defined())
        r.d_bias.add_(d.sum(0).to(bias.scalar_type()));
      d = d.to(h.scalar_type());
      r.d_hidden.narrow(0, from, m).copy_(at::mm(d, weight));
      r.d_weight.addmm_(d.t(), h);
    }
  }
  const double count = static_cast<double>(std::max<int64_t>(1, r.counted));
  r.loss = r.per_token.sum().div(count);
  r.mean_square = r.per_token.to(at::kDouble).square().sum().item<double>() / count;
  return r;
}

static Chunked run(const Tensor &states, const Tensor &weight, const Tensor &bias, const Tensor &targets,
                   int64_t chunk_bytes, bool gradients) {
  // Under autocast states may come in a lower precision than the weights.
  const Tensor hidden = states.to(weight.scalar_type());
  TORCH_CHECK(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1),
              "cross_entropy: hidden ", hidden.sizes(), " and weight ", weight.sizes(), " do not fit");
  TORCH_CHECK(targets.dim() == 1 && targets.size(0) == hidden.size(0) && targets.scalar_type() == at::kLong,
              "cross_entropy: targets must be int64 of length ", hidden.size(0));
  TORCH_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0)),
              "cross_entropy: bias must have ", weight.size(0), " entries");
  const bool cpu = hidden.is_cpu() && hidden.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat;
  const Tensor b = bias.defined() ? bias.contiguous() : bias;
  return (cpu ? run_cpu : run_operators)(hidden.contiguous(), weight.contiguous(), b, targets.contiguous(), chunk_bytes, gradients);
}

// The gradients of a mean loss are known as soon as the loss is, up to the
// factor that comes down to it, so forward computes them and backward scales.
struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static variable_list forward(AutogradContext *ctx, const Variable &hidden, const Variable &weight,
                               const std::optional<Tensor> &bias, const Tensor &targets, int64_t chunk_bytes, Chunked *out) {
    *out = run(hidden, weight, bias.value_or(Tensor()), targets, chunk_bytes, true);
    ctx->saved_data["d_hidden"] = out->d_hidden;
    ctx->saved_data["d_weight"] = out->d_weight;
    ctx->saved_data["has_bias"] = bias.has_value();
    if (bias.has_value())
      ctx->saved_data["d_bias"] = out->d_bias;
    out->d_hidden = out->d_weight = out->d_bias = Tensor();
    return {out->loss};
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const bool has_bias = ctx->saved_data["has_bias"].toBool();
    variable_list d = {ctx->saved_data["d_hidden"].toTensor(), ctx->saved_data["d_weight"].toTensor(),
                       has_bias ? ctx->saved_data["d_bias"].toTensor() : Tensor()};
    // The buffers are handed on, so a second backward has nothing to give.
    ctx->saved_data.clear();
    const Tensor &g = grads[0];
    if (!g.is_cpu() || g.item<double>() != 1.0)
      for (Tensor &t : d)
        if (t.defined())
          t.mul_(g);
    return {d[0], d[1], d[2], Tensor(), Tensor(), Tensor()};
  }
};

} // namespace koala

using namespace koala;

// out receives mean loss, mean squared loss and the number of tokens counted;
// loss the differentiable scalar; per_token, unless null, the losses [N].
KOALA_API int koala_cross_entropy(koala_tensor hidden, koala_tensor weight, koala_tensor bias, koala_tensor targets,
                                  int64_t chunk_bytes, double out[3], koala_tensor *loss, koala_tensor *per_token) {
  return guard([&] {
    const at::Tensor h = ref(hidden), w = ref(weight), b = optional(bias), t = ref(targets);
    const bool gradients = c10::GradMode::is_enabled() && (h.requires_grad() || w.requires_grad());
    Chunked r;
    at::Tensor scalar;
    if (gradients) {
      const auto maybe_bias = b.defined() ? std::optional<at::Tensor>(b) : std::nullopt;
      scalar = CrossEntropy::apply(h, w, maybe_bias, t, chunk_bytes, &r)[0];
    } else {
      at::NoGradGuard no_grad;
      r = run(h, w, b, t, chunk_bytes, false);
      scalar = r.loss;
    }
    out[0] = r.loss.item<double>();
    out[1] = r.mean_square;
    out[2] = static_cast<double>(r.counted);
    if (per_token != nullptr)
      *per_token = handle(r.per_token);
    *loss = handle(scalar);
  });
}
