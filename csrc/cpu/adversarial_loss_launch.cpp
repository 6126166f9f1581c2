// The launchers of adversarial_loss.h: the level to run.
#include "adversarial_loss_kernels.h"
#include "dispatch.h"
#include "parallel.h"

namespace cxrgan::cpu {
namespace {

double mean(const LossTerm& term, const Logits& logits, int threads) {
  const ImageShape shape{logits.dtype, Layout::kContiguous, 1, 1, logits.count};
  return CXRGAN_OF_LEVEL(adversarial_loss).mean(term, logits, useful_threads(shape, threads));
}

}  // namespace

void discriminator_loss(const DiscriminatorLoss& op, const Logits& real, const Logits& fake,
                        float* loss, int threads) {
  const DiscriminatorTerms terms = discriminator_terms(op);
  *loss = static_cast<float>(mean(terms.real, real, threads) + mean(terms.fake, fake, threads));
}

void generator_loss(LossKind kind, const Logits& fake, float* loss, int threads) {
  *loss = static_cast<float>(mean(generator_term(kind), fake, threads));
}

}  // namespace cxrgan::cpu
