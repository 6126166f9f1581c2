// What each instruction-set level provides of conditional_batch_norm.cpp: the steps of
// cxrgan/conditional_batch_norm.h with their arguments, checked, where no image is empty. Forward
// leaves the running statistics to the launcher; backward is told the count, 0 for constant ones.
#pragma once

#include "cxrgan/conditional_batch_norm.h"

namespace cxrgan {

struct ConditionalBatchNormKernels {
  using Op = ConditionalBatchNorm;
  decltype(&cpu::conditional_batch_norm_statistics) statistics;
  decltype(&cpu::conditional_batch_norm_apply) apply;
  void (*forward)(const Op&, const void* x, void* y, float* mean, float* var, float* rstd,
                  int threads);
  decltype(&cpu::conditional_batch_norm_backward_reduce) backward_reduce;
  decltype(&cpu::conditional_batch_norm_backward_apply) backward_apply;
  void (*backward)(const Op&, const void* dy, const void* x, const float* mean, const float* rstd,
                   int64_t count, void* dx, float* dweight, float* dbias, int threads);
};

namespace baseline {
extern const ConditionalBatchNormKernels conditional_batch_norm;
}
namespace avx2 {
extern const ConditionalBatchNormKernels conditional_batch_norm;
}
namespace avx512 {
extern const ConditionalBatchNormKernels conditional_batch_norm;
}
namespace avx512_bf16 {
extern const ConditionalBatchNormKernels conditional_batch_norm;
}

}  // namespace cxrgan
