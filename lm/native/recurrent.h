// A recurrent layer over a whole sequence, for any cell.
//
// libtorch on a CPU records about ten operators a time step. Here a step is one matrix
// product and one pass of the cell; the input's products of all steps are one product
// beforehand, and so are both weights' gradients at the end. Sequences do not depend on
// one another, so each thread takes some of them through all time steps: two waits a
// layer instead of two a step.
#pragma once
#include <algorithm>

#include "autograd.h"
#include "blocks.h"
#include "chunks.h"
#include "simd_math.h"

namespace koala {

// sequence_threads is how many threads share the sequences of a batch.
inline int64_t sequence_threads(int64_t batch) {
  return std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), batch / 2));
}

inline int64_t sequences_a_thread(int64_t batch) {
  const int64_t threads = sequence_threads(batch);
  return (batch + threads - 1) / threads;
}

// over_sequences calls f(first, count) for shares of the batch, one a thread.
template <typename F> void over_sequences(int64_t batch, const F &f) {
  const int64_t threads = sequence_threads(batch);
  in_parallel(threads, 1, [&](int64_t first, int64_t n) {
    const int64_t from = batch * first / threads, to = batch * (first + n) / threads;
    f(from, to - from);
  });
}

// states_before returns the hidden state before each step: h0 [B, H], then y [T, B, H]
// without its last.
inline Tensor states_before(const Tensor &h0, const Tensor &y) {
  Tensor before = at::empty_like(y);
  before.select(0, 0).copy_(h0);
  if (y.size(0) > 1)
    before.narrow(0, 1, y.size(0) - 1).copy_(y.narrow(0, 0, y.size(0) - 1));
  return before;
}

// InputProducts are those of a layer with its input, and the gradients of its weights: all
// steps in one product. Under autocast, on a CPU with tiles, the factors are in bfloat16
// and the sums in float32. The recurrence stays float32: a step's product is small.
struct InputProducts {
  bool low;

  // y = x w^T + bias, of y's rows
  void forward(const Tensor &y, const Tensor &x, const Tensor &w, const Tensor &bias) const {
    if (!low) {
      Tensor out = y;
      at::addmm_out(out, bias, x, w.t());
      return;
    }
    const Tensor low_x = koala::low(x), low_w = koala::low(w).contiguous();
    y.copy_(bias.expand_as(y));
    multiply(mutable_matrix(y), low_matrix(low_x), low_matrix(low_w).t(), true);
  }

  // factor is dy as the products below want it.
  Tensor factor(const Tensor &dy) const { return low ? koala::low(dy) : dy; }

  Tensor gradient_of_x(const Tensor &dy, const Tensor &w) const {
    if (!low)
      return at::mm(dy, w);
    const Tensor d = at::empty({dy.size(0), w.size(1)}, w.options()), low_w = koala::low(w).contiguous();
    multiply(mutable_matrix(d), low_matrix(dy), low_matrix(low_w));
    return d;
  }

  Tensor gradient_of_w(const Tensor &dy, const Tensor &x) const {
    return low ? low_gradient(dy, koala::low(x)) : at::mm(dy.t(), x);
  }
};

// A Cell has
//
//	name      of the layer, for errors
//	gates     G, how many parts of H units a row of its gates has
//	carries   whether it has a second state c beside h
//	separate  whether the products with the state stay apart from the input's, as where a
//	          gate acts on one of them alone
//	forward   turns the input's products into gates, in place, and writes the new states
//	backward  turns gates into gradients of the input's products, in place
//
// Its rows are passed as a Step.
struct Step {
  float *gates;               // [G H]: the input's products, then gates, then gradients
  float *products;            // [G H]: the state's products; gates itself unless separate
  const float *h_before;      // [H]
  const float *c_before, *c;  // [H], of a cell that carries
  float *h;                   // forward: the new state
  float *c_out;               // forward: the new c
  float *dh, *dc;             // backward: gradients of the new states, then of the states before
};

template <class Cell> struct RecurrentLayer : torch::autograd::Function<RecurrentLayer<Cell>> {
  struct Saved {
    Tensor x, h0, c0, w_ih, w_hh, y, c; // x [T B, I], y and c [T, B, H]
    std::array<Tensor *, 7> all() { return {&x, &h0, &c0, &w_ih, &w_hh, &y, &c}; }
  };
  struct Buffers {
    Tensor gates, products; // [T B, G H]
    std::array<Tensor *, 2> all() { return {&gates, &products}; }
  };

  static variable_list forward(AutogradContext *ctx, const Variable &x, const Variable &h0,
                               const std::optional<Tensor> &c0, const Variable &w_ih, const Variable &w_hh,
                               const Variable &b_ih, const Variable &b_hh) {
    const int64_t steps = x.size(0), batch = x.size(1), n = w_hh.size(1), width = Cell::gates * n;
    Saved s{x.contiguous().view({steps * batch, x.size(2)}), h0.contiguous(), or_undefined(c0), w_ih,
            w_hh.contiguous(), at::empty({steps, batch, n}, x.options()), Tensor()};
    Buffers b{at::empty({steps * batch, width}, x.options()), Tensor()};
    const InputProducts products{lowered() && has_tiles()};
    if (Cell::separate) { // the state's products start as their bias
      products.forward(b.gates, s.x, w_ih, b_ih);
      b.products = at::empty_like(b.gates).copy_(b_hh);
    } else {
      products.forward(b.gates, s.x, w_ih, b_ih + b_hh);
      b.products = b.gates;
    }
    if (Cell::carries) {
      s.c0 = s.c0.contiguous();
      s.c = at::empty_like(s.y);
    }
    const Matrix G = mutable_matrix(b.gates), P = mutable_matrix(b.products), Y = mutable_matrix(s.y);
    const Matrix C = Cell::carries ? mutable_matrix(s.c) : Matrix{};
    const ConstMatrix H0 = matrix(s.h0), C0 = Cell::carries ? matrix(s.c0) : ConstMatrix{};
    const RightFactor W(matrix(s.w_hh).t(), sequences_a_thread(batch), steps);
    over_sequences(batch, [&](int64_t from, int64_t rows) {
      for (int64_t t = 0; t < steps; t++) {
        const int64_t at = t * batch + from;
        const ConstMatrix h = t > 0 ? Y.part(at - batch, rows) : H0.part(from, rows);
        const ConstMatrix c = !Cell::carries ? C0 : t > 0 ? C.part(at - batch, rows) : C0.part(from, rows);
        W.multiply(P.part(at, rows), h, true);
        for (int64_t i = 0; i < rows; i++) {
          Step step{};
          step.gates = G.row(at + i);
          step.products = P.row(at + i);
          step.h_before = h.row(i);
          step.h = Y.row(at + i);
          if (Cell::carries) {
            step.c_before = c.row(i);
            step.c_out = C.row(at + i);
          }
          Cell::forward(step, n);
        }
      }
    });
    save(ctx, s);
    hold(ctx, b);
    ctx->saved_data["low"] = products.low;
    if (Cell::carries)
      return {s.y, s.c.select(0, steps - 1).clone()};
    return {s.y};
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Saved s = saved<Saved>(ctx);
    const Buffers b = take<Buffers>(ctx, Cell::name);
    const int64_t steps = s.y.size(0), batch = s.y.size(1), n = s.y.size(2);
    const Tensor dh = at::zeros({batch, n}, s.y.options());
    Tensor dc;
    if (Cell::carries)
      dc = grads[1].defined() ? grads[1].clone() : at::zeros_like(dh);
    const Tensor dy = grads[0].defined() ? grads[0].contiguous() : Tensor();
    const Tensor before = states_before(s.h0, s.y), through = at::empty_like(dh);
    const Matrix G = mutable_matrix(b.gates), P = mutable_matrix(b.products), DH = mutable_matrix(dh);
    const Matrix DC = Cell::carries ? mutable_matrix(dc) : Matrix{}, Through = mutable_matrix(through);
    const ConstMatrix C = Cell::carries ? matrix(s.c) : ConstMatrix{};
    const ConstMatrix C0 = Cell::carries ? matrix(s.c0) : ConstMatrix{}, H = matrix(before);
    const RightFactor W(matrix(s.w_hh), sequences_a_thread(batch), steps);
    const ConstMatrix DY = dy.defined() ? matrix(dy) : ConstMatrix{};
    over_sequences(batch, [&](int64_t from, int64_t rows) {
      const Matrix d = DH.part(from, rows), product = Through.part(from, rows);
      for (int64_t t = steps - 1; t >= 0; t--) {
        const int64_t at = t * batch + from;
        if (dy.defined())
          add_to(DY.row(at), d.p, rows * n);
        for (int64_t i = 0; i < rows; i++) {
          Step step{};
          step.gates = G.row(at + i);
          step.products = P.row(at + i);
          step.h_before = H.row(at + i);
          step.dh = d.row(i);
          if (Cell::carries) {
            step.c = C.row(at + i);
            step.c_before = t > 0 ? C.row(at - batch + i) : C0.row(from + i);
            step.dc = DC.row(from + i);
          }
          Cell::backward(step, n);
        }
        // dh holds the part of the gradient that bypasses the products, of a separate cell.
        W.multiply(Cell::separate ? product : d, P.part(at, rows));
        if (Cell::separate)
          add_to(product.p, d.p, rows * n);
      }
    });
    const InputProducts products{ctx->saved_data["low"].toBool()};
    const Tensor d_gates = products.factor(b.gates);
    const Tensor d_products = Cell::separate ? products.factor(b.products) : d_gates;
    variable_list d(7);
    if (ctx->needs_input_grad(0))
      d[0] = products.gradient_of_x(d_gates, s.w_ih).view({steps, batch, s.w_ih.size(1)});
    if (ctx->needs_input_grad(1))
      d[1] = dh;
    if (ctx->needs_input_grad(2))
      d[2] = dc;
    d[3] = products.gradient_of_w(d_gates, s.x);
    d[4] = products.gradient_of_w(d_products, before.view({steps * batch, n}));
    d[5] = b.gates.sum(0);
    d[6] = Cell::separate ? b.products.sum(0) : d[5].clone();
    return d;
  }
};

// recurrent_layer checks the inputs and runs the layer; by_operators(...) does so where
// our kernel does not take them, and returns y and c.
template <class Cell, typename F>
int recurrent_layer(const koala_recurrent_inputs *in, koala_recurrent_outputs *out, const F &by_operators) {
  return guard([&] {
    const Tensor x = ref(in->x), h0 = ref(in->h), c0 = optional(in->c), w_ih = ref(in->input_weight),
                 w_hh = ref(in->hidden_weight), b_ih = ref(in->input_bias), b_hh = ref(in->hidden_bias);
    TORCH_CHECK(x.dim() == 3, Cell::name, ": x must be [time, batch, features], got ", x.sizes());
    const int64_t n = w_hh.size(1), width = Cell::gates * n;
    TORCH_CHECK(w_ih.sizes() == at::IntArrayRef({width, x.size(2)}) && w_hh.size(0) == width, Cell::name, ": weights ",
                w_ih.sizes(), " and ", w_hh.sizes(), " do not fit input ", x.sizes());
    TORCH_CHECK(b_ih.numel() == width && b_hh.numel() == width, Cell::name, ": biases must have ", width, " entries");
    for (const Tensor &state : {h0, c0})
      TORCH_CHECK(!state.defined() || state.sizes() == at::IntArrayRef({x.size(1), n}), Cell::name, ": state ",
                  state.sizes(), " must be [", x.size(1), ", ", n, "]");
    // Our layer is faster than libtorch's in bfloat16.
    const Path path = choose({x, h0, c0, w_ih, w_hh, b_ih, b_hh}, Autocast::Fused);
    const variable_list r = path == Path::Operators
                                ? by_operators(x, h0, c0, std::vector<Tensor>{w_ih, w_hh, b_ih, b_hh})
                                : RecurrentLayer<Cell>::apply(x, h0, given(c0), w_ih, w_hh, b_ih, b_hh);
    *out = {handle(r[0]), handle(r[0].select(0, r[0].size(0) - 1)), Cell::carries ? handle(r[1]) : nullptr};
  });
}

} // namespace koala
