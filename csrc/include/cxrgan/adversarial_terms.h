// The losses of adversarial_loss.h as means of functions of one logit, the same on both devices.
#pragma once

#include "cxrgan/adversarial_loss.h"

namespace cxrgan {

enum class LossFunction {
  kSoftplus,          // φ(x) = weight·softplus(sign·x)
  kSmoothedSoftplus,  // φ(x) = weight·softplus(sign·x) + offset·x
  kHinge,             // φ(x) = relu(1 + sign·x)
  kHalfSquare,        // φ(x) = ½(x − offset)²
  kLinear,            // φ(x) = sign·x
};

struct LossTerm {
  LossFunction function;
  float sign = 1;
  float weight = 1;
  float offset = 0;
};

// What the discriminator wants of real and of generated images.
struct DiscriminatorTerms {
  LossTerm real, fake;
};

inline DiscriminatorTerms discriminator_terms(const DiscriminatorLoss& op) {
  using Is = LossFunction;
  const auto smoothing = static_cast<float>(op.label_smoothing);
  const auto target = static_cast<float>(1 - op.label_smoothing);
  switch (op.kind) {
    case LossKind::kMinimax:
    case LossKind::kNonSaturating:
      return {{Is::kSmoothedSoftplus, -1, 1, smoothing}, {Is::kSoftplus, 1}};
    case LossKind::kHinge:
      return {{Is::kHinge, -1}, {Is::kHinge, 1}};
    case LossKind::kLeastSquares:
      return {{Is::kHalfSquare, 1, 1, target}, {Is::kHalfSquare}};
    case LossKind::kWasserstein:
      break;
  }
  return {{Is::kLinear, -1}, {Is::kLinear, 1}};
}

inline LossTerm generator_term(LossKind kind) {
  switch (kind) {
    case LossKind::kMinimax:
      return {LossFunction::kSoftplus, 1, -1};
    case LossKind::kNonSaturating:
      return {LossFunction::kSoftplus, -1};
    case LossKind::kLeastSquares:
      return {LossFunction::kHalfSquare, 1, 1, 1};
    case LossKind::kHinge:
    case LossKind::kWasserstein:
      break;
  }
  return {LossFunction::kLinear, -1};
}

}  // namespace cxrgan
