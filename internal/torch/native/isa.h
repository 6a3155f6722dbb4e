// One kernel, compiled for several instruction sets.
//
// KOALA_KERNEL(result, name, parameters...) { body } defines a function that runs one of
// three compilations of body: the one for the set that isa() names. The choice is made
// once, when the library is loaded.
#pragma once

namespace koala {

// Levels of x86-64 as its ABI names them: SSE2; AVX2 with FMA; AVX-512.
enum class Isa { Default, V3, V4 };

// isa is the best level that the processor has, or the one that the environment variable
// KOALA_LM_ISA names (isa.cpp).
Isa isa();

template <auto body> struct Clones;

// body is always inlined, so that each member below is compiled for its own level.
template <typename R, typename... A, R (*body)(A...)> struct Clones<body> {
  __attribute__((target("arch=x86-64-v4"))) static R v4(A... a) { return body(a...); }
  __attribute__((target("arch=x86-64-v3"))) static R v3(A... a) { return body(a...); }
  static R base(A... a) { return body(a...); }

  static auto pick() -> R (*)(A...) {
    switch (isa()) {
    case Isa::V4: return v4;
    case Isa::V3: return v3;
    default: return base;
    }
  }
};

} // namespace koala

#define KOALA_KERNEL(result, name, ...)                                                                                \
  __attribute__((always_inline)) static inline result name##_body(__VA_ARGS__);                                        \
  [[maybe_unused]] static result (*const name)(__VA_ARGS__) = ::koala::Clones<name##_body>::pick();                    \
  static inline result name##_body(__VA_ARGS__)
