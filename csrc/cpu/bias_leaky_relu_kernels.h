// What each instruction-set level provides of bias_leaky_relu.cpp. Arguments are those of
// cxrgan/bias_leaky_relu.h, and no image is empty.
#pragma once

#include "cxrgan/bias_leaky_relu.h"

namespace cxrgan {

struct BiasLeakyReluKernels {
  using Op = BiasLeakyRelu;
  void (*forward)(const Op&, const void* x, const float* bias, void* y, int threads);
  void (*gate)(const Op&, const void* g, const float* bias, const void* y, void* out, int threads);
  void (*backward)(const Op&, const void* dy, const void* y, void* dx, float* dbias, int threads);
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
