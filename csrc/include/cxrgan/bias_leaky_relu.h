// A channel's bias and LeakyReLU: the launchers' contract.
//
//   z = x + bias[c],  y = gain·(z if z > 0 else slope·z).
// With slope ≥ 0 and gain > 0, y > 0 exactly where z > 0, so y alone gives every derivative:
//   dx = dy·gain·(1 if y > 0 else slope),  dbias[c] = Σ dx.
// Those are linear in dy; their own derivative, for v = ∂/∂dx and w = ∂/∂dbias, is
//   (v + w[c])·gain·(1 if y > 0 else slope).
//
// Bias and its gradient are float32 whatever the image dtype, and so is the sum x + bias before it
// is rounded once. Every pointer is to memory that the caller owns; images have the shape's dtype
// and layout. Where a bias is null there is none.
#pragma once

#include "cxrgan/cuda_launch.h"
#include "cxrgan/tensor.h"

namespace cxrgan {

struct BiasLeakyRelu {
  ImageShape shape;
  float negative_slope;  // at least 0
  float gain;            // above 0
};

namespace cpu {

// `threads` is an upper bound; results do not depend on it.

// y from x and bias (C,).
void bias_leaky_relu(const BiasLeakyRelu& op, const void* x, const float* bias, void* y,
                     int threads);

// out = (g + bias)·gain·(1 if y > 0 else slope): dx without dbias, and the second derivative.
void bias_leaky_relu_gate(const BiasLeakyRelu& op, const void* g, const float* bias, const void* y,
                          void* out, int threads);

// dx, and dbias (C,), written.
void bias_leaky_relu_backward(const BiasLeakyRelu& op, const void* dy, const void* y, void* dx,
                              float* dbias, int threads);

}  // namespace cpu

namespace cuda {

// The same with device pointers; the same bits from run to run.

// Bytes of workspace that bias_leaky_relu_backward takes at most; the others take none.
int64_t bias_leaky_relu_workspace(const ImageShape& shape, int device);

void bias_leaky_relu(const BiasLeakyRelu& op, const void* x, const float* bias, void* y,
                     const Launch& launch);

void bias_leaky_relu_gate(const BiasLeakyRelu& op, const void* g, const float* bias, const void* y,
                          void* out, const Launch& launch);

void bias_leaky_relu_backward(const BiasLeakyRelu& op, const void* dy, const void* y, void* dx,
                              float* dbias, const Launch& launch);

}  // namespace cuda
}  // namespace cxrgan
