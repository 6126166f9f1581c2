// The launchers of adversarial_loss.h: each kind's terms, and the level to run.
#include <utility>

#include "adversarial_loss_kernels.h"
#include "dispatch.h"
#include "parallel.h"

namespace cxrgan::cpu {
namespace {

// What the discriminator wants of real and of generated images.
std::pair<LossTerm, LossTerm> discriminator_terms(LossKind kind, double label_smoothing) {
  using Is = LossFunction;
  const auto smoothing = static_cast<float>(label_smoothing);
  const auto target = static_cast<float>(1 - label_smoothing);
  switch (kind) {
    case LossKind::kMinimax:
    case LossKind::kNonSaturating:
      return {{Is::kSmoothedSoftplus, -1, 1, smoothing}, {Is::kSoftplus, 1}};
    case LossKind::kHinge:
      return {{Is::kHinge, -1}, {Is::kHinge, 1}};
    case LossKind::kLeastSquares:
      return {{Is::kHalfSquare, 1, 1, target}, {Is::kHalfSquare}};
    case LossKind::kWasserstein:
      break;
  }
  return {{Is::kLinear, -1}, {Is::kLinear, 1}};
}

LossTerm generator_term(LossKind kind) {
  switch (kind) {
    case LossKind::kMinimax:
      return {LossFunction::kSoftplus, 1, -1};
    case LossKind::kNonSaturating:
      return {LossFunction::kSoftplus, -1};
    case LossKind::kLeastSquares:
      return {LossFunction::kHalfSquare, 1, 1, 1};
    case LossKind::kHinge:
    case LossKind::kWasserstein:
      break;
  }
  return {LossFunction::kLinear, -1};
}

double mean(const LossTerm& term, const Logits& logits, int threads) {
  const ImageShape shape{logits.dtype, Layout::kContiguous, 1, 1, logits.count};
  return CXRGAN_OF_LEVEL(adversarial_loss).mean(term, logits, useful_threads(shape, threads));
}

}  // namespace

void discriminator_loss(LossKind kind, double label_smoothing, const Logits& real,
                        const Logits& fake, float* loss, int threads) {
  const auto [real_term, fake_term] = discriminator_terms(kind, label_smoothing);
  *loss = static_cast<float>(mean(real_term, real, threads) + mean(fake_term, fake, threads));
}

void generator_loss(LossKind kind, const Logits& fake, float* loss, int threads) {
  *loss = static_cast<float>(mean(generator_term(kind), fake, threads));
}

}  // namespace cxrgan::cpu
