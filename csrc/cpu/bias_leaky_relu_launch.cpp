// The launchers of bias_leaky_relu.h: empty images, and the level to run.
#include <algorithm>

#include "bias_leaky_relu_kernels.h"
#include "dispatch.h"
#include "parallel.h"

namespace cxrgan::cpu {
namespace {

const BiasLeakyReluKernels& kernels() { return CXRGAN_OF_LEVEL(bias_leaky_relu); }

}  // namespace

void bias_leaky_relu(const BiasLeakyRelu& op, const void* x, const float* bias, void* y,
                     int threads) {
  if (op.shape.elements() == 0) return;
  kernels().forward(op, x, bias, y, useful_threads(op.shape, threads));
}

void bias_leaky_relu_gate(const BiasLeakyRelu& op, const void* g, const float* bias, const void* y,
                          void* out, int threads) {
  if (op.shape.elements() == 0) return;
  kernels().gate(op, g, bias, y, out, useful_threads(op.shape, threads));
}

void bias_leaky_relu_backward(const BiasLeakyRelu& op, const void* dy, const void* y, void* dx,
                              float* dbias, int threads) {
  if (op.shape.elements() == 0) {
    std::fill_n(dbias, op.shape.channels, 0.0f);
    return;
  }
  kernels().backward(op, dy, y, dx, dbias, useful_threads(op.shape, threads));
}

}  // namespace cxrgan::cpu
