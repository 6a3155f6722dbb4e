// A branch of a Transformer's residual stream, y = x + f(norm(x)), computed a chunk at a
// time. The norm is made where f needs it, forward and again backward; the sum with x is
// made together with f's last product. Without a gain there is neither norm nor stream:
// y = f(x).
#pragma once
#include "autograd.h"
#include "chunks.h"
#include "norm.h"

namespace koala {

// A Stream is the norm of a branch and the dropout of f's result. It is undefined where the
// operator has no branch.
struct Stream {
  at::Tensor gain, shift;
  double eps = 0, dropout = 0;

  Stream() = default;
  Stream(at::Tensor gain, at::Tensor shift, double eps)
      : gain(std::move(gain)), shift(std::move(shift)), eps(eps) {}
  explicit Stream(const koala_branch &b)
      : gain(optional(b.gain)), shift(optional(b.shift)), eps(b.eps), dropout(b.dropout) {}

  bool defined() const { return gain.defined(); }

  // check throws where the norm does not fit x.
  void check(const at::Tensor &x) const {
    if (defined())
      TORCH_CHECK(gain.dim() == 1 && gain.size(0) == x.size(-1) && (!shift.defined() || shift.sizes() == gain.sizes()),
                  "a branch with gain ", gain.sizes(), " does not fit ", x.sizes());
  }

  // apply is x + dropout(f(norm(x))), with f by kernel or by operators, and the rest by
  // operators.
  template <typename F> at::Tensor apply(const at::Tensor &x, const F &f) const {
    if (!defined())
      return f(x);
    const at::Tensor y = f(norm(x, gain, shift, eps));
    return x + (dropout > 0 ? at::dropout(y, dropout, true) : y);
  }
};

class Branch {
public:
  // Forward. Each item of a chunk is so many rows of x.
  Branch(const at::Tensor &x, const Stream &s, const Chunks &chunks, int64_t rows)
      : d_gain({}, 0), d_shift({}, 0), x_(matrix(x)) {
    if (!s.defined())
      return;
    norm_.emplace(s.gain, s.shift, s.eps, x_.rows);
    make_scratch(x, 1, chunks, rows);
  }

  // Backward, with the measures from forward.
  Branch(const at::Tensor &x, const Stream &s, const at::Tensor &measures, const Chunks &chunks, int64_t rows)
      : d_gain(s.gain, chunks.shares), d_shift(s.shift, chunks.shares), x_(matrix(x)), backward_(true) {
    if (!s.defined())
      return;
    norm_.emplace(s.gain, s.shift, measures);
    make_scratch(x, 2, chunks, rows);
  }

  bool normed() const { return norm_.has_value(); }
  at::Tensor measures() const { return normed() ? norm_->measures : at::Tensor(); }

  // in is f's input for the rows [from, from + n) of x.
  ConstMatrix in(int64_t share, int64_t from, int64_t n) {
    const ConstMatrix x = x_.part(from, n);
    if (!normed())
      return x;
    const Matrix y = scratch(0, share, n);
    backward_ ? norm_->repeat(from, x, y) : norm_->apply(from, x, y);
    return y;
  }

  // out writes y. h is the input of f's last layer.
  void out(const Matrix &y, int64_t from, const ConstMatrix &h, const Linear &last) const {
    normed() ? last.apply_onto(x_.part(from, y.rows), y, h) : last.apply(y, h);
  }

  // gradient_in is where the gradient of f's input is to be written.
  Matrix gradient_in(int64_t share, const Matrix &dx) const { return normed() ? scratch(1, share, dx.rows) : dx; }

  // back writes dx from the gradients of f's input and of y.
  void back(int64_t share, int64_t from, const ConstMatrix &d_in, const ConstMatrix &dy, const Matrix &dx) const {
    if (normed())
      norm_->backward(from, d_in, dy, x_.part(from, dx.rows), dx, d_gain.sum(share), d_shift.sum(share));
  }

  const Gradient d_gain, d_shift; // backward's

private:
  void make_scratch(const at::Tensor &x, int64_t buffers, const Chunks &chunks, int64_t rows) {
    scratch_ = at::empty({buffers, chunks.shares, chunks.height() * rows, x_.columns}, x.options());
  }

  Matrix scratch(int64_t which, int64_t share, int64_t n) const {
    return mutable_matrix(scratch_.select(0, which).select(0, share)).part(0, n);
  }

  ConstMatrix x_;
  bool backward_ = false;
  std::optional<RowNorm> norm_;
  at::Tensor scratch_;
};

} // namespace koala
