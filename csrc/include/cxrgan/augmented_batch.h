// What a discriminator sees: stored and generated images, moved and partly covered (translation and
// cutout of Zhao et al. 2020, DiffAugment), with noise: the launchers' contract.
//
//   x[n] = low + stored[rows[n]]·(high−low)/255, mirrored where told,  or fake[n − N] from N on
//   y[n, c, h, w] = fill where (h, w) is in the sample's hole or (h, w) + shift is outside,
//                   x[n, c, h + shift_y, w + shift_x] elsewhere;  fill = (low+high)/2
//   out = y + std·noise
//
// A batch has the N stored images first, then the F generated ones. Arithmetic is float32, a product
// is rounded before it is added to, and what is stored is rounded once more to its dtype: every
// backend gets the same bits. The op is affine in fake: `linear` is what it does to a change of fake
// (zeros for the first N), `backward` the transpose of that, a gather by the inverse shift.
//
// Every pointer is to memory that the caller owns. Images are without gaps.
#pragma once

#include <cstdint>

#include "cxrgan/cuda_launch.h"
#include "cxrgan/tensor.h"

namespace cxrgan {

// Two numbers, uniform in [0, 1), for each sample of the batch; others count as the nearest of
// these. Null for none.
struct Uniforms {
  const float* values;
  int64_t stride;  // from one sample's pair to the next's
};

struct AugmentedBatch {
  int64_t stored_samples;  // N
  int64_t fake_samples;    // F
  int64_t channels, height, width;
  Uniforms translation, cutout;

  int64_t samples() const { return stored_samples + fake_samples; }
};

struct StoredImages {
  const uint8_t* pixels;  // (M, C, H, W)
  int64_t count;          // M
  const int64_t* rows;    // (N,), each in [0, M)
  const bool* mirror;     // (N,); null for none
  double low, high;       // what 0 and 255 stand for
};

// Images of one dtype in one layout.
template <class Pointer>
struct ImagesAt {
  Dtype dtype;
  Layout layout;
  Pointer data;
};
using ImagesIn = ImagesAt<const void*>;
using ImagesOut = ImagesAt<void*>;

// (N + F, C, H, W) of the standard normal distribution; values are null for none.
struct Noise {
  Layout layout;
  const float* values;
  const float* std;  // one number
};

namespace cpu {

// `threads` is an upper bound; results do not depend on it. A row outside [0, M) throws
// std::out_of_range before anything is written.

// out: (N + F, C, H, W), channels_last.
void augmented_batch(const AugmentedBatch& batch, const StoredImages& stored,
                     const ImagesIn& fake, const Noise& noise, const ImagesOut& out,
                     int threads);

// out: (N + F, C, H, W), channels_last; the first N zero.
void augmented_batch_linear(const AugmentedBatch& batch, const ImagesIn& tangent,
                            const ImagesOut& out, int threads);

// From the gradient (N + F, C, H, W) that of fake, (F, C, H, W).
void augmented_batch_backward(const AugmentedBatch& batch, const ImagesIn& gradient,
                              const ImagesOut& out, int threads);

}  // namespace cpu

namespace cuda {

// The same with device pointers, one launch each, without workspace. A row outside [0, M) makes its
// sample NaN.

void augmented_batch(const AugmentedBatch& batch, const StoredImages& stored,
                     const ImagesIn& fake, const Noise& noise, const ImagesOut& out,
                     const Launch& launch);

void augmented_batch_linear(const AugmentedBatch& batch, const ImagesIn& tangent,
                            const ImagesOut& out, const Launch& launch);

void augmented_batch_backward(const AugmentedBatch& batch, const ImagesIn& gradient,
                              const ImagesOut& out, const Launch& launch);

}  // namespace cuda
}  // namespace cxrgan
