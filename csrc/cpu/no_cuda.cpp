// Stands in for csrc/cuda in a build without a CUDA compiler.
#include <stdexcept>

#include "cxrgan/adversarial_loss.h"
#include "cxrgan/augmented_batch.h"
#include "cxrgan/bias_leaky_relu.h"
#include "cxrgan/conditional_batch_norm.h"
#include "cxrgan/device.h"

namespace cxrgan::cuda {
namespace {

constexpr char kNoCuda[] = "this build has no CUDA in it: no CUDA compiler was found";

[[noreturn]] void refuse() { throw std::runtime_error(kNoCuda); }

}  // namespace

std::vector<Device> devices() { refuse(); }

std::string probe_error(int) { return kNoCuda; }

NormPath forward_path(const ImageShape&, bool, NormPath, int) { refuse(); }

NormPath backward_path(const ImageShape&, bool, NormPath, int) { refuse(); }

int64_t forward_workspace(const ImageShape&, bool, NormPath, int) { refuse(); }

int64_t backward_workspace(const ImageShape&, bool, NormPath, int) { refuse(); }

void conditional_batch_norm_statistics(const ImageShape&, float, const void*, float*, float*,
                                       float*, const Launch&) {
  refuse();
}

void given_statistics(int64_t, float, const float*, const float*, float*, float*, float*,
                      const Launch&) {
  refuse();
}

void update_running_statistics(int64_t, int64_t, double, const float*, const float*, float*, float*,
                               const Launch&) {
  refuse();
}

void conditional_batch_norm_apply(const ConditionalBatchNorm&, const void*, const float*,
                                  const float*, void*, const Launch&) {
  refuse();
}

void conditional_batch_norm_forward(NormPath, const ConditionalBatchNorm&, float, const void*,
                                    void*, float*, float*, float*, const RunningStatistics&,
                                    const Launch&) {
  refuse();
}

void conditional_batch_norm_backward_reduce(const ConditionalBatchNorm&, const void*, const void*,
                                            const float*, const float*, float*, float*,
                                            const Launch&) {
  refuse();
}

void conditional_batch_norm_backward_apply(const ConditionalBatchNorm&, const void*, const void*,
                                           const float*, const float*, const float*, const float*,
                                           int64_t, void*, const Launch&) {
  refuse();
}

void conditional_batch_norm_backward(NormPath, const ConditionalBatchNorm&, const void*,
                                     const void*, const float*, const float*, bool, void*, float*,
                                     float*, const Launch&) {
  refuse();
}

int64_t bias_leaky_relu_workspace(const ImageShape&, int) { refuse(); }

void bias_leaky_relu(const BiasLeakyRelu&, const void*, const float*, void*, const Launch&) {
  refuse();
}

void bias_leaky_relu_gate(const BiasLeakyRelu&, const void*, const float*, const void*, void*,
                          const Launch&) {
  refuse();
}

void bias_leaky_relu_backward(const BiasLeakyRelu&, const void*, const void*, void*, float*,
                              const Launch&) {
  refuse();
}

int64_t adversarial_loss_workspace(int64_t) { refuse(); }

void discriminator_loss(LossKind, double, const Logits&, const Logits&, float*, const Launch&) {
  refuse();
}

void generator_loss(LossKind, const Logits&, float*, const Launch&) { refuse(); }

void augmented_batch(const AugmentedBatch&, const StoredImages&, const ImagesIn&, const Noise&,
                     const ImagesOut&, const Launch&) {
  refuse();
}

void augmented_batch_linear(const AugmentedBatch&, const ImagesIn&, const ImagesOut&,
                            const Launch&) {
  refuse();
}

void augmented_batch_backward(const AugmentedBatch&, const ImagesIn&, const ImagesOut&,
                              const Launch&) {
  refuse();
}

}  // namespace cxrgan::cuda
