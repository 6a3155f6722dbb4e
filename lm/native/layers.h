// The C interface of the layers and of the loss. Each operator takes its inputs by name;
// an input that is optional may be null. Functions return 0, or another value after an
// exception, whose text koala_last_error holds. What they write is new, and the caller's
// to free.
#pragma once
#include "../../internal/torch/native/koala_native.h"

#ifdef __cplusplus
extern "C" {
#endif

// The weight [out, in] and the optional bias [out] of a linear layer.
typedef struct {
  koala_tensor weight, bias;
} koala_linear;

// A branch of a residual stream x: an operator f with a branch is x + dropout(f(norm(x))),
// f without one (a null gain) is f(x). The norm is layer normalisation with gain and shift
// [D], or RMSNorm where shift is null.
typedef struct {
  koala_tensor gain, shift;
  double eps, dropout;
} koala_branch;

// norm.cpp: x [..., D].
int koala_norm(koala_tensor x, koala_branch norm, koala_tensor *out);

// mlp.cpp: x [..., D], up and gate [F, D], down [D, F]; the gate is optional.
typedef struct {
  koala_tensor x;
  koala_branch branch;
  koala_linear up, gate, down;
} koala_mlp_inputs;
int koala_mlp(const koala_mlp_inputs *in, koala_tensor *out);

// attention.cpp: causal self-attention with the linear layers around it. x [B, T, D]; in
// [3 D, D] makes queries, keys and values in a row, out is [D, D]. Query t of a text sees no
// key before its first, int64 [B, T], at most t; null is 0 for all. dropout zeroes attention
// weights.
typedef struct {
  koala_tensor x, first;
  koala_branch branch;
  koala_linear in, out;
  int64_t heads;
  double dropout;
} koala_self_attention_inputs;
int koala_self_attention(const koala_self_attention_inputs *in, koala_tensor *out);

// attention.cpp: queries q [B, H, T, W] after the first from of the keys k and values v
// [B, G, from + T, W], where G divides H and H/G neighbouring heads share keys and values.
// Query t sees the keys up to from + t: none before its first, int64 [B, T], unless first is
// null, and at most window of them, unless window is 0.
typedef struct {
  koala_tensor q, k, v, first;
  int64_t from, window;
  double dropout;
} koala_attention_inputs;
int koala_attention(const koala_attention_inputs *in, koala_tensor *out);

// rotary.cpp: x [B, T, heads, W], cosine and sine [T, W/2], float32 without gaps.
int koala_rotary(koala_tensor x, koala_tensor cosine, koala_tensor sine, koala_tensor *out);

// recurrent.h: one layer over x [T, B, I] from the states h and c [B, H], with G gates:
// 4 of an LSTM (lstm.cpp), 3 of a GRU (gru.cpp), which has no c.
typedef struct {
  koala_tensor x, h, c;
  koala_tensor input_weight, hidden_weight; // [G H, I], [G H, H]
  koala_tensor input_bias, hidden_bias;     // [G H]
} koala_recurrent_inputs;
typedef struct {
  koala_tensor y;    // [T, B, H]
  koala_tensor h, c; // [B, H], after the last step; c of an LSTM only
} koala_recurrent_outputs;
int koala_lstm(const koala_recurrent_inputs *in, koala_recurrent_outputs *out);
int koala_gru(const koala_recurrent_inputs *in, koala_recurrent_outputs *out);

// loss.cpp: softmax cross-entropy of logits hidden weight^T + bias against targets, with
// hidden [N, D], weight [V, D], an optional bias [V] and int64 targets [N]. Rows with a
// negative target do not count.
typedef struct {
  koala_tensor hidden, weight, bias, targets;
  int64_t chunk_bytes; // memory for logits at a time
  int per_token;       // whether the losses of all rows are wanted
} koala_cross_entropy_inputs;
typedef struct {
  koala_tensor loss;      // the differentiable mean
  koala_tensor per_token; // [N] float32, 0 where the target is negative; null unless wanted
  koala_tensor numbers;   // float64 [3]: the mean, the mean square, the number of tokens that count
} koala_cross_entropy_outputs;
int koala_cross_entropy(const koala_cross_entropy_inputs *in, koala_cross_entropy_outputs *out);

#ifdef __cplusplus
}
#endif
