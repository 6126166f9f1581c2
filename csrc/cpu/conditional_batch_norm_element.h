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

  CXRGAN_INLINE V z(V centred) const { return centred * scale + shift; }

  CXRGAN_INLINE V activated(V x) const {
    const V pre = z(x - mean);
    return pre > 0.0f ? pre : pre * slope;
  }

  // d = dy·(1 if z > 0 else slope)
  CXRGAN_INLINE V gradient(V dy, V centred) const {
    return z(centred) > 0.0f ? dy : dy * slope;
  }
};

// dx = γr·d + (offset + (x−μ)·factor), offset = −r·A, factor = −r²·B.
template <class V>
struct Correction {
  V offset, factor;

  CXRGAN_INLINE V corrected(V scaled_d, V centred) const {
    return scaled_d + (centred * factor + offset);
  }
};

// Channel c's correction for statistics over `count` values; none for constant ones (count 0).
inline Correction<float> correction_of(const ConditionalBatchNorm& op, int64_t c, const float* rstd,
                                       const float* dweight, const float* dbias, int64_t count) {
  if (count == 0) return {0, 0};
  double a = 0, b = 0;
  for (int64_t k = 0; k < op.classes; ++k) {
    const int64_t at = k * op.shape.channels + c;
    a += static_cast<double>(op.weight[at]) * dbias[at];
    b += static_cast<double>(op.weight[at]) * dweight[at];
  }
  const double r = rstd[c];
  return {static_cast<float>(-r * a / count), static_cast<float>(-r * r * b / count)};
}

// Mean and biased variance of a channel out of those of its parts (Chan, Golub & LeVeque 1979),
// in double: there is one merge for thousands of elements.
struct Moments {
  double count = 0, mean = 0, m2 = 0;  // m2: Σ(x−mean)²

  void merge(double part_count, double part_mean, double part_m2) {
    merge_share(part_count / (count + part_count), count + part_count, part_mean, part_m2);
  }

  // The same where many channels share the division: `share` of `total` elements are the part's.
  void merge_share(double share, double total, double part_mean, double part_m2) {
    const double delta = part_mean - mean;
    mean += delta * share;
    m2 += part_m2 + delta * delta * (count * share);
    count = total;
  }

  void write(float eps, float* mean_out, float* var_out, float* rstd_out) const {
    const double variance = count > 0 ? m2 / count : 0.0;
    *mean_out = static_cast<float>(mean);
    *var_out = static_cast<float>(variance);
    *rstd_out = static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(eps)));
  }
};

}  // namespace cxrgan::CXRGAN_SIMD
