// Elementwise operators on lists of tensors. A device starts one kernel for many tensors,
// where an operator for each would take longer to start than to run on a small tensor.
#include <ATen/ATen.h>
#include <c10/util/irange.h>

#include <cstring>

#include "common.h"

namespace koala {

namespace {

using at::Tensor;
using List = std::vector<Tensor>;

struct Operands {
  List a, b;
  std::vector<at::Scalar> v;
};

// wide converts to float64.
List wide(const List &list) {
  if (list[0].scalar_type() == at::kDouble)
    return list;
  List out;
  for (const Tensor &t : list)
    out.push_back(at::empty_like(t, t.options().dtype(at::kDouble)));
  at::_foreach_copy_(out, list);
  return out;
}

// dot returns the sums of products in float64. There is no sum of a list, but there are
// norms. The 1-norm counts negative products as positive ones.
List dot(const Operands &o) {
  List out;
  if (o.a[0].is_cpu()) {
    for (const auto i : c10::irange(o.a.size())) {
      const Tensor x = o.a[i].to(at::kDouble);
      out.push_back(o.a[i].is_same(o.b[i]) ? x.square().sum() : (x * o.b[i].to(at::kDouble)).sum());
    }
    return out;
  }
  if (o.a[0].is_same(o.b[0])) {
    out = at::_foreach_norm(o.a, 2, at::kDouble);
    at::_foreach_mul_(out, out);
    return out;
  }
  List products = at::_foreach_mul(wide(o.a), wide(o.b));
  out = at::_foreach_norm(products, 1);
  at::_foreach_clamp_max_(products, 0);
  at::_foreach_sub_(out, at::_foreach_norm(products, 1), 2);
  return out;
}

List clone(const Operands &o) {
  List out;
  for (const Tensor &t : o.a)
    out.push_back(at::empty_like(t));
  at::_foreach_copy_(out, o.a);
  return out;
}

// An Operator computes a list from lists, or changes the first in place and returns none.
struct Operator {
  const char *name;
  List (*run)(const Operands &);
};

const Operator operators[] = {
    {"add", [](const Operands &o) { return at::_foreach_add(o.a, o.b); }},
    {"sub", [](const Operands &o) { return at::_foreach_sub(o.a, o.b); }},
    {"mul", [](const Operands &o) { return at::_foreach_mul(o.a, o.b); }},
    {"div", [](const Operands &o) { return at::_foreach_div(o.a, o.b); }},
    {"maximum", [](const Operands &o) { return at::_foreach_maximum(o.a, o.b); }},
    {"scale", [](const Operands &o) { return at::_foreach_mul(o.a, o.v); }},
    {"shift", [](const Operands &o) { return at::_foreach_add(o.a, o.v); }},
    {"clamp_min", [](const Operands &o) { return at::_foreach_clamp_min(o.a, o.v); }},
    {"square", [](const Operands &o) { return at::_foreach_mul(o.a, o.a); }},
    {"sqrt", [](const Operands &o) { return at::_foreach_sqrt(o.a); }},
    {"sign", [](const Operands &o) { return at::_foreach_sign(o.a); }},
    {"abs", [](const Operands &o) { return at::_foreach_abs(o.a); }},
    {"dot", dot},
    {"clone", clone},
    {"add_", [](const Operands &o) { return at::_foreach_add_(o.a, o.b), List(); }},
    {"sub_", [](const Operands &o) { return at::_foreach_sub_(o.a, o.b), List(); }},
    {"scale_", [](const Operands &o) { return at::_foreach_mul_(o.a, o.v), List(); }},
    {"copy_", [](const Operands &o) { return at::_foreach_copy_(o.a, o.b), List(); }},
};

} // namespace

} // namespace koala

using namespace koala;

// Where the operator changes a, out stays as it is.
KOALA_API int koala_foreach(const char *name, int n, const koala_tensor *a, const koala_tensor *b, const double *v,
                            koala_tensor *out) {
  return guard([&] {
    Operands o;
    for (const auto i : c10::irange(n)) {
      o.a.push_back(ref(a[i]));
      if (b != nullptr)
        o.b.push_back(ref(b[i]));
      if (v != nullptr)
        o.v.emplace_back(v[i]);
    }
    for (const Operator &op : operators)
      if (std::strcmp(op.name, name) == 0) {
        List results = op.run(o);
        for (const auto i : c10::irange(results.size()))
          out[i] = handle(std::move(results[i]));
        return;
      }
    TORCH_CHECK(false, "there is no operator ", name, " on lists");
  });
}

// Whether the elements of t lie without gaps and those of other, if there is one, in the
// same order: one kernel for many tensors needs that.
KOALA_API int koala_dense_alike(koala_tensor t, koala_tensor other) {
  const Tensor &a = ref(t);
  if (a.layout() != at::kStrided || !a.is_non_overlapping_and_dense())
    return 0;
  return other == nullptr || (ref(other).layout() == at::kStrided && a.sizes() == ref(other).sizes() && a.strides() == ref(other).strides());
}
