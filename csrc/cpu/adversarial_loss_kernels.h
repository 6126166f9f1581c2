// What each instruction-set level provides of adversarial_loss.cpp: one term of a loss, the mean of
// φ over one tensor of logits.
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

struct AdversarialLossKernels {
  // The mean of φ(x); φ'(x)/count to the logits' gradient.
  double (*mean)(const LossTerm& term, const Logits& logits, int threads);
};

namespace baseline {
extern const AdversarialLossKernels adversarial_loss;
}
namespace avx2 {
extern const AdversarialLossKernels adversarial_loss;
}
namespace avx512 {
extern const AdversarialLossKernels adversarial_loss;
}
namespace avx512_bf16 {
extern const AdversarialLossKernels adversarial_loss;
}

}  // namespace cxrgan
