// The launchers of conditional_batch_norm.h: checks, empty images, and the level to run.
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "conditional_batch_norm_kernels.h"
#include "dispatch.h"
#include "parallel.h"

namespace cxrgan::cpu {
namespace {

const ConditionalBatchNormKernels& kernels() { return CXRGAN_OF_LEVEL(conditional_batch_norm); }

void check_labels(const ConditionalBatchNorm& op) {
  for (int64_t n = 0; n < op.shape.samples; ++n) {
    const int64_t label = op.labels[n];
    if (label < 0 || label >= op.classes) {
      throw std::out_of_range("labels[" + std::to_string(n) + "] is " + std::to_string(label) +
                              ", expected 0 <= label < " + std::to_string(op.classes));
    }
  }
}

void no_statistics(const ConditionalBatchNorm& op, float* mean, float* var, float* rstd) {
  for (int64_t c = 0; c < op.shape.channels; ++c) {
    mean[c] = var[c] = 0;
    rstd[c] = 1 / std::sqrt(op.eps);
  }
}

void no_gradients(const ConditionalBatchNorm& op, float* dweight, float* dbias) {
  const size_t bytes = sizeof(float) * static_cast<size_t>(op.classes * op.shape.channels);
  std::memset(dweight, 0, bytes);
  std::memset(dbias, 0, bytes);
}

}  // namespace

void conditional_batch_norm_statistics(const ConditionalBatchNorm& op, const void* x, float* mean,
                                       float* var, float* rstd, int threads) {
  if (op.shape.elements() == 0) return no_statistics(op, mean, var, rstd);
  kernels().statistics(op, x, mean, var, rstd, useful_threads(op.shape, threads));
}

void given_statistics(int64_t channels, float eps, const float* given_mean, const float* given_var,
                      float* mean, float* var, float* rstd) {
  for (int64_t c = 0; c < channels; ++c) {
    mean[c] = given_mean[c];
    var[c] = given_var[c];
    rstd[c] = static_cast<float>(1.0 / std::sqrt(static_cast<double>(var[c]) + eps));
  }
}

void update_running_statistics(int64_t channels, int64_t count, double momentum, const float* mean,
                               const float* var, float* running_mean, float* running_var) {
  if (count == 0) return;
  const double unbiased = static_cast<double>(count) / static_cast<double>(count > 1 ? count - 1 : 1);
  for (int64_t c = 0; c < channels; ++c) {
    running_mean[c] += static_cast<float>(momentum * (mean[c] - running_mean[c]));
    running_var[c] += static_cast<float>(momentum * (var[c] * unbiased - running_var[c]));
  }
}

void conditional_batch_norm_apply(const ConditionalBatchNorm& op, const void* x, const float* mean,
                                  const float* rstd, void* y, int threads) {
  check_labels(op);
  if (op.shape.elements() == 0) return;
  kernels().apply(op, x, mean, rstd, y, useful_threads(op.shape, threads));
}

void conditional_batch_norm_forward(const ConditionalBatchNorm& op, const void* x, void* y,
                                    float* mean, float* var, float* rstd,
                                    const RunningStatistics& running, int threads) {
  check_labels(op);
  if (op.shape.elements() == 0) return no_statistics(op, mean, var, rstd);
  kernels().forward(op, x, y, mean, var, rstd, useful_threads(op.shape, threads));
  if (running.mean != nullptr)
    update_running_statistics(op.shape.channels, op.shape.values_per_channel(), running.momentum,
                              mean, var, running.mean, running.var);
}

void conditional_batch_norm_backward_reduce(const ConditionalBatchNorm& op, const void* dy,
                                            const void* x, const float* mean, const float* rstd,
                                            float* dweight, float* dbias, int threads) {
  check_labels(op);
  if (op.shape.elements() == 0) return no_gradients(op, dweight, dbias);
  kernels().backward_reduce(op, dy, x, mean, rstd, dweight, dbias,
                            useful_threads(op.shape, threads));
}

void conditional_batch_norm_backward_apply(const ConditionalBatchNorm& op, const void* dy,
                                           const void* x, const float* mean, const float* rstd,
                                           const float* dweight, const float* dbias, int64_t count,
                                           void* dx, int threads) {
  check_labels(op);
  if (op.shape.elements() == 0) return;
  kernels().backward_apply(op, dy, x, mean, rstd, dweight, dbias, count, dx,
                           useful_threads(op.shape, threads));
}

void conditional_batch_norm_backward(const ConditionalBatchNorm& op, const void* dy, const void* x,
                                     const float* mean, const float* rstd, bool training, void* dx,
                                     float* dweight, float* dbias, int threads) {
  check_labels(op);
  if (op.shape.elements() == 0) return no_gradients(op, dweight, dbias);
  const int64_t count = training ? op.shape.values_per_channel() : 0;
  kernels().backward(op, dy, x, mean, rstd, count, dx, dweight, dbias,
                     useful_threads(op.shape, threads));
}

}  // namespace cxrgan::cpu
