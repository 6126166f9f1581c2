// The arithmetic of one element and of a channel's statistics: what the two layouts of
// conditional_batch_norm.cpp have in common.
#pragma once

#include <cmath>
#include <cstdint>

#include "cxrgan/conditional_batch_norm.h"
#include "loops.h"
#include "simd.h"

namespace cxrgan::CXRGAN_SIMD {

// y and dx of V elements. Every use spells z the same way, so that forward and backward agree on
// its sign to the bit.
template <class V>
struct Affine {
  V mean, scale, shift;  // μ, γ·r, β
  V slope;

  CXRGAN_INLINE V z(V centered) const { return centered * scale + shift; }

  CXRGAN_INLINE V activated(V x) const {
    const V pre = z(x - mean);
    return pre > 0.0f ? pre : pre * slope;
  }

  // d = dy·(1 if z > 0 else slope)
  CXRGAN_INLINE V gradient(V dy, V centered) const {
    return z(centered) > 0.0f ? dy : dy * slope;
  }
};

template <class V>
CXRGAN_INLINE inline Affine<V> affine_of(const ConditionalBatchNorm& op, V mean, V scale, V shift) {
  return {mean, scale, shift, splat<V>(op.negative_slope)};
}

// A channel's and a class's, for vectors.
template <class V>
CXRGAN_INLINE inline Affine<V> spread(const Affine<float>& a) {
  return {splat<V>(a.mean), splat<V>(a.scale), splat<V>(a.shift), splat<V>(a.slope)};
}

// dx = γr·d + (offset + (x−μ)·factor), offset = −r·A, factor = −r²·B.
template <class V>
struct Correction {
  V offset, factor;

  // Constant statistics have no correction, for an infinite or NaN x either.
  CXRGAN_INLINE V corrected(V scaled_d, V centered) const {
    return factor == 0.0f ? scaled_d + offset : scaled_d + (centered * factor + offset);
  }
};

// What a class's gradients are made of.
struct Sums {
  double d, d_centered;  // Σd, Σd·(x−μ)

  void add(const Sums& part) {
    d += part.d;
    d_centered += part.d_centered;
  }
};

// dβ and dγ of channel c from each class's sums, `apart` from one class to the next. dγ is 0 for a
// class without samples, though r be NaN.
inline void write_gradients(const ConditionalBatchNorm& op, int64_t c, const Sums* classes,
                            int64_t apart, const float* rstd, float* dweight, float* dbias) {
  for (int64_t k = 0; k < op.classes; ++k) {
    const Sums& sums = classes[k * apart];
    const int64_t at = k * op.shape.channels + c;
    dbias[at] = static_cast<float>(sums.d);
    dweight[at] = sums.d_centered == 0 ? 0.0f : static_cast<float>(sums.d_centered * rstd[c]);
  }
}

// Channel c's correction for statistics over `count` values; none for constant ones (count 0).
inline Correction<float> correction_of(const ConditionalBatchNorm& op, int64_t c, const float* rstd,
                                       const float* dweight, const float* dbias, int64_t count) {
  if (count == 0) return {0, 0};
  double a = 0, b = 0;
  for (int64_t k = 0; k < op.classes; ++k) {
    const int64_t at = k * op.shape.channels + c;
    // What no sample used has no part in it, though its γ be infinite.
    if (dbias[at] != 0) a += static_cast<double>(op.weight[at]) * dbias[at];
    if (dweight[at] != 0) b += static_cast<double>(op.weight[at]) * dweight[at];
  }
  const double r = rstd[c];
  return {static_cast<float>(-r * a / count), static_cast<float>(-r * r * b / count)};
}

// What is kept of a channel's mean and biased variance.
inline void write_moments(const ConditionalBatchNorm& op, double mean, double variance,
                          float* mean_out, float* var_out, float* rstd_out) {
  if (variance < 0) variance = 0;  // of a constant channel, by rounding
  *mean_out = static_cast<float>(mean);
  *var_out = static_cast<float>(variance);
  *rstd_out = static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(op.eps)));
}

}  // namespace cxrgan::CXRGAN_SIMD
