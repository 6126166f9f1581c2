// What each instruction-set level provides of conditional_batch_norm.cpp. Arguments are those of
// cxrgan/conditional_batch_norm.h, checked, and no image is empty.
#pragma once

#include "cxrgan/conditional_batch_norm.h"

namespace cxrgan {

struct ConditionalBatchNormKernels {
  using Op = ConditionalBatchNorm;
  void (*statistics)(const Op&, float eps, const void* x, float* mean, float* var, float* rstd,
                     int threads);
  void (*apply)(const Op&, const void* x, const float* mean, const float* rstd, void* y,
                int threads);
  void (*forward)(const Op&, float eps, const void* x, void* y, float* mean, float* var,
                  float* rstd, int threads);
  void (*backward_reduce)(const Op&, const void* dy, const void* x, const float* mean,
                          const float* rstd, float* dweight, float* dbias, int threads);
  void (*backward_apply)(const Op&, const void* dy, const void* x, const float* mean,
                         const float* rstd, const float* dweight, const float* dbias,
                         int64_t count, void* dx, int threads);
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
