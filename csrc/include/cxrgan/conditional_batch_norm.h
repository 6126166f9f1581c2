// Conditional batch normalisation with LeakyReLU: the launchers' contract.
//
// For channel c over the M = N·H·W values, with mean μ, biased variance σ², r = 1/√(σ²+eps):
//   x̂ = (x−μ)·r,  z = γ[label,c]·x̂ + β[label,c],  y = z if z > 0 else slope·z.
// With d = dy·(1 if z > 0 else slope):
//   dβ[k,c] = Σ d,  dγ[k,c] = Σ d·x̂  over the samples of class k and their pixels,
//   A[c] = Σ_k γ·dβ / M,  B[c] = Σ_k γ·dγ / M,  dx = r·(γ·d − A − x̂·B).
// When the statistics are constants (evaluation), dx = r·γ·d.
//
// Statistics, parameters and their gradients are float32 whatever the image dtype. Every pointer
// is to memory that the caller owns; x, y, dy and dx have the shape's dtype and layout.
#pragma once

#include <cstdint>

#include "cxrgan/tensor.h"

namespace cxrgan {

struct ConditionalBatchNorm {
  ImageShape shape;
  float negative_slope;
  int64_t classes;        // K
  const int64_t* labels;  // (N,), each in [0, K)
  const float* weight;    // (K, C), γ
  const float* bias;      // (K, C), β
};

namespace cpu {

// Each direction is a reduce step and an apply step, so that a process group can sum in between;
// forward and backward do both with the data still in the cache, to the same bits. `threads` is an
// upper bound; results do not depend on it. A label outside [0, K) throws std::out_of_range before
// anything is written.

// mean, var (biased), rstd: (C,), written. Zero mean and variance where M is 0.
void batch_norm_statistics(const ImageShape& shape, float eps, const void* x, float* mean,
                           float* var, float* rstd, int threads);

// running += momentum·(batch − running) for the mean and the unbiased variance of a batch with `count`
// values a channel: (C,) each, updated. A single value has only its biased variance; none, nothing.
void update_running_statistics(int64_t channels, int64_t count, double momentum, const float* mean,
                               const float* var, float* running_mean, float* running_var);

// y from x and given statistics.
void conditional_batch_norm_apply(const ConditionalBatchNorm& op, const void* x, const float* mean,
                                  const float* rstd, void* y, int threads);

// Statistics of x, then y.
void conditional_batch_norm_forward(const ConditionalBatchNorm& op, float eps, const void* x,
                                    void* y, float* mean, float* var, float* rstd, int threads);

// dweight, dbias: (K, C), written.
void conditional_batch_norm_backward_reduce(const ConditionalBatchNorm& op, const void* dy,
                                            const void* x, const float* mean, const float* rstd,
                                            float* dweight, float* dbias, int threads);

// dx from dweight and dbias summed over all `count` values a channel was normalised with;
// count 0 stands for constant statistics.
void conditional_batch_norm_backward_apply(const ConditionalBatchNorm& op, const void* dy,
                                           const void* x, const float* mean, const float* rstd,
                                           const float* dweight, const float* dbias, int64_t count,
                                           void* dx, int threads);

// All three gradients; `training` tells whether mean and rstd were x's own.
void conditional_batch_norm_backward(const ConditionalBatchNorm& op, const void* dy, const void* x,
                                     const float* mean, const float* rstd, bool training, void* dx,
                                     float* dweight, float* dbias, int threads);

}  // namespace cpu
}  // namespace cxrgan
