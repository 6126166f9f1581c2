// The two adversarial losses: the launchers' contract.
//
// With r and f the logits of real and generated images, s the label smoothing, σ the sigmoid and
// softplus(x) = log(1 + exp(x)), σ its derivative:
//
//   kind            discriminator                                    generator
//   minimax         mean(softplus(−r) + s·r) + mean(softplus(f))     −mean(softplus(f))
//   non_saturating  the same                                         mean(softplus(−f))
//   hinge           mean(relu(1−r)) + mean(relu(1+f))                −mean(f)
//   least_squares   ½·mean((r−1+s)²) + ½·mean(f²)                    ½·mean((f−1)²)
//   wasserstein     mean(f) − mean(r)                                −mean(f)
//
// Where these are a plain mean (wasserstein, and the generator's hinge), the gradient is one number,
// the same for each logit.
//
// One pass over the logits writes the loss and its gradients. Arithmetic and gradients are float32
// whatever the logits' dtype; sums are float32 over short blocks and double across them, in an
// order that neither runs nor threads change. The mean of no logits is NaN.
#pragma once

#include <cstdint>

#include "cxrgan/cuda_launch.h"
#include "cxrgan/tensor.h"

namespace cxrgan {

enum class LossKind : int {
  kMinimax = 0,
  kNonSaturating = 1,
  kHinge = 2,
  kLeastSquares = 3,
  kWasserstein = 4,
};

struct DiscriminatorLoss {
  LossKind kind;
  double label_smoothing;
};

// Logits of any shape, without gaps, and where the loss's gradient for them goes.
struct Logits {
  Dtype dtype;
  int64_t count;
  const void* values;
  float* gradient;  // (count,), or one number where it is the same for each; written
};

namespace cpu {

// `threads` is an upper bound; results do not depend on it.

void discriminator_loss(const DiscriminatorLoss& op, const Logits& real, const Logits& fake,
                        float* loss, int threads);

void generator_loss(LossKind kind, const Logits& fake, float* loss, int threads);

}  // namespace cpu

namespace cuda {

// The same with device pointers: one launch, or two where one block would take long.

// Bytes of workspace for so many logits in all.
int64_t adversarial_loss_workspace(int64_t count);

void discriminator_loss(const DiscriminatorLoss& op, const Logits& real, const Logits& fake,
                        float* loss, const Launch& launch);

void generator_loss(LossKind kind, const Logits& fake, float* loss, const Launch& launch);

}  // namespace cuda
}  // namespace cxrgan
