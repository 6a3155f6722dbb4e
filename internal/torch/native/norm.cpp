// A norm alone. Most of a Transformer's are part of its branches (branch.h).
#include <torch/csrc/autograd/custom_function.h>

#include "norm.h"

namespace koala {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct Norm : torch::autograd::Function<Norm> {
  static Variable forward(AutogradContext *ctx, const Variable &input, const Variable &gain, const std::optional<Tensor> &shift, double eps) {
    const Tensor x = input.contiguous(), y = at::empty_like(x);
    const Matrix X = matrix(x), Y = matrix(y);
    const RowNorm rows(gain, or_undefined(shift), X.rows);
    at::parallel_for(0, X.rows, 1 + 32768 / X.columns, [&](int64_t from, int64_t to) {
      rows.apply(from, X.part(from, to - from), Y.part(from, to - from), static_cast<float>(eps));
    });
    ctx->save_for_backward({x, rows.gain, rows.shift});
    ctx->saved_data["measures"] = rows.measures;
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0];
    const RowNorm rows(saved[1], saved[2], ctx->saved_data["measures"].toTensor());
    const Tensor dy = grads[0].contiguous(), dx = at::empty_like(x), nothing = at::zeros({x.size(-1)}, x.options());
    const Matrix X = matrix(x), DY = matrix(dy), DX = matrix(dx);
    Matrix none = matrix(nothing); // one row of zeros for all
    none.step = 0;
    // Each thread adds up its own rows; the order of the sums is that of the shares.
    const int64_t shares = std::max(1, at::get_num_threads());
    const Tensor sums = at::zeros({2, shares, x.size(-1)}, x.options());
    at::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
      for (int64_t s = first; s < last; s++) {
        const int64_t from = X.rows * s / shares, n = X.rows * (s + 1) / shares - from;
        float *d_gain = matrix(sums.select(0, 0)).row(s), *d_shift = rows.shift.defined() ? matrix(sums.select(0, 1)).row(s) : nullptr;
        rows.backward(from, DY.part(from, n), none, X.part(from, n), DX.part(from, n), d_gain, d_shift);
      }
    });
    const Tensor total = sums.sum(1);
    return {dx, total.select(0, 0), rows.shift.defined() ? total.select(0, 1) : Tensor(), Tensor()};
  }
};

Tensor norm(const Tensor &x, const Tensor &gain, const Tensor &shift, double eps) {
  TORCH_CHECK(x.dim() >= 1 && gain.dim() == 1 && x.size(-1) == gain.size(0) && (!shift.defined() || shift.sizes() == gain.sizes()),
              "norm: gain ", gain.sizes(), " does not fit ", x.sizes());
  if (fused(x) && gain.scalar_type() == at::kFloat && x.numel() > 0)
    return Norm::apply(x, gain, given(shift), eps);
  return shift.defined() ? at::layer_norm(x, gain.sizes(), gain, shift, eps) : at::rms_norm(x, gain.sizes(), gain, eps);
}

} // namespace koala

using namespace koala;

// x [..., D], gain [D], shift [D]; without a shift it is RMSNorm.
KOALA_API int koala_norm(koala_tensor x, koala_tensor gain, koala_tensor shift, double eps, koala_tensor *out) {
  return guard([&] { *out = handle(norm(ref(x), ref(gain), optional(shift), eps)); });
}
