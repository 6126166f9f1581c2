// One float vector as wide as the instruction set that the including file is compiled for.
//
// Kernel files are compiled once for each level (CMakeLists.txt), each time with CXRGAN_SIMD naming
// the level's namespace, and dispatch.h picks a level at run time. A kernel file must therefore
// define nothing that the linker could merge across levels: no templates of the standard library,
// everything in this namespace.
#pragma once

#include <cstdint>
#include <cstring>

#define CXRGAN_INLINE __attribute__((always_inline))

namespace cxrgan::CXRGAN_SIMD {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;  // SSE2, NEON
#endif

template <class Scalar, int lanes>
struct VectorOf {
  typedef Scalar type __attribute__((vector_size(sizeof(Scalar) * lanes)));
};
using Vec = VectorOf<float, kLanes>::type;
using VecBits = VectorOf<uint32_t, kLanes>::type;
using VecHalf = VectorOf<uint16_t, kLanes>::type;

// Kernels are written over V, which is Vec for the body of a loop and float for its tail.
template <class V>
struct Companions;
template <>
struct Companions<Vec> {
  using Bits = VecBits;
  using Half = VecHalf;
};
template <>
struct Companions<float> {
  using Bits = uint32_t;
  using Half = uint16_t;
};
template <class V>
using BitsOf = typename Companions<V>::Bits;
template <class V>
using HalfOf = typename Companions<V>::Half;

template <class V>
constexpr int kWidth = sizeof(V) / sizeof(float);

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

template <class To, class From>
CXRGAN_INLINE inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

CXRGAN_INLINE inline VecBits widen(VecHalf half) { return __builtin_convertvector(half, VecBits); }
CXRGAN_INLINE inline uint32_t widen(uint16_t half) { return half; }
CXRGAN_INLINE inline VecHalf narrow(VecBits bits) { return __builtin_convertvector(bits, VecHalf); }
CXRGAN_INLINE inline uint16_t narrow(uint32_t bits) { return static_cast<uint16_t>(bits); }

template <class V>
CXRGAN_INLINE inline V splat(float value) {
  return V{} + value;
}
template <class V>
CXRGAN_INLINE inline BitsOf<V> splat_bits(uint32_t value) {
  return BitsOf<V>{} + value;
}

template <class V>
CXRGAN_INLINE inline V decode(HalfOf<V> half, BFloat16) {
  return bit_cast<V>(static_cast<BitsOf<V>>(widen(half) << 16));
}

template <class V>
CXRGAN_INLINE inline HalfOf<V> encode(V value, BFloat16) {
  const BitsOf<V> bits = bit_cast<BitsOf<V>>(value);
  const BitsOf<V> rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties even
  return narrow(static_cast<BitsOf<V>>(value == value ? rounded : splat_bits<V>(0x7fc0u)));
}

// IEEE half by arithmetic on the float's bits (M. Dukhan's FP16): no F16C or NEON needed.
template <class V>
CXRGAN_INLINE inline V decode(HalfOf<V> half, Float16) {
  const BitsOf<V> word = widen(half) << 16;
  const BitsOf<V> sign = word & 0x80000000u;
  const BitsOf<V> shifted = word + word;
  const V normal = bit_cast<V>(static_cast<BitsOf<V>>((shifted >> 4) + (0xe0u << 23))) * 0x1.0p-112f;
  const V subnormal = bit_cast<V>(static_cast<BitsOf<V>>((shifted >> 17) | (126u << 23))) - 0.5f;
  const BitsOf<V> magnitude = shifted < splat_bits<V>(1u << 27) ? bit_cast<BitsOf<V>>(subnormal)
                                                                : bit_cast<BitsOf<V>>(normal);
  return bit_cast<V>(static_cast<BitsOf<V>>(sign | magnitude));
}

template <class V>
CXRGAN_INLINE inline HalfOf<V> encode(V value, Float16) {
  const BitsOf<V> word = bit_cast<BitsOf<V>>(value);
  const BitsOf<V> shifted = word + word;
  const V magnitude = bit_cast<V>(static_cast<BitsOf<V>>(word & 0x7fffffffu));
  const V scaled = (magnitude * 0x1.0p+112f) * 0x1.0p-110f;  // overflows to infinity as half does
  const BitsOf<V> exponent = shifted & 0xff000000u;
  const BitsOf<V> least = splat_bits<V>(0x71000000u);  // the exponent of the smallest normal half
  const BitsOf<V> rounder = ((exponent < least ? least : exponent) >> 1) + 0x07800000u;
  const BitsOf<V> bits = bit_cast<BitsOf<V>>(static_cast<V>(bit_cast<V>(rounder) + scaled));
  const BitsOf<V> number = ((bits >> 13) & 0x7c00u) + (bits & 0x0fffu);
  const BitsOf<V> unsigned_half =
      shifted > splat_bits<V>(0xff000000u) ? splat_bits<V>(0x7e00u) : number;
  return narrow(static_cast<BitsOf<V>>(((word & 0x80000000u) >> 16) | unsigned_half));
}

template <class V>
CXRGAN_INLINE inline V load(const float* from) {
  V value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
template <class V, class T>
CXRGAN_INLINE inline V load(const T* from) {
  HalfOf<V> half;
  std::memcpy(&half, from, sizeof(half));
  return decode<V>(half, T{});
}

template <class V>
CXRGAN_INLINE inline void store(float* to, V value) {
  std::memcpy(to, &value, sizeof(value));
}
template <class V, class T>
CXRGAN_INLINE inline void store(T* to, V value) {
  const HalfOf<V> half = encode<V>(value, T{});
  std::memcpy(to, &half, sizeof(half));
}

template <int lanes>
CXRGAN_INLINE inline float sum_lanes(typename VectorOf<float, lanes>::type value) {
  if constexpr (lanes == 4) {
    return (value[0] + value[2]) + (value[1] + value[3]);
  } else {
    typename VectorOf<float, lanes / 2>::type half[2];
    std::memcpy(half, &value, sizeof(half));
    return sum_lanes<lanes / 2>(half[0] + half[1]);
  }
}

// A running sum of loop bodies (four independent chains: the additions' latency) and tails.
struct Sum {
  Vec chain[4] = {};
  float tail = 0;

  CXRGAN_INLINE void add(Vec value, int slot) { chain[slot] += value; }
  CXRGAN_INLINE void add(float value, int) { tail += value; }
  CXRGAN_INLINE float total() const {
    return sum_lanes<kLanes>((chain[0] + chain[1]) + (chain[2] + chain[3])) + tail;
  }
};

// body(V{}, i, slot) over [0, count): Vec at a time, four in turn, then float.
template <class Body>
CXRGAN_INLINE inline void for_each(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    body(Vec{}, i, 0);
    body(Vec{}, i + kLanes, 1);
    body(Vec{}, i + 2 * kLanes, 2);
    body(Vec{}, i + 3 * kLanes, 3);
  }
  for (; i + kLanes <= count; i += kLanes) body(Vec{}, i, 0);
  for (; i < count; ++i) body(float{}, i, 0);
}

}  // namespace cxrgan::CXRGAN_SIMD
