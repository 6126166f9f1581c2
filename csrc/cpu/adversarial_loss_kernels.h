// What each instruction-set level provides of adversarial_loss.cpp: one term of a loss, the mean of
// φ over one tensor of logits.
#pragma once

#include "cxrgan/adversarial_terms.h"

namespace cxrgan {

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
