// softplus and the sigmoid on float vectors (simd.h), within a few units in the last place down to
// the smallest subnormal: softplus(−30) is 9e-14, not log(1) = 0.
#pragma once

#include "simd.h"

namespace cxrgan::CXRGAN_SIMD {

// exp(−a) for a ≥ 0. With n = −round(a / ln 2) and r = −a − n·ln 2 it is 2ⁿ·exp(r), |r| ≤ ½ ln 2.
template <class V>
CXRGAN_INLINE inline V exp_of_minus(V a) {
  const V limit = splat<V>(104.0f);  // exp(−104) rounds to 0
  const V x = -(a > limit ? limit : a);
  // Adding 1.5·2²³ leaves no bits for a fraction, so the sum rounds, and its bits count up from
  // those of 1.5·2²³.
  constexpr float kRounder = 0x1.8p23f;
  constexpr uint32_t kRounderBits = 0x4b400000u;
  const V rounded = x * 0x1.715476p+0f + kRounder;
  const V n = rounded - kRounder;
  const V r = x - n * 0.693359375f - n * -2.12194440e-4f;  // ln 2 in two parts, n·first is exact
  V q = r * 1.38149e-3f + 8.36871e-3f;  // (exp(r) − 1 − r)/r², minimax, 3e-9 relative to exp(r)
  q = q * r + 4.166839e-2f;
  q = q * r + 1.6666521e-1f;
  q = q * r + 4.9999993e-1f;
  const V p = r * r * q + r + 1.0f;
  // 2ⁿ in two factors, n ≥ −150: subnormal results are rounded once, in the second product.
  const BitsOf<V> twice = bit_cast<BitsOf<V>>(rounded) - kRounderBits + 254u;
  const BitsOf<V> first = twice >> 1, second = twice - first;
  return p * bit_cast<V>(static_cast<BitsOf<V>>(first << 23)) *
         bit_cast<V>(static_cast<BitsOf<V>>(second << 23));
}

// log(1 + z) for z in [0, 1]: 2·atanh(s) with s = z/(2 + z) ≤ ⅓, a series in s² that cancels
// nowhere.
template <class V>
CXRGAN_INLINE inline V log1p_of_fraction(V z) {
  const V s = z / (z + 2.0f);
  const V w = s * s;
  V q = w * 0x1.1ed7bep-3f + 0x1.1ebd0ep-3f;  // (atanh(s)/s − 1)/s², minimax, 5e-9 relative
  q = q * w + 0x1.99d208p-3f;
  q = q * w + 0x1.555502p-2f;
  const V twice = s + s;
  return twice * (w * q) + twice;
}

template <class V>
struct SoftplusOf {
  V value;    // log(1 + exp(x))
  V sigmoid;  // 1/(1 + exp(−x)), its derivative
};

template <class V>
CXRGAN_INLINE inline SoftplusOf<V> softplus(V x) {
  const V magnitude = bit_cast<V>(static_cast<BitsOf<V>>(bit_cast<BitsOf<V>>(x) & 0x7fffffffu));
  const V z = exp_of_minus(magnitude);
  const V zero = splat<V>(0.0f), one = splat<V>(1.0f);
  const V positive = x > zero ? x : zero;
  return {positive + log1p_of_fraction(z), (x < zero ? z : one) / (z + one)};
}

}  // namespace cxrgan::CXRGAN_SIMD
