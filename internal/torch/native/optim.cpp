// Optimizer steps on the CPU: one pass over all parameters at a time, in one
// parallel region, so that a step costs little more than the memory it touches.
//
// A kernel sees one parameter at a time: the parameter p, its gradient g and up
// to two tensors of state a and b, all of one layout, with coefficients k that
// the caller worked out in float64. Package koala says what each is for; its
// operator form there is what the tests hold these to.
//
// Sums run in float64, over blocks of fixed size that are added up in order:
// they do not depend on the number of threads, float32 squares cannot overflow,
// and a NaN or infinity anywhere in g shows in the sum.
#include <omp.h>

#include <cmath>
#include <vector>

#include "common.h"

namespace koala {

// What a kernel works on: elements [0, n) of a block.
template <typename T> struct Block {
  T *__restrict p;
  const T *__restrict g;
  T *__restrict a;
  T *__restrict b;
  int64_t n;
  const double *k;
  double *sum;
};

// Each kernel is a member of its own struct, so that target_clones applies to
// plain functions of two types.
#define KERNEL(name)                                                                                                   \
  template <typename T> static __attribute__((always_inline)) inline void name##_body(const Block<T> &x);             \
  KOALA_SIMD static void name(const Block<float> &x) { name##_body<float>(x); }                                        \
  KOALA_SIMD static void name(const Block<double> &x) { name##_body<double>(x); }                                      \
  template <typename T> static __attribute__((always_inline)) inline void name##_body(const Block<T> &x)

// |g|^2
KERNEL(squares) {
  const T *__restrict g = x.g;
  double gg = 0;
#pragma omp simd reduction(+ : gg)
  for (int64_t i = 0; i < x.n; i++)
    gg += static_cast<double>(g[i]) * g[i];
  x.sum[0] = gg;
}

// |g|^2, g.p, |p|^2
KERNEL(moments) {
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
  x.sum[0] = gg, x.sum[1] = gp, x.sum[2] = pp;
}

// |g|^2, g.a, g.b
KERNEL(products) {
  const T *__restrict g = x.g;
  const T *__restrict a = x.a;
  const T *__restrict b = x.b;
  double gg = 0, ga = 0, gb = 0;
#pragma omp simd reduction(+ : gg, ga, gb)
  for (int64_t i = 0; i < x.n; i++) {
    const double gi = g[i];
    gg += gi * gi;
    ga += gi * a[i];
    gb += gi * b[i];
  }
  x.sum[0] = gg, x.sum[3] = ga, x.sum[4] = gb;
}

// moments, then g.a, g.b, p.a, p.b
KERNEL(all_products) {
  const T *__restrict g = x.g;
  const T *__restrict p = x.p;
  const T *__restrict a = x.a;
  const T *__restrict b = x.b;
  double gg = 0, gp = 0, pp = 0, ga = 0, gb = 0, pa = 0, pb = 0;
#pragma omp simd reduction(+ : gg, gp, pp, ga, gb, pa, pb)
  for (int64_t i = 0; i < x.n; i++) {
    const double gi = g[i], pi = p[i], ai = a[i], bi = b[i];
    gg += gi * gi;
    gp += gi * pi;
    pp += pi * pi;
    ga += gi * ai;
    gb += gi * bi;
    pa += pi * ai;
    pb += pi * bi;
  }
  x.sum[0] = gg, x.sum[1] = gp, x.sum[2] = pp, x.sum[3] = ga, x.sum[4] = gb, x.sum[5] = pa, x.sum[6] = pb;
}

// |b - p|^2
KERNEL(distance) {
  const T *__restrict p = x.p;
  const T *__restrict b = x.b;
  double dd = 0;
#pragma omp simd reduction(+ : dd)
  for (int64_t i = 0; i < x.n; i++) {
    const double d = b[i] - p[i];
    dd += d * d;
  }
  x.sum[0] = dd;
}

// |g|^2, and of h = k0 g the norm h.D h under D = 1 / (sqrt(k3 v) + k4),
// v = k1 b + k2 h^2 being the mean square that scaled will write.
KERNEL(scaled_square) {
  const T *__restrict g = x.g;
  const T *__restrict b = x.b;
  const T k0 = x.k[0], k1 = x.k[1], k2 = x.k[2], k3 = x.k[3], k4 = x.k[4];
  double gg = 0, hdh = 0;
#pragma omp simd reduction(+ : gg, hdh)
  for (int64_t i = 0; i < x.n; i++) {
    const T h = k0 * g[i];
    const T d = std::sqrt(k3 * (k1 * b[i] + k2 * h * h)) + k4;
    gg += static_cast<double>(g[i]) * g[i];
    hdh += static_cast<double>(h) * (h / d);
  }
  x.sum[0] = gg, x.sum[1] = hdh;
}

// p = k1 p + k0 g
KERNEL(axpby) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  const T k0 = x.k[0], k1 = x.k[1];
  if (k1 == 1) {
#pragma omp simd
    for (int64_t i = 0; i < x.n; i++)
      p[i] += k0 * g[i];
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++)
    p[i] = k1 * p[i] + k0 * g[i];
}

// p += k0 a
KERNEL(shift) {
  T *__restrict p = x.p;
  const T *__restrict a = x.a;
  const T k0 = x.k[0];
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++)
    p[i] += k0 * a[i];
}

// d = k0 g + k1 p; a = k2 a + d; p -= k3 a + k4 d
KERNEL(momentum) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict a = x.a;
  const T k0 = x.k[0], k1 = x.k[1], k2 = x.k[2], k3 = x.k[3], k4 = x.k[4];
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++) {
    const T d = k0 * g[i] + k1 * p[i];
    a[i] = k2 * a[i] + d;
    p[i] -= k3 * a[i] + k4 * d;
  }
}

// d = k0 g + k1 p; p -= k2 d; a = k3 a - k4 d; b = k5 b + k6 p; |b - p|^2
KERNEL(velocity) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict a = x.a;
  T *__restrict b = x.b;
  const T k0 = x.k[0], k1 = x.k[1], k2 = x.k[2], k3 = x.k[3], k4 = x.k[4], k5 = x.k[5], k6 = x.k[6];
  double dd = 0;
#pragma omp simd reduction(+ : dd)
  for (int64_t i = 0; i < x.n; i++) {
    const T d = k0 * g[i] + k1 * p[i];
    const T pi = p[i] - k2 * d;
    const T bi = k5 * b[i] + k6 * pi;
    a[i] = k3 * a[i] - k4 * d;
    p[i] = pi;
    b[i] = bi;
    const double away = bi - pi;
    dd += away * away;
  }
  x.sum[0] = dd;
}

// h = k0 g + k1 p; a = k2 a + k3 h + k4 b; p -= k5 (a + k6 h); b = h
KERNEL(covariance) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict a = x.a;
  T *__restrict b = x.b;
  const T k0 = x.k[0], k1 = x.k[1], k2 = x.k[2], k3 = x.k[3], k4 = x.k[4], k5 = x.k[5], k6 = x.k[6];
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++) {
    const T h = k0 * g[i] + k1 * p[i];
    const T v = k2 * a[i] + k3 * h + k4 * b[i];
    a[i] = v;
    b[i] = h;
    p[i] -= k5 * (v + k6 * h);
  }
}

// h = k0 g + k1 p; a += k2 (h - a); b = k3 b + (1 - k3) h^2; p = k4 p - k5 a / (k6 sqrt(b) + k7)
KERNEL(scaled) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict a = x.a;
  T *__restrict b = x.b;
  const T k0 = x.k[0], k1 = x.k[1], k2 = x.k[2], k3 = x.k[3], k4 = x.k[4], k5 = x.k[5], k6 = x.k[6], k7 = x.k[7];
  const T rest = 1 - x.k[3];
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++) {
    const T h = k0 * g[i] + k1 * p[i];
    const T m = a[i] + k2 * (h - a[i]);
    const T v = k3 * b[i] + rest * h * h;
    a[i] = m;
    b[i] = v;
    p[i] = k4 * p[i] - k5 * (m / (k6 * std::sqrt(v) + k7));
  }
}

// d = k0 g + k1 p; p = k2 p - k3 d; a += k4 (p - a)
KERNEL(averaged) {
  T *__restrict p = x.p;
  const T *__restrict g = x.g;
  T *__restrict a = x.a;
  const T k0 = x.k[0], k1 = x.k[1], k2 = x.k[2], k3 = x.k[3], k4 = x.k[4];
#pragma omp simd
  for (int64_t i = 0; i < x.n; i++) {
    const T d = k0 * g[i] + k1 * p[i];
    const T pi = k2 * p[i] - k3 * d;
    p[i] = pi;
    a[i] += k4 * (pi - a[i]);
  }
}

template <typename T> static void apply(int kernel, const Block<T> &x) {
  switch (kernel) {
  case KOALA_SQUARES: return squares(x);
  case KOALA_MOMENTS: return moments(x);
  case KOALA_PRODUCTS: return products(x);
  case KOALA_ALL_PRODUCTS: return all_products(x);
  case KOALA_DISTANCE: return distance(x);
  case KOALA_SCALED_SQUARE: return scaled_square(x);
  case KOALA_AXPBY: return axpby(x);
  case KOALA_SHIFT: return shift(x);
  case KOALA_MOMENTUM: return momentum(x);
  case KOALA_VELOCITY: return velocity(x);
  case KOALA_COVARIANCE: return covariance(x);
  case KOALA_SCALED: return scaled(x);
  case KOALA_AVERAGED: return averaged(x);
  }
}

constexpr int64_t block_size = 8192; // elements: five float32 streams fit the second-level cache many times over
constexpr int sums = KOALA_SUMS;

// One block of one lane: which, and from where.
struct Piece {
  int lane;
  int64_t from;
};

struct Pointers {
  void *p = nullptr, *g = nullptr, *a = nullptr, *b = nullptr;
};

template <typename T> static T *offset(void *base, int64_t from) {
  return base == nullptr ? nullptr : static_cast<T *>(base) + from;
}

template <typename T>
static void run(int kernel, koala_lane *lanes, const std::vector<Pointers> &at, const std::vector<int64_t> &sizes) {
  std::vector<Piece> pieces;
  for (int i = 0; i < static_cast<int>(sizes.size()); i++)
    for (int64_t from = 0; from < sizes[i]; from += block_size)
      pieces.push_back({i, from});
  std::vector<double> partial(pieces.size() * sums, 0.0);
  const int64_t count = static_cast<int64_t>(pieces.size());
#pragma omp parallel for schedule(static) num_threads(at::get_num_threads()) if (count > 4)
  for (int64_t j = 0; j < count; j++) {
    const Piece piece = pieces[j];
    const Pointers &t = at[piece.lane];
    const int64_t n = std::min(block_size, sizes[piece.lane] - piece.from);
    apply<T>(kernel, {offset<T>(t.p, piece.from), offset<T>(t.g, piece.from), offset<T>(t.a, piece.from),
                      offset<T>(t.b, piece.from), n, lanes[piece.lane].k, &partial[j * sums]});
  }
  for (size_t i = 0; i < sizes.size(); i++)
    std::fill(lanes[i].sum, lanes[i].sum + sums, 0.0);
  for (int64_t j = 0; j < count; j++)
    for (int s = 0; s < sums; s++)
      lanes[pieces[j].lane].sum[s] += partial[j * sums + s];
}

static bool dense_on_cpu(const at::Tensor &t) {
  return t.device().is_cpu() && t.layout() == at::kStrided && t.is_non_overlapping_and_dense() &&
         (t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble);
}

// like p: the same elements at the same places.
static bool alike(const at::Tensor &p, const at::Tensor &t) {
  return dense_on_cpu(t) && t.scalar_type() == p.scalar_type() && t.sizes() == p.sizes() && t.strides() == p.strides();
}

static void *pointer(const at::Tensor &p, koala_tensor t) {
  if (t == nullptr)
    return nullptr;
  TORCH_CHECK(alike(p, ref(t)), "optimizer: a tensor of layout ", ref(t).sizes(), " beside a parameter of ", p.sizes());
  return ref(t).data_ptr();
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
    if (!alike(ref(p), ref(t)))
      *out = handle(at::empty_like(ref(p)).copy_(ref(t)));
  });
}

KOALA_API int koala_run_kernel(int kernel, koala_lane *lanes, int count) {
  return guard([&] {
    std::vector<Pointers> at(count);
    std::vector<int64_t> sizes(count);
    for (int i = 0; i < count; i++) {
      const at::Tensor &p = ref(lanes[i].p);
      TORCH_CHECK(dense_on_cpu(p) && p.scalar_type() == ref(lanes[0].p).scalar_type(), "optimizer: parameters of one type on the CPU only");
      at[i] = {p.data_ptr(), pointer(p, lanes[i].g), pointer(p, lanes[i].a), pointer(p, lanes[i].b)};
      sizes[i] = p.numel();
      if (kernel >= KOALA_AXPBY)
        p.unsafeGetTensorImpl()->bump_version(); // a second backward through the old value is an error, as after any in-place operator
    }
    if (count == 0)
      return;
    if (ref(lanes[0].p).scalar_type() == at::kFloat)
      run<float>(kernel, lanes, at, sizes);
    else
      run<double>(kernel, lanes, at, sizes);
  });
}
