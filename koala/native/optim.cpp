// Optimizer steps on the CPU: one pass over all parameters at a time, in one
// parallel region, so that a step costs little more than the memory it touches.
//
// A kernel sees one parameter at a time: the parameter p, its gradient g and up
// to two state tensors of the same layout, with arguments that the caller computed
// in float64. Each kernel has an operator form in koala/spec, which the tests
// compare it with. The two agree on names: a kernel is found by its name, and the
// caller's arguments, state tensors and sums must have the names in the table.
//
// Sums run in float64, over blocks of fixed size that are added up in order:
// they do not depend on the number of threads, float32 squares cannot overflow,
// and a NaN or infinity anywhere in g shows in the sum.
#include <cmath>
#include <cstring>
#include <vector>

#include "common.h"
#include "isa.h"
#include "kernels.h"
#include "parallel.h"

namespace koala {

// A block of a parameter: elements [0, n). first and second are its state tensors.
template <typename T> struct Block {
  T *__restrict p;
  const T *__restrict g;
  T *__restrict first;
  T *__restrict second;
  int64_t n;
  const double *args;
  double *sums;
};

constexpr int64_t block_size = 8192; // elements: five float32 streams fit the second-level cache many times over

// One block of one parameter: which, and from where.
struct Piece {
  int64_t param, from;
};

template <typename T> static T *offset(T *base, int64_t from) { return base == nullptr ? nullptr : base + from; }

// run_blocks runs kernel over all blocks of all parameters.
template <typename T>
static void run_blocks(void (*kernel)(const Block<T> &), const Pass<T> &pass, size_t arg_count, size_t sum_count) {
  std::vector<Piece> pieces;
  for (int64_t i = 0; i < pass.count(); i++)
    for (int64_t from = 0; from < pass.params[i].size; from += block_size)
      pieces.push_back({i, from});
  std::vector<double> partial(pieces.size() * sum_count + 1, 0.0);
  const int64_t count = static_cast<int64_t>(pieces.size());
  in_parallel(count, 4, [&](int64_t from, int64_t pieces_here) {
    for (int64_t j = from; j < from + pieces_here; j++) {
      const Piece piece = pieces[j];
      const Operands<T> &t = pass.params[piece.param];
      const int64_t n = std::min(block_size, t.size - piece.from);
      kernel({offset(t.p, piece.from), offset(t.g, piece.from), offset(t.first, piece.from),
              offset(t.second, piece.from), n, pass.args + piece.param * arg_count, &partial[j * sum_count]});
    }
  });
  for (int64_t j = 0; j < count; j++)
    for (size_t s = 0; s < sum_count; s++)
      pass.sums[pieces[j].param * sum_count + s] += partial[j * sum_count + s];
}

// KERNEL is a function of a block x, its arguments a and its sums, compiled for float and
// double and for each instruction set (isa.h).
#define KERNEL(name, Args, Sums)                                                                                       \
  using name##_args = Args;                                                                                            \
  using name##_sums = Sums;                                                                                            \
  template <typename T>                                                                                                \
  static __attribute__((always_inline)) inline void name##_body(const Block<T> &x, const Args &a, Sums &sums);         \
  template <typename T> static __attribute__((always_inline)) inline void name##_block(const Block<T> &x) {            \
    name##_body<T>(x, *reinterpret_cast<const Args *>(x.args), *reinterpret_cast<Sums *>(x.sums));                     \
  }                                                                                                                    \
  template <typename T> static void name(const Pass<T> &pass) {                                                        \
    static void (*const kernel)(const Block<T> &) = Clones<name##_block<T>>::pick();                                   \
    run_blocks(kernel, pass, sizeof(Args) / sizeof(double), sizeof(Sums) / sizeof(double));                            \
  }                                                                                                                    \
  template <typename T>                                                                                                \
  static __attribute__((always_inline)) inline void name##_body(const Block<T> &x, [[maybe_unused]] const Args &a,     \
                                                                [[maybe_unused]] Sums &sums)

FIELDS(Moments, gg, gp, pp);
FIELDS(Products, gg, gv, gh);
FIELDS(AllProducts, gg, gp, pp, gv, gh, pv, ph);
FIELDS(Distance, distance);
FIELDS(ScaledNorm, gg, gdg);

FIELDS(AdamNormArgs, clip, beta2, beta2_rest, correction, eps);
FIELDS(DescentArgs, rate, keep);
FIELDS(MoveArgs, factor);
FIELDS(MomentumArgs, clip, decay, momentum, rate, gradient_rate);
FIELDS(KoalaMArgs, clip, decay, weight_step, velocity_keep, velocity_step, average_keep, average_rest);
FIELDS(KoalaPPArgs, clip, decay, of_covariance, of_gradient, of_last, rate, q);
FIELDS(AdamArgs, clip, decay, beta1_rest, beta2, keep, rate, root_correction, eps);
FIELDS(ASGDArgs, clip, decay, keep, rate, share);

// |g|^2
KERNEL(squares, None, Squares) {
  const T *__restrict g = x.g;
  double gg = 0;
#pragma omp simd reduction(+ : gg)
  for (int64_t i = 0; i < x.n; i++)
    gg += static_cast<double>(g[i]) * g[i];
  sums.gg = gg;
}

// |g|^2, g.p, |p|^2
KERNEL(moments, None, Moments) {
  const T *__restrict g = x.g;
  const T *__restrict p = x.p;
  double gg = 0, gp = 0, pp = 0;
#pragma omp simd reduction(+ : gg, gp, pp)
  for (int64_t i = 0; i < x.n; i++) {
    const double gi = g[i], pi = p[i];
    gg += gi * gi;
    gp += gi * pi;
    pp += pi * pi;
  }
  sums = {gg, gp, pp};
}

// |g|^2, and g's products with the covariance's v and the last gradient h
KERNEL(koala_pp_products, None, Products) {
  const T *__restrict g = x.g;
  const T *__restrict v = x.first;
  const T *__restrict h = x.second;
  double gg = 0, gv = 0, gh = 0;
#pragma omp simd reduction(+ : gg, gv, gh)
  for (int64_t i = 0; i < x.n; i++) {
    const double gi = g[i];
    gg += gi * gi;
    gv += gi * v[i];
    gh += gi * h[i];
  }
  sums = {gg, gv, gh};
}

// moments, and g's and p's products with v and h
KERNEL(koala_pp_all_products, None, AllProducts) {
  const T *__restrict g = x.g;
  const T *__restrict p = x.p;
  const T *__restrict v = x.first;
  const T *__restrict h = x.second;
  double gg = 0, gp = 0, pp = 0, gv = 0, gh = 0, pv = 0, ph = 0;
#pragma omp simd reduction(+ : gg, gp, pp, gv, gh, pv, ph)
  for (int64_t i = 0; i < x.n; i++) {
    const double gi = g[i], pi = p[i], vi = v[i], hi = h[i];
    gg += gi * gi;
    gp += gi * pi;
    pp += pi * pi;
    gv += gi * vi;
    gh += gi * hi;
    pv += pi * vi;
    ph += pi * hi;
  }
  sums = {gg, gp, pp, gv, gh, pv, ph};
}

// |average - p|^2
KERNEL(koala_m_distance, None, Distance) {
  const T *__restrict p = x.p;
  const T *__restrict average = x.second;
  double dd = 0;
#pragma omp simd reduction(+ : dd)
  for (int64_t i = 0; i < x.n; i++) {
    const double d = average[i] - p[i];
    dd += d * d;
  }
  sums.distance = dd;
}

// |g|^2, and of h = clip g the norm h.D h under D = 1 / (sqrt(correction v) + eps),
// v = beta2 square + beta2_rest h^2 being the mean square that adam will write.
KERNEL(adam_norm, AdamNormArgs, ScaledNorm) {
  const T *__restrict g = x.g;
  const T *__restrict square = x.second;
  const T clip = a.clip, beta2 = a.beta2, rest = a.beta2_rest, correction = a.correction, eps = a.eps;
  double gg = 0, hdh = 0;
#pragma omp simd reduction(+ : gg, hdh)
  for (int64_t i = 0; i < x.n; i++) {
    const T h = clip * g[i];
    const T d = std::sqrt(correction * (beta2 * square[i] + rest * h * h)) + eps;
    gg += static_cast<double>(g[i]) * g[i];
    hdh += static_cast<double>(h) * (h / d);
  }
  sums = {gg, hdh};
}

// p = keep p - rate g
KERNEL(descent, DescentArgs, None) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  const T rate = a.rate, keep = a.keep;
  if (keep == 1) {
#pragma omp simd
    for (int64_t i = 0; i < x.n; i++)
      p[i] -= rate * g[i];
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++)
    p[i] = keep * p[i] - rate * g[i];
}

// p += factor velocity
KERNEL(koala_m_predict, MoveArgs, None) {
  T *__restrict p = x.p;
  const T *__restrict velocity = x.first;
  const T factor = a.factor;
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++)
    p[i] += factor * velocity[i];
}

// d = clip g + decay p; b = momentum b + d; p -= rate b + gradient_rate d
KERNEL(sgd_momentum, MomentumArgs, None) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict b = x.first;
  const T clip = a.clip, decay = a.decay, momentum = a.momentum, rate = a.rate, gradient_rate = a.gradient_rate;
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++) {
    const T d = clip * g[i] + decay * p[i];
    b[i] = momentum * b[i] + d;
    p[i] -= rate * b[i] + gradient_rate * d;
  }
}

// h = clip g + decay p; p -= weight_step h; v = velocity_keep v - velocity_step h;
// m = average_keep m + average_rest p; then |m - p|^2
KERNEL(koala_m, KoalaMArgs, Distance) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict v = x.first;
  T *__restrict m = x.second;
  const T clip = a.clip, decay = a.decay, weight_step = a.weight_step, velocity_keep = a.velocity_keep;
  const T velocity_step = a.velocity_step, average_keep = a.average_keep, average_rest = a.average_rest;
  double dd = 0;
#pragma omp simd reduction(+ : dd)
  for (int64_t i = 0; i < x.n; i++) {
    const T h = clip * g[i] + decay * p[i];
    const T pi = p[i] - weight_step * h;
    const T mi = average_keep * m[i] + average_rest * pi;
    v[i] = velocity_keep * v[i] - velocity_step * h;
    p[i] = pi;
    m[i] = mi;
    const double away = mi - pi;
    dd += away * away;
  }
  sums.distance = dd;
}

// h = clip g + decay p; v = of_covariance v + of_gradient h + of_last h0;
// p -= rate (v + q h); h0 = h
KERNEL(koala_pp, KoalaPPArgs, None) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict covariance = x.first;
  T *__restrict last = x.second;
  const T clip = a.clip, decay = a.decay, of_covariance = a.of_covariance, of_gradient = a.of_gradient;
  const T of_last = a.of_last, rate = a.rate, q = a.q;
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++) {
    const T h = clip * g[i] + decay * p[i];
    const T v = of_covariance * covariance[i] + of_gradient * h + of_last * last[i];
    covariance[i] = v;
    last[i] = h;
    p[i] -= rate * (v + q * h);
  }
}

// h = clip g + decay p; m += beta1_rest (h - m); v = beta2 v + (1 - beta2) h^2;
// p = keep p - rate m / (root_correction sqrt(v) + eps)
KERNEL(adam, AdamArgs, None) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict mean = x.first;
  T *__restrict square = x.second;
  const T clip = a.clip, decay = a.decay, beta1_rest = a.beta1_rest, beta2 = a.beta2, keep = a.keep, rate = a.rate;
  const T root_correction = a.root_correction, eps = a.eps;
  const T beta2_rest = 1 - a.beta2;
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++) {
    const T h = clip * g[i] + decay * p[i];
    const T m = mean[i] + beta1_rest * (h - mean[i]);
    const T v = beta2 * square[i] + beta2_rest * h * h;
    mean[i] = m;
    square[i] = v;
    p[i] = keep * p[i] - rate * (m / (root_correction * std::sqrt(v) + eps));
  }
}

// d = clip g + decay p; p = keep p - rate d; average += share (p - average)
KERNEL(asgd, ASGDArgs, None) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict average = x.first;
  const T clip = a.clip, decay = a.decay, keep = a.keep, rate = a.rate, share = a.share;
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++) {
    const T d = clip * g[i] + decay * p[i];
    const T pi = keep * p[i] - rate * d;
    p[i] = pi;
    average[i] += share * (pi - average[i]);
  }
}

// One kernel's entry: what the caller has to know, and its two functions. state
// names the tensors that first and second are; "" for one that is not used.
struct Kernel {
  const char *name, *args, *sums;
  const char *first, *second;
  bool writes;
  void (*of_float)(const Pass<float> &);
  void (*of_double)(const Pass<double> &);
};

#define ENTRY(name, first, second, writes)                                                                             \
  {#name, name##_args::names, name##_sums::names, first, second, writes, name<float>, name<double>}

#define ORTHOGONAL(name, momentum)                                                                                     \
  {#name, OrthogonalArgs::names, None::names, momentum, "", writes, orthogonal_step<float>, orthogonal_step<double>}

constexpr bool reads = false, writes = true;

static const Kernel kernels[] = {
    ENTRY(squares, "", "", reads),
    ENTRY(moments, "", "", reads),
    ENTRY(koala_pp_products, "covariance", "gradient", reads),
    ENTRY(koala_pp_all_products, "covariance", "gradient", reads),
    ENTRY(koala_m_distance, "", "average", reads),
    ENTRY(adam_norm, "", "square", reads),
    ENTRY(descent, "", "", writes),
    ENTRY(koala_m_predict, "velocity", "", writes),
    ENTRY(sgd_momentum, "momentum", "", writes),
    ENTRY(koala_m, "velocity", "average", writes),
    ENTRY(koala_pp, "covariance", "gradient", writes),
    ENTRY(adam, "mean", "square", writes),
    ENTRY(asgd, "average", "", writes),
    {"block_squares", BlockArgs::names, Squares::names, "", "", reads, block_squares<float>, block_squares<double>},
    ORTHOGONAL(koala_k, "mean"),
    ORTHOGONAL(muon, "momentum"),
};

static size_t count_names(const char *names) {
  size_t n = *names != 0;
  for (; *names; names++)
    n += *names == ',';
  return n;
}

static bool dense_on_cpu(const at::Tensor &t) {
  return t.device().is_cpu() && t.layout() == at::kStrided && t.is_non_overlapping_and_dense() &&
         (t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble);
}

// same_layout: t has the same elements as p at the same places.
static bool same_layout(const at::Tensor &p, const at::Tensor &t) {
  return t.layout() == at::kStrided && t.device() == p.device() && t.scalar_type() == p.scalar_type() && t.sizes() == p.sizes() &&
         t.strides() == p.strides();
}

template <typename T> static T *pointer(const at::Tensor &p, koala_tensor t) {
  if (t == nullptr)
    return nullptr;
  TORCH_CHECK(same_layout(p, ref(t)), "optimizer: a tensor of layout ", ref(t).sizes(), " beside a parameter of ",
              p.sizes());
  return ref(t).data_ptr<T>();
}

template <typename T>
static void run(const Kernel &k, void (*kernel)(const Pass<T> &), const koala_kernel_param *params, int count,
                const double *args, double *sums) {
  Pass<T> pass{std::vector<Operands<T>>(count), args, sums};
  for (int i = 0; i < count; i++) {
    const at::Tensor &p = ref(params[i].p);
    TORCH_CHECK(dense_on_cpu(p) && p.scalar_type() == ref(params[0].p).scalar_type(),
                "optimizer: parameters of one type on the CPU only");
    Operands<T> &x = pass.params[i];
    x = {p.data_ptr<T>(), pointer<T>(p, params[i].g), pointer<T>(p, params[i].state[0]),
         pointer<T>(p, params[i].state[1]), p.numel()};
    if (p.dim() == 2)
      x.rows = p.size(0), x.columns = p.size(1), x.row_stride = p.stride(0), x.column_stride = p.stride(1);
    if (k.writes)
      // A second backward through the old value is an error, as after any in-place operator.
      p.unsafeGetTensorImpl()->bump_version();
  }
  std::fill(sums, sums + count * count_names(k.sums), 0.0);
  kernel(pass);
}

} // namespace koala

using namespace koala;

KOALA_API uint64_t koala_address(koala_tensor t) {
  uint64_t address = 0;
  guard([&] { address = reinterpret_cast<uint64_t>(ref(t).const_data_ptr()); }); // sparse tensors have none
  return address;
}

KOALA_API int koala_same(koala_tensor a, koala_tensor b) { return ref(a).is_same(ref(b)) ? 1 : 0; }

KOALA_API int koala_fusable(koala_tensor p) { return dense_on_cpu(ref(p)) ? 1 : 0; }

KOALA_API int koala_laid_out_like(koala_tensor p, koala_tensor t, koala_tensor *out) {
  return guard([&] {
    if (!same_layout(ref(p), ref(t)))
      *out = handle(at::empty_like(ref(p)).copy_(ref(t)));
  });
}

KOALA_API int koala_kernel_find(const char *name, koala_kernel_info *info) {
  for (size_t i = 0; i < std::size(kernels); i++)
    if (std::strcmp(kernels[i].name, name) == 0) {
      *info = {kernels[i].args, kernels[i].sums, {kernels[i].first, kernels[i].second}};
      return static_cast<int>(i);
    }
  return -1;
}

KOALA_API int koala_kernel_run(int kernel, const koala_kernel_param *params, int count, const double *args,
                               double *sums) {
  return guard([&] {
    const Kernel &k = kernels[kernel];
    if (count == 0)
      return;
    if (ref(params[0].p).scalar_type() == at::kFloat)
      run(k, k.of_float, params, count, args, sums);
    else
      run(k, k.of_double, params, count, args, sums);
  });
}
