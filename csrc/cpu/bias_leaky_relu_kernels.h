// What each instruction-set level provides of bias_leaky_relu.cpp: the functions of
// cxrgan/bias_leaky_relu.h, where no image is empty.
#pragma once

#include "cxrgan/bias_leaky_relu.h"

namespace cxrgan {

struct BiasLeakyReluKernels {
  decltype(&cpu::bias_leaky_relu) forward;
  decltype(&cpu::bias_leaky_relu_gate) gate;
  decltype(&cpu::bias_leaky_relu_backward) backward;
};

namespace baseline {
extern const BiasLeakyReluKernels bias_leaky_relu;
}
namespace avx2 {
extern const BiasLeakyReluKernels bias_leaky_relu;
}
namespace avx512 {
extern const BiasLeakyReluKernels bias_leaky_relu;
}
namespace avx512_bf16 {
extern const BiasLeakyReluKernels bias_leaky_relu;
}

}  // namespace cxrgan
