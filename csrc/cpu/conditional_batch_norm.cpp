// conditional_batch_norm.h on the CPU: compiled once for each instruction-set level (simd.h).
#include "conditional_batch_norm_kernels.h"

#include "conditional_batch_norm_channels_last.h"
#include "conditional_batch_norm_contiguous.h"

namespace cxrgan::CXRGAN_SIMD {
namespace {

// steps(object): the shape's layout, its extents and dtype pick the class.
template <template <class> class Layout, class Steps>
void with_dtype(const ConditionalBatchNorm& op, int threads, const Steps& steps) {
  switch (op.shape.dtype) {
    case Dtype::kFloat32:
      return steps(Layout<float>(op, threads), float{});
    case Dtype::kBFloat16:
      return steps(Layout<BFloat16>(op, threads), BFloat16{});
    case Dtype::kFloat16:
      return steps(Layout<Float16>(op, threads), Float16{});
  }
}

template <class Steps>
void with_layout(const ConditionalBatchNorm& op, int threads, const Steps& steps) {
  if (op.shape.layout == Layout::kChannelsLast ||
      op.shape.pixels <= ChannelsLastNorm<float>::kColumns) {
    with_dtype<ChannelsLastNorm>(op, threads, steps);
  } else {
    with_dtype<ContiguousNorm>(op, threads, steps);
  }
}

void statistics(const ConditionalBatchNorm& op, const void* x, float* mean, float* var, float* rstd,
                int threads) {
  with_layout(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.statistics(static_cast<const T*>(x), mean, var, rstd);
  });
}

void apply(const ConditionalBatchNorm& op, const void* x, const float* mean, const float* rstd,
           void* y, int threads) {
  with_layout(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.apply(static_cast<const T*>(x), mean, rstd, static_cast<T*>(y));
  });
}

void forward(const ConditionalBatchNorm& op, const void* x, void* y, float* mean, float* var,
             float* rstd, int threads) {
  with_layout(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.forward(static_cast<const T*>(x), static_cast<T*>(y), mean, var, rstd);
  });
}

void backward_reduce(const ConditionalBatchNorm& op, const void* dy, const void* x,
                     const float* mean, const float* rstd, float* dweight, float* dbias,
                     int threads) {
  with_layout(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.backward_reduce(static_cast<const T*>(dy), static_cast<const T*>(x), mean, rstd, dweight,
                           dbias);
  });
}

void backward_apply(const ConditionalBatchNorm& op, const void* dy, const void* x,
                    const float* mean, const float* rstd, const float* dweight, const float* dbias,
                    int64_t count, void* dx, int threads) {
  with_layout(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.backward_apply(static_cast<const T*>(dy), static_cast<const T*>(x), mean, rstd, dweight,
                          dbias, count, static_cast<T*>(dx));
  });
}

void backward(const ConditionalBatchNorm& op, const void* dy, const void* x, const float* mean,
              const float* rstd, int64_t count, void* dx, float* dweight, float* dbias,
              int threads) {
  with_layout(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.backward(static_cast<const T*>(dy), static_cast<const T*>(x), mean, rstd, count,
                    static_cast<T*>(dx), dweight, dbias);
  });
}

}  // namespace

extern const ConditionalBatchNormKernels conditional_batch_norm = {
    statistics, apply, forward, backward_reduce, backward_apply, backward,
};

}  // namespace cxrgan::CXRGAN_SIMD
