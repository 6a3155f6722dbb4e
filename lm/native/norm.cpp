// A norm alone. Most norms of a Transformer are part of its branches (branch.h).
#include "norm.h"

#include "autograd.h"
#include "parallel.h"

namespace koala {

namespace {

struct Norm : torch::autograd::Function<Norm> {
  struct Saved {
    Tensor x, gain, shift;
    std::array<Tensor *, 3> all() { return {&x, &gain, &shift}; }
  };
  struct Buffers {
    Tensor measures;
    std::array<Tensor *, 1> all() { return {&measures}; }
  };

  static Variable forward(AutogradContext *ctx, const Variable &input, const Variable &gain,
                          const std::optional<Tensor> &shift, double eps) {
    const Tensor x = input.contiguous(), y = at::empty_like(x);
    const ConstMatrix X = matrix(x);
    const Matrix Y = mutable_matrix(y);
    RowNorm rows(gain, or_undefined(shift), eps, X.rows);
    in_parallel(X.rows, 1 + 32768 / X.columns,
                [&](int64_t from, int64_t n) { rows.apply(from, X.part(from, n), Y.part(from, n)); });
    save(ctx, Saved{x, rows.gain, rows.shift});
    hold(ctx, Buffers{rows.measures});
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const Saved s = saved<Saved>(ctx);
    const RowNorm rows(s.gain, s.shift, take<Buffers>(ctx, "norm").measures);
    const Tensor dy = grads[0].contiguous(), dx = at::empty_like(s.x), zeros = at::zeros({s.x.size(-1)}, s.x.options());
    const ConstMatrix X = matrix(s.x), DY = matrix(dy);
    const Matrix DX = mutable_matrix(dx);
    ConstMatrix none = matrix(zeros); // one row of zeros for all
    none.step = 0;
    // Each thread adds up its own rows; the sums are added in the order of the shares.
    const int64_t shares = std::max(1, at::get_num_threads());
    const Tensor sums = at::zeros({2, shares, s.x.size(-1)}, s.x.options());
    in_shares(shares, [&](int64_t share) {
      const int64_t from = X.rows * share / shares, n = X.rows * (share + 1) / shares - from;
      float *d_gain = mutable_matrix(sums.select(0, 0)).row(share);
      float *d_shift = s.shift.defined() ? mutable_matrix(sums.select(0, 1)).row(share) : nullptr;
      rows.backward(from, DY.part(from, n), none, X.part(from, n), DX.part(from, n), d_gain, d_shift);
    });
    const Tensor total = sums.sum(1);
    return {dx, total.select(0, 0), s.shift.defined() ? total.select(0, 1) : Tensor(), Tensor()};
  }
};

} // namespace

Tensor norm(const Tensor &x, const Tensor &gain, const Tensor &shift, double eps) {
  TORCH_CHECK(x.dim() >= 1 && gain.dim() == 1 && x.size(-1) == gain.size(0) &&
                  (!shift.defined() || shift.sizes() == gain.sizes()),
              "norm: gain ", gain.sizes(), " does not fit ", x.sizes());
  // Under autocast x may be a product's result, in bfloat16. It is measured in float32, as
  // its gain is, and the norm is rounded again.
  const Tensor wide = lowered() && x.is_cpu() ? x.to(gain.scalar_type()) : x;
  if (choose({wide, gain, shift}, Autocast::Fused) == Path::Fused)
    return Norm::apply(wide, gain, given(shift), eps).to(x.scalar_type());
  return shift.defined() ? at::layer_norm(x, gain.sizes(), gain, shift, eps) : at::rms_norm(x, gain.sizes(), gain, eps);
}

} // namespace koala

using namespace koala;

KOALA_API int koala_norm(koala_tensor x, koala_branch n, koala_tensor *out) {
  return guard([&] { *out = handle(norm(ref(x), ref(n.gain), optional(n.shift), n.eps)); });
}
