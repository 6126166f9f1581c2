// IEEE half precision: storage and conversions. There is no arithmetic, so that kernels compute in
// float or do not compile.
#pragma once

#include "cuda_runtime.h"

namespace cuda_standin {

inline float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16, exponent = half >> 10 & 31u;
  const uint32_t fraction = half & 0x3ffu;
  if (exponent == 31) return bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

// To nearest, ties to even. Every NaN becomes 0x7fff, as on a device.
inline uint16_t float_to_half(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00;  // 65520, half-way past the largest
  if (magnitude < 0x38800000u) {                       // below the smallest normal number, 2^-14
    // A multiple of 2^-24 is what adding 2^-1 leaves: its last bit is worth that.
    const float sum = bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(bit_cast<uint32_t>(sum) - 0x3f000000u);
  }
  const uint32_t odd = magnitude >> 13 & 1u;
  return sign | static_cast<uint16_t>((magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}

}  // namespace cuda_standin

struct __half {
  uint16_t bits;

  __half() = default;
  explicit __half(float value) : bits(cuda_standin::float_to_half(value)) {}
  explicit operator float() const { return cuda_standin::half_to_float(bits); }
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;

inline float __half2float(__half a) { return static_cast<float>(a); }
inline __half __float2half_rn(float a) { return __half(a); }
inline __half __float2half(float a) { return __half(a); }
inline float2 __half22float2(__half2 a) { return {__half2float(a.x), __half2float(a.y)}; }
inline __half2 __float22half2_rn(float2 a) { return {__half(a.x), __half(a.y)}; }
inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }
inline __half __ushort_as_half(unsigned short a) { return cuda_standin::bit_cast<__half>(a); }
