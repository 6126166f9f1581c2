// The launchers of augmented_batch.h: rows that are not there, where each sample's pixels come
// from, and the level to run.
#include <stdexcept>
#include <string>
#include <vector>

#include "augmented_batch_kernels.h"
#include "dispatch.h"
#include "parallel.h"

namespace cxrgan::cpu {
namespace {

void check_rows(const Move& move) {
  if (move.rows == nullptr) return;
  for (int64_t i = 0; i < move.stored_samples; ++i) {
    const int64_t row = move.rows[i];
    if (row < 0 || row >= move.stored_count)
      throw std::out_of_range("rows[" + std::to_string(i) + "] is " + std::to_string(row) +
                              ", expected 0 <= row < " + std::to_string(move.stored_count));
  }
}

void run(const Move& move, int threads) {
  check_rows(move);
  const ImageShape shape{move.out.dtype, move.out.layout, move.samples, move.channels,
                         move.height * move.width};
  if (shape.elements() == 0) return;
  std::vector<Placement> placements(static_cast<size_t>(move.samples));
  for (int64_t n = 0; n < move.samples; ++n)
    placements[static_cast<size_t>(n)] = placement_of(move, n);
  CXRGAN_OF_LEVEL(augmented_batch).move(move, placements.data(),
                                        useful_threads(shape, threads));
}

}  // namespace

void augmented_batch(const AugmentedBatch& batch, const StoredImages& stored,
                     const ImagesIn& fake, const Noise& noise, const ImagesOut& out,
                     int threads) {
  run(forward_move(batch, stored, fake, noise, out), threads);
}

void augmented_batch_linear(const AugmentedBatch& batch, const ImagesIn& tangent,
                            const ImagesOut& out, int threads) {
  run(linear_move(batch, tangent, out), threads);
}

void augmented_batch_backward(const AugmentedBatch& batch, const ImagesIn& gradient,
                              const ImagesOut& out, int threads) {
  run(backward_move(batch, gradient, out), threads);
}

}  // namespace cxrgan::cpu
