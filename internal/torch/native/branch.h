// A branch of a Transformer's residual stream, y = x + f(norm(x)), a chunk at a time:
// what goes into f is normed where f needs it, forward and again backward, and the
// sums with x are made where x and f's last product are near. Without a gain there is
// neither norm nor stream: y = f(x).
#pragma once
#include "chunks.h"
#include "norm.h"

namespace koala {

class Branch {
public:
  // Forward. items of a chunk are so many rows of x each.
  Branch(const at::Tensor &x, const at::Tensor &gain, const at::Tensor &shift, double eps, const Chunks &chunks, int64_t rows)
      : Branch(x, gain, shift, at::Tensor(), chunks, rows, 1) {
    eps_ = static_cast<float>(eps);
  }

  // Backward, with what forward measured.
  Branch(const at::Tensor &x, const at::Tensor &gain, const at::Tensor &shift, const at::Tensor &measures, const Chunks &chunks, int64_t rows)
      : Branch(x, gain, shift, measures, chunks, rows, 2) {}

  bool normed() const { return norm_.has_value(); }
  at::Tensor measures() const { return normed() ? norm_->measures : at::Tensor(); }

  // in is what goes into f of the rows [from, from + n) of x.
  Matrix in(int64_t share, int64_t from, int64_t n) const {
    const Matrix x = x_.part(from, n);
    if (!normed())
      return x;
    const Matrix y = scratch(0, share, n);
    again_ ? norm_->again(from, x, y) : norm_->apply(from, x, y, eps_);
    return y;
  }

  // out writes y, h being what f's last layer takes.
  void out(const Matrix &y, int64_t from, const Matrix &h, const Matrix &w, const at::Tensor &b) const {
    normed() ? affine_onto(x_.part(from, y.rows), y, h, w, b) : affine(y, h, w, b);
  }

  // gradient_in is where the gradient of in belongs.
  Matrix gradient_in(int64_t share, const Matrix &dx) const { return normed() ? scratch(1, share, dx.rows) : dx; }

  // back makes dx of the gradient of in, and of y's.
  void back(int64_t share, int64_t from, const Matrix &d_in, const Matrix &dy, const Matrix &dx) const {
    if (normed())
      norm_->backward(from, d_in, dy, x_.part(from, dx.rows), dx, d_gain.sum(share), d_shift.sum(share));
  }

  const Gradient d_gain, d_shift; // backward's

private:
  Branch(const at::Tensor &x, const at::Tensor &gain, const at::Tensor &shift, const at::Tensor &measures, const Chunks &chunks, int64_t rows,
         int64_t buffers)
      : d_gain(buffers > 1 ? gain : at::Tensor(), chunks.shares), d_shift(buffers > 1 ? shift : at::Tensor(), chunks.shares), x_(matrix(x)),
        again_(buffers > 1) {
    if (!gain.defined())
      return;
    measures.defined() ? norm_.emplace(gain, shift, measures) : norm_.emplace(gain, shift, x_.rows);
    scratch_ = at::empty({buffers, chunks.shares, chunks.height() * rows, x_.columns}, x.options());
  }

  Matrix scratch(int64_t which, int64_t share, int64_t n) const { return matrix(scratch_.select(0, which).select(0, share)).part(0, n); }

  Matrix x_;
  bool again_;
  float eps_ = 0;
  std::optional<RowNorm> norm_;
  at::Tensor scratch_;
};

// check_branch throws where the norm does not fit x.
inline void check_branch(const at::Tensor &x, const at::Tensor &gain, const at::Tensor &shift) {
  if (gain.defined())
    TORCH_CHECK(gain.dim() == 1 && gain.size(0) == x.size(-1) && (!shift.defined() || shift.sizes() == gain.sizes()), "a branch with gain ",
                gain.sizes(), " does not fit ", x.sizes());
}

inline at::Tensor dropped(const at::Tensor &x, double share) { return share > 0 ? at::dropout(x, share, true) : x; }

} // namespace koala
