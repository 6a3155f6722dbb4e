// Softmax cross-entropy from hidden states, without ever holding all logits.
//
// For a word-level model the logits of one step are by far its largest tensor: 700 tokens
// x 33,278 words are 93 MB, and PyTorch keeps them, their softmax and the gradient of
// both. Here the rows are taken in chunks: logits of a chunk -> log-sum-exp and losses ->
// gradient in place -> the chunk's terms of dH, dW and db. Only one chunk's logits are
// held. The mean of the squared losses, which KOALA's measurement noise R needs, comes
// for free.
#include <cmath>
#include <limits>

#include "block_loss.h"
#include "simd_math.h"

namespace koala {

namespace {

// LogSum is log(sum(exp(x))) in two parts, so that a loss, top - x + log(sum), does not
// lose the digits of a large x.
struct LogSum {
  float top, log_sum;
  float loss(float x) const { return (top - x) + log_sum; }
};

// softmax_row turns n logits, plus the bias if there is one, into their softmax times
// scale, in place, and then adds that to d_bias, if there is a bias.
KOALA_KERNEL(LogSum, softmax_row, float *__restrict row, const float *__restrict bias, float *__restrict d_bias,
             int64_t n, float scale) {
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

// log_sum_exp_row is softmax_row without the gradient, for evaluation.
KOALA_KERNEL(LogSum, log_sum_exp_row, const float *__restrict row, const float *__restrict bias, int64_t n) {
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

// narrow_in_place rounds n numbers to bfloat16, into the first half of their memory.
void narrow_in_place(float *row, int64_t n) {
  constexpr int64_t size = 1024;
  float part[size]; // what it is rounded into may hold what comes next
  for (int64_t j = 0; j < n; j += size) {
    const int64_t count = std::min(size, n - j);
    std::memcpy(part, row + j, count * sizeof(float));
    narrow_row(part, reinterpret_cast<uint16_t *>(row) + j, count);
  }
}

// The inputs of the loss: hidden [N, D], weight [V, D], an optional bias [V], targets [N].
struct Inputs {
  Tensor hidden, weight, bias, targets;

  void check() const {
    TORCH_CHECK(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1), "cross_entropy: hidden ",
                hidden.sizes(), " and weight ", weight.sizes(), " do not fit");
    TORCH_CHECK(targets.dim() == 1 && targets.size(0) == hidden.size(0) && targets.scalar_type() == at::kLong,
                "cross_entropy: targets must be int64 of length ", hidden.size(0));
    TORCH_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0)),
                "cross_entropy: bias must have ", weight.size(0), " entries");
  }
};

struct Result {
  Tensor loss;      // scalar: the mean over the tokens that count
  Tensor per_token; // [N] float32, 0 where the target is negative
  Tensor numbers;   // float64 [3]: the mean, the mean square, the number of tokens that count
  Tensor d_hidden, d_weight, d_bias;
};

// rows_of is how many rows of v logits, of so many bytes each, a chunk holds.
int64_t rows_of(int64_t chunk_bytes, int64_t n, int64_t v, int64_t size) {
  return std::max<int64_t>(1, std::min<int64_t>(n, chunk_bytes / (v * size)));
}

// by_rows writes the losses and fills in r's gradients, a chunk of rows of logits at a time.
void by_rows(const Inputs &in, Result &r, float *losses, float scale, int64_t chunk_bytes, bool gradients) {
  // Under autocast the factors of the products are in bfloat16, the gradient of the logits
  // among them; logits, sums and what is kept stay float32. Chunks are twice as high then,
  // since each reads and writes d_weight, which takes more of the shorter time.
  const bool reduced = lowered();
  const int64_t n = in.hidden.size(0), v = in.weight.size(0);
  const int64_t rows = rows_of(chunk_bytes, n, v, reduced ? 2 : 4);
  // Chunks of equal height: a short last one would waste the matrix product.
  const int64_t chunks = (n + rows - 1) / rows, height = (n + chunks - 1) / chunks;

  const int64_t *target = in.targets.const_data_ptr<int64_t>();
  // Each thread sums the bias's gradient over its rows.
  const bool summed = gradients && in.bias.defined();
  const Tensor d_biases = summed ? at::zeros({at::get_num_threads(), v}, in.hidden.options()) : Tensor();
  const Tensor logits = at::empty({height, v}, in.hidden.options());
  const Tensor low_states = reduced ? low(in.hidden) : Tensor(), low_words = reduced ? low(in.weight) : Tensor();
  const float *bias = in.bias.defined() ? in.bias.const_data_ptr<float>() : nullptr;

  for (int64_t from = 0; from < n; from += height) {
    const int64_t m = std::min(height, n - from);
    Tensor chunk = logits.narrow(0, 0, m);
    const Tensor h = in.hidden.narrow(0, from, m);
    const Matrix X = mutable_matrix(chunk);
    const LowMatrix Low{reinterpret_cast<uint16_t *>(X.p), m, v, 2 * v}; // their gradient, in place
    reduced ? multiply(X, low_matrix(low_states).part(from, m), low_matrix(low_words).t())
            : (void)at::mm_out(chunk, h, in.weight.t());
    in_parallel(m, 1, [&](int64_t first, int64_t count) {
      float *const d_bias = summed ? mutable_matrix(d_biases).row(at::get_thread_num()) : nullptr;
      for (int64_t i = first; i < first + count; i++) {
        const int64_t want = target[from + i];
        if (want < 0) {
          losses[from + i] = 0;
          if (gradients)
            std::fill_n(X.row(i), v, 0.0f); // in bfloat16 too
          continue;
        }
        float *const row = X.row(i);
        const float logit = row[want] + (bias != nullptr ? bias[want] : 0.0f);
        if (!gradients) {
          losses[from + i] = log_sum_exp_row(row, bias, v).loss(logit);
          continue;
        }
        losses[from + i] = softmax_row(row, bias, d_bias, v, scale).loss(logit);
        row[want] -= scale;
        if (d_bias != nullptr)
          d_bias[want] -= scale;
        if (reduced)
          narrow_in_place(row, v);
      }
    });
    if (gradients) {
      Tensor d_h = r.d_hidden.narrow(0, from, m);
      if (reduced) {
        multiply(mutable_matrix(d_h), Low, low_matrix(low_words));
        multiply(mutable_matrix(r.d_weight), Low.t(), low_matrix(low_states).part(from, m), from > 0);
      } else {
        at::mm_out(d_h, chunk, in.weight);
        from == 0 ? at::mm_out(r.d_weight, chunk.t(), h) : r.d_weight.addmm_(chunk.t(), h);
      }
    }
  }
  if (summed)
    r.d_bias = d_biases.sum(0);
}

// by_blocks does the same by blocks of words.
void by_blocks(const Inputs &in, Result &r, float *losses, float scale, int64_t chunk_bytes, bool gradients) {
  const auto numbers = [](const Tensor &t) { return t.defined() ? t.mutable_data_ptr<float>() : nullptr; };
  // Twice the bytes of a chunk of logits, as by_rows takes under autocast.
  BlockLoss loss(matrix(in.hidden), matrix(in.weight), numbers(in.bias), in.targets.const_data_ptr<int64_t>(), scale,
                 2 * chunk_bytes);
  if (!gradients)
    return loss.run(losses, nullptr);
  if (in.bias.defined())
    r.d_bias = at::empty_like(in.bias);
  const BlockLoss::Gradients to{mutable_matrix(r.d_hidden), mutable_matrix(r.d_weight), numbers(r.d_bias)};
  loss.run(losses, &to);
}

Result by_kernel(const Inputs &in, int64_t chunk_bytes, bool gradients) {
  const int64_t n = in.hidden.size(0), v = in.weight.size(0);
  Result r;
  int64_t counted = 0;
  r.per_token = at::empty({n}, in.hidden.options());
  const int64_t *target = in.targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < n; i++) {
    TORCH_CHECK_INDEX(target[i] < v, "target ", target[i], " is outside the vocabulary of ", v, " entries");
    counted += target[i] >= 0;
  }
  const float scale = counted > 0 ? 1.0f / static_cast<float>(counted) : 0.0f;
  if (gradients) {
    r.d_hidden = at::empty_like(in.hidden);
    r.d_weight = at::empty_like(in.weight);
  }
  float *const losses = r.per_token.mutable_data_ptr<float>();
  if (lowered() && BlockLoss::takes(in.hidden.size(1), v))
    by_blocks(in, r, losses, scale, chunk_bytes, gradients);
  else
    by_rows(in, r, losses, scale, chunk_bytes, gradients);
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += losses[i];
    squares += static_cast<double>(losses[i]) * losses[i];
  }
  const double count = static_cast<double>(std::max<int64_t>(1, counted));
  r.loss = at::scalar_tensor(sum / count, in.hidden.options());
  r.numbers = at::empty({3}, at::kDouble);
  double *const numbers = r.numbers.mutable_data_ptr<double>();
  numbers[0] = r.loss.item<double>(), numbers[1] = squares / count, numbers[2] = static_cast<double>(counted);
  return r;
}

// by_operators is the same in libtorch's operators, for any device and floating point
// type. The host does not wait for the device.
Result by_operators(const Inputs &in, int64_t chunk_bytes, bool gradients) {
  const int64_t n = in.hidden.size(0), v = in.weight.size(0), rows = rows_of(chunk_bytes, n, v, sizeof(float));
  const auto wide = in.hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  Result r;
  r.per_token = at::empty({n}, in.hidden.options().dtype(wide));
  const Tensor counts = in.targets.ge(0), counted = counts.sum().to(at::kDouble), at_least_one = counted.clamp_min(1);
  const Tensor scale = at_least_one.reciprocal();
  if (gradients) {
    r.d_hidden = at::empty_like(in.hidden);
    r.d_weight = at::zeros_like(in.weight);
    if (in.bias.defined())
      r.d_bias = at::zeros_like(in.bias);
  }
  for (int64_t from = 0; from < n; from += rows) {
    const int64_t m = std::min(rows, n - from);
    const Tensor h = in.hidden.narrow(0, from, m);
    const Tensor count = counts.narrow(0, from, m).unsqueeze(1).to(wide);
    const Tensor target = in.targets.narrow(0, from, m).clamp_min(0).unsqueeze(1);
    Tensor logits = at::mm(h, in.weight.t()).to(wide);
    if (in.bias.defined())
      logits.add_(in.bias);
    const Tensor lse = logits.logsumexp(1, true);
    r.per_token.narrow(0, from, m).copy_((lse - logits.gather(1, target)).mul_(count).squeeze(1));
    if (gradients) {
      Tensor d = logits.sub_(lse).exp_();
      d.scatter_add_(1, target, at::full_like(target, -1, d.options()));
      d.mul_(count * scale);
      if (in.bias.defined())
        r.d_bias.add_(d.sum(0).to(in.bias.scalar_type()));
      d = d.to(h.scalar_type());
      r.d_hidden.narrow(0, from, m).copy_(at::mm(d, in.weight));
      r.d_weight.addmm_(d.t(), h);
    }
  }
  r.loss = r.per_token.sum().div(at_least_one.to(wide));
  r.numbers = at::stack({r.loss.to(at::kDouble), r.per_token.to(at::kDouble).square().sum() / at_least_one, counted});
  return r;
}

Result run(const Inputs &in, int64_t chunk_bytes, bool gradients) {
  // Under autocast the states may come in a lower precision than the weights.
  const Inputs whole{in.hidden.to(in.weight.scalar_type()).contiguous(), in.weight.contiguous(),
                     in.bias.defined() ? in.bias.contiguous() : in.bias, in.targets.contiguous()};
  whole.check();
  const Path path = choose({whole.hidden, whole.weight, whole.bias}, Autocast::Fused);
  return (path == Path::Fused ? by_kernel : by_operators)(whole, chunk_bytes, gradients);
}

// The gradients of a mean loss are known as soon as the loss is, up to the factor that
// backward hands down, so forward computes them and backward scales them.
struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  struct Buffers {
    Tensor d_hidden, d_weight, d_bias;
    std::array<Tensor *, 3> all() { return {&d_hidden, &d_weight, &d_bias}; }
  };

  static Variable forward(AutogradContext *ctx, const Variable &hidden, const Variable &weight,
                          const std::optional<Tensor> &bias, const Tensor &targets, int64_t chunk_bytes, Result *out) {
    *out = run({hidden, weight, or_undefined(bias), targets}, chunk_bytes, true);
    hold(ctx, Buffers{out->d_hidden, out->d_weight, out->d_bias});
    out->d_hidden = out->d_weight = out->d_bias = Tensor();
    return out->loss;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    Buffers b = take<Buffers>(ctx, "cross_entropy");
    const Tensor &g = grads[0];
    if (!g.is_cpu() || g.item<double>() != 1.0)
      for (Tensor *t : b.all())
        if (t->defined())
          t->mul_(g);
    return {b.d_hidden, b.d_weight, b.d_bias, Tensor(), Tensor(), Tensor()};
  }
};

} // namespace

} // namespace koala

using namespace koala;

KOALA_API int koala_cross_entropy(const koala_cross_entropy_inputs *in, koala_cross_entropy_outputs *out) {
  return guard([&] {
    const Inputs i{ref(in->hidden), ref(in->weight), optional(in->bias), ref(in->targets)};
    Result r;
    Tensor loss;
    if (records({i.hidden, i.weight, i.bias})) {
      loss = CrossEntropy::apply(i.hidden, i.weight, given(i.bias), i.targets, in->chunk_bytes, &r);
    } else {
      const at::NoGradGuard no_grad;
      r = run(i, in->chunk_bytes, false);
      loss = r.loss;
    }
    *out = {handle(loss), in->per_token ? handle(r.per_token) : nullptr, handle(r.numbers)};
  });
}
