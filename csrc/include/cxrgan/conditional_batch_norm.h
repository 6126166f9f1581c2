// Conditional batch normalization with LeakyReLU: the launchers' contract.
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

#include "cxrgan/cuda_launch.h"
#include "cxrgan/tensor.h"

namespace cxrgan {

namespace cuda {

// How forward and backward go over the images.
enum class NormPath : int {
  kAuto = 0,     // what is expected to be the fastest on the device at hand
  kTwoPass = 1,  // a launch for each step; always possible
  kSlab = 2,     // each block keeps its channels in shared memory: one launch, each value read once
  kCluster = 3,  // the same by clusters of 2, 4 or 8 blocks; from compute capability 9.0 on
  kPersistent = 4,  // the same by all blocks that run at once; what they cannot keep is read again
};

}  // namespace cuda

struct ConditionalBatchNorm {
  ImageShape shape;
  float eps;  // added to the variance
  float negative_slope;
  int64_t classes;        // K
  const int64_t* labels;  // (N,), each in [0, K)
  const float* weight;    // (K, C), γ
  const float* bias;      // (K, C), β
  cuda::NormPath path = cuda::NormPath::kAuto;  // of forward and backward on a GPU
};

// What forward updates by its statistics, or null pointers: (C,) each.
struct RunningStatistics {
  float* mean;
  float* var;
  double momentum;
};

namespace cpu {

// Each direction is a reduce step and an apply step, so that a process group can sum in between;
// forward and backward do both with the data still in the cache, to the same bits. `threads` is an
// upper bound; results do not depend on it. A label outside [0, K) throws std::out_of_range before
// anything is written.

// mean, var (biased), rstd: (C,), written. Zero mean and variance where M is 0. Of op, only the shape
// and eps are read.
void conditional_batch_norm_statistics(const ConditionalBatchNorm& op, const void* x, float* mean,
                                       float* var, float* rstd, int threads);

// The same from given mean and variance, (C,) each.
void given_statistics(int64_t channels, float eps, const float* given_mean, const float* given_var,
                      float* mean, float* var, float* rstd);

// running += momentum·(batch − running) for the mean and the unbiased variance of a batch with `count`
// values a channel: (C,) each, updated. A single value has only its biased variance; none, nothing.
void update_running_statistics(int64_t channels, int64_t count, double momentum, const float* mean,
                               const float* var, float* running_mean, float* running_var);

// y from x and given statistics.
void conditional_batch_norm_apply(const ConditionalBatchNorm& op, const void* x, const float* mean,
                                  const float* rstd, void* y, int threads);

// Statistics of x, then y, and the running statistics as update_running_statistics has them.
void conditional_batch_norm_forward(const ConditionalBatchNorm& op, const void* x, void* y,
                                    float* mean, float* var, float* rstd,
                                    const RunningStatistics& running, int threads);

// dweight, dbias: (K, C), written.
void conditional_batch_norm_backward_reduce(const ConditionalBatchNorm& op, const void* dy,
                                            const void* x, const float* mean, const float* rstd,
                                            float* dweight, float* dbias, int threads);

// dx from dweight and dbias summed over all `count` values a channel was normalized with;
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

namespace cuda {

// The steps of namespace cpu, above, with device pointers. Results are the same bits from run to run.
// A label outside [0, K) makes its sample's output and dx NaN; it is of no class.

// The path that kAuto stands for, or a given one if it is possible there, else kTwoPass. aligned:
// whether all images begin at multiples of 16 bytes.
NormPath forward_path(const ImageShape& shape, bool aligned, NormPath path, int device);
NormPath backward_path(const ImageShape& shape, bool aligned, NormPath path, int device);

// Bytes of workspace that forward takes on that path, and so the separate steps at most.
int64_t forward_workspace(const ImageShape& shape, bool aligned, NormPath path, int device);
int64_t backward_workspace(const ImageShape& shape, bool aligned, NormPath path, int device);

void conditional_batch_norm_statistics(const ConditionalBatchNorm& op, const void* x, float* mean,
                                       float* var, float* rstd, const Launch& launch);

void given_statistics(int64_t channels, float eps, const float* given_mean, const float* given_var,
                      float* mean, float* var, float* rstd, const Launch& launch);

void update_running_statistics(int64_t channels, int64_t count, double momentum, const float* mean,
                               const float* var, float* running_mean, float* running_var,
                               const Launch& launch);

void conditional_batch_norm_apply(const ConditionalBatchNorm& op, const void* x, const float* mean,
                                  const float* rstd, void* y, const Launch& launch);

void conditional_batch_norm_forward(const ConditionalBatchNorm& op, const void* x, void* y,
                                    float* mean, float* var, float* rstd,
                                    const RunningStatistics& running, const Launch& launch);

void conditional_batch_norm_backward_reduce(const ConditionalBatchNorm& op, const void* dy,
                                            const void* x, const float* mean, const float* rstd,
                                            float* dweight, float* dbias, const Launch& launch);

void conditional_batch_norm_backward_apply(const ConditionalBatchNorm& op, const void* dy,
                                           const void* x, const float* mean, const float* rstd,
                                           const float* dweight, const float* dbias, int64_t count,
                                           void* dx, const Launch& launch);

void conditional_batch_norm_backward(const ConditionalBatchNorm& op, const void* dy, const void* x,
                                     const float* mean, const float* rstd, bool training, void* dx,
                                     float* dweight, float* dbias, const Launch& launch);

}  // namespace cuda
}  // namespace cxrgan
