// One float vector as wide as the instruction set that the including file is compiled for.
//
// Kernel files are compiled once for each level (CMakeLists.txt), each time with CXRGAN_SIMD naming
// the level's namespace, and dispatch.h picks a level at run time. A kernel file must therefore
// define nothing that the linker could merge across levels: no templates of the standard library,
// everything in this namespace.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

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

// Compilers make several shuffles of what is one instruction here.
#if defined(__AVX512F__)
CXRGAN_INLINE inline VecBits widen(VecHalf half) {
  return bit_cast<VecBits>(_mm512_cvtepu16_epi32(bit_cast<__m256i>(half)));
}
CXRGAN_INLINE inline VecHalf narrow(VecBits bits) {
  return bit_cast<VecHalf>(_mm512_cvtepi32_epi16(bit_cast<__m512i>(bits)));
}
#elif defined(__AVX2__)
CXRGAN_INLINE inline VecBits widen(VecHalf half) {
  return bit_cast<VecBits>(_mm256_cvtepu16_epi32(bit_cast<__m128i>(half)));
}
CXRGAN_INLINE inline VecHalf narrow(VecBits bits) {
  const __m256i packed = _mm256_packus_epi32(bit_cast<__m256i>(bits), _mm256_setzero_si256());
  return bit_cast<VecHalf>(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}
#else
CXRGAN_INLINE inline VecBits widen(VecHalf half) { return __builtin_convertvector(half, VecBits); }
CXRGAN_INLINE inline VecHalf narrow(VecBits bits) { return __builtin_convertvector(bits, VecHalf); }
#endif
CXRGAN_INLINE inline uint32_t widen(uint16_t half) { return half; }
CXRGAN_INLINE inline uint16_t narrow(uint32_t bits) { return static_cast<uint16_t>(bits); }

template <class V>
CXRGAN_INLINE inline V splat(float value) {
  return V{} + value;
}
template <class V>
CXRGAN_INLINE inline BitsOf<V> splat_bits(uint32_t value) {
  return BitsOf<V>{} + value;
}

CXRGAN_INLINE inline void prefetch(const void* address) { __builtin_prefetch(address); }

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

#if defined(__AVX512BF16__)
// As above, but numbers below the smallest normal (1.2e-38) become zero.
template <>
CXRGAN_INLINE inline VecHalf encode<Vec>(Vec value, BFloat16) {
  return bit_cast<VecHalf>(_mm512_cvtneps_pbh(bit_cast<__m512>(value)));
}
#endif

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

#if defined(__AVX512F__)
template <>
CXRGAN_INLINE inline Vec decode<Vec>(VecHalf half, Float16) {
  return bit_cast<Vec>(_mm512_cvtph_ps(bit_cast<__m256i>(half)));
}
template <>
CXRGAN_INLINE inline VecHalf encode<Vec>(Vec value, Float16) {
  return bit_cast<VecHalf>(_mm512_cvtps_ph(bit_cast<__m512>(value), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__) && defined(__AVX2__)
template <>
CXRGAN_INLINE inline Vec decode<Vec>(VecHalf half, Float16) {
  return bit_cast<Vec>(_mm256_cvtph_ps(bit_cast<__m128i>(half)));
}
template <>
CXRGAN_INLINE inline VecHalf encode<Vec>(Vec value, Float16) {
  return bit_cast<VecHalf>(_mm256_cvtps_ph(bit_cast<__m256>(value), _MM_FROUND_TO_NEAREST_INT));
}
#endif

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

// A store past the caches, for what will have left them before it is read again. `to` must be
// aligned to the vector. finish_streaming() must follow before another thread may read.
template <class V>
CXRGAN_INLINE inline void stream(float* to, V value) {
#if defined(__AVX512F__)
  if constexpr (kWidth<V> > 1) return _mm512_stream_ps(to, bit_cast<__m512>(value));
#elif defined(__AVX2__)
  if constexpr (kWidth<V> > 1) return _mm256_stream_ps(to, bit_cast<__m256>(value));
#endif
  store<V>(to, value);
}
template <class V, class T>
CXRGAN_INLINE inline void stream(T* to, V value) {
#if defined(__AVX512F__)
  if constexpr (kWidth<V> > 1)
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(to),
                               bit_cast<__m256i>(encode<V>(value, T{})));
#elif defined(__AVX2__)
  if constexpr (kWidth<V> > 1)
    return _mm_stream_si128(reinterpret_cast<__m128i*>(to),
                            bit_cast<__m128i>(encode<V>(value, T{})));
#endif
  store<V>(to, value);
}

CXRGAN_INLINE inline void finish_streaming() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

struct Store {
  template <class T, class V>
  CXRGAN_INLINE void operator()(T* to, V value) const {
    store<V>(to, value);
  }
};
struct Stream {
  template <class T, class V>
  CXRGAN_INLINE void operator()(T* to, V value) const {
    stream<V>(to, value);
  }
};

// body(put): put(to, value) stores, past the caches if `streaming`.
template <class Body>
CXRGAN_INLINE inline void with_store(bool streaming, const Body& body) {
  if (streaming) {
    body(Stream{});
  } else {
    body(Store{});
  }
}

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 64 == 0; }

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
