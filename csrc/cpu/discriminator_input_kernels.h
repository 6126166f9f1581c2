// What each instruction-set level provides of discriminator_input.cpp.
#pragma once

#include "cxrgan/discriminator_input_move.h"

namespace cxrgan {

struct DiscriminatorInputKernels {
  // `placements` has one for each sample; there is at least one value to write.
  void (*move)(const Move& move, const Placement* placements, int threads);
};

namespace baseline {
extern const DiscriminatorInputKernels discriminator_input;
}
namespace avx2 {
extern const DiscriminatorInputKernels discriminator_input;
}
namespace avx512 {
extern const DiscriminatorInputKernels discriminator_input;
}
namespace avx512_bf16 {
extern const DiscriminatorInputKernels discriminator_input;
}

}  // namespace cxrgan
