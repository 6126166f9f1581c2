// What each instruction-set level provides of augmented_batch.cpp.
#pragma once

#include "cxrgan/augmented_batch_move.h"

namespace cxrgan {

struct AugmentedBatchKernels {
  // `placements` has one for each sample; there is at least one value to write.
  void (*move)(const Move& move, const Placement* placements, int threads);
};

namespace baseline {
extern const AugmentedBatchKernels augmented_batch;
}
namespace avx2 {
extern const AugmentedBatchKernels augmented_batch;
}
namespace avx512 {
extern const AugmentedBatchKernels augmented_batch;
}
namespace avx512_bf16 {
extern const AugmentedBatchKernels augmented_batch;
}

}  // namespace cxrgan
