// The launchers of cxrgan/adversarial_loss.h on a GPU.
#include "cxrgan/adversarial_loss.h"

#include "cxrgan/adversarial_terms.h"
#include "plan.h"
#include "together.cuh"

namespace cxrgan::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int64_t kOfOneBlock = 16384;  // logits; more are for several blocks
constexpr int64_t kOfEachBlock = 8192;  // logits, where there are several
constexpr int kMostBlocks = 256;

struct Side {
  LossTerm term;
  Logits logits;
};

struct Point {
  float value, slope;  // φ(x), φ'(x)
};

// Exact to a few units in the last place everywhere: softplus(−30) is 9e-14, not log(1) = 0.
__device__ Point softplus(float x) {
  const float z = expf(-fabsf(x));
  return {(x > 0 ? x : x < 0 ? 0.0f : x) + log1pf(z), (x < 0 ? z : 1.0f) / (1.0f + z)};
}

// NaN goes through every comparison as it does in PyTorch's.
__device__ Point evaluate(const LossTerm& term, float x) {
  switch (term.function) {
    case LossFunction::kSoftplus:
    case LossFunction::kSmoothedSoftplus: {
      const Point at = softplus(x * term.sign);
      const Point plain = {at.value * term.weight, at.slope * (term.sign * term.weight)};
      if (term.function == LossFunction::kSoftplus) return plain;
      return {plain.value + x * term.offset, plain.slope + term.offset};
    }
    case LossFunction::kHinge: {
      const float margin = x * term.sign + 1.0f;
      if (margin <= 0) return {0, 0};
      return {margin, term.sign};
    }
    case LossFunction::kHalfSquare: {
      const float distance = x - term.offset;
      return {distance * distance * 0.5f, distance};
    }
    case LossFunction::kLinear:
      break;
  }
  return {x * term.sign, term.sign};
}

// This thread's part of Σ φ; φ'/count to the gradient.
template <class T>
__device__ double part_of_sum(const Side& side) {
  const T* const x = static_cast<const T*>(side.logits.values);
  const int64_t count = side.logits.count;
  const float scale = static_cast<float>(1.0 / static_cast<double>(count));
  const bool linear = side.term.function == LossFunction::kLinear;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (linear && first == 0) *side.logits.gradient = side.term.sign * scale;
  double total = 0;
  for (int64_t i = first; i < count; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const Point at = evaluate(side.term, to_float(x[i]));
    total += at.value;
    if (!linear) side.logits.gradient[i] = at.slope * scale;
  }
  return total;
}

// This thread's part of the mean; that of no logits is NaN, as 0/0 is.
__device__ double part_of_mean(const Side& side) {
  double total = 0;
  switch (side.logits.dtype) {
    case Dtype::kFloat32:
      total = part_of_sum<float>(side);
      break;
    case Dtype::kBFloat16:
      total = part_of_sum<BFloat16>(side);
      break;
    case Dtype::kFloat16:
      total = part_of_sum<Float16>(side);
      break;
  }
  return total / static_cast<double>(side.logits.count);
}

// The sum over a block's threads, for its first thread; `shared` holds a number for each warp.
__device__ double sum_over_block(double value, double* shared) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kAllLanes, value, distance);
  if (lane_of_thread() == 0) shared[warp_of_thread()] = value;
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0)
    for (int warp = 0; warp < warps_of_block(); ++warp) total += shared[warp];
  return total;
}

// sides: 1 (fake alone) or 2. A single block writes the loss, several write their parts of it.
__global__ void __launch_bounds__(kThreads)
    loss_kernel(int sides, Side fake, Side real, double* parts, float* loss) {
  double part = part_of_mean(fake);
  if (sides == 2) part += part_of_mean(real);
  part = sum_over_block(part, reinterpret_cast<double*>(dynamic_shared()));
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    *loss = static_cast<float>(part);
  } else {
    parts[blockIdx.x] = part;
  }
}

__global__ void __launch_bounds__(kThreads)
    combine_losses_kernel(int count, const double* parts, float* loss) {
  double part = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) part += parts[i];
  part = sum_over_block(part, reinterpret_cast<double*>(dynamic_shared()));
  if (threadIdx.x == 0) *loss = static_cast<float>(part);
}

int blocks_for(int64_t count) {
  if (count <= kOfOneBlock) return 1;
  return static_cast<int>(clamp(divide_up(count, kOfEachBlock), 1, kMostBlocks));
}

int64_t shared_bytes(int threads) { return threads / kWarp * static_cast<int64_t>(sizeof(double)); }

void run(const char* op, int sides, const Side& fake, const Side& real, float* loss,
         const Launch& where) {
  const int64_t count = fake.logits.count + (sides == 2 ? real.logits.count : 0);
  const Launcher launch({op, {}, count}, where);
  const int blocks = blocks_for(count);
  const int threads = static_cast<int>(clamp(divide_up(count, kWarp) * kWarp, kWarp, kThreads));
  double* const parts = static_cast<double*>(launch.workspace(adversarial_loss_workspace(count)));
  launch(loss_kernel, {blocks, threads, shared_bytes(threads)}, sides, fake, real, parts, loss);
  if (blocks > 1)
    launch(combine_losses_kernel, {1, kMostBlocks, shared_bytes(kMostBlocks)}, blocks, parts, loss);
}

}  // namespace

int64_t adversarial_loss_workspace(int64_t count) {
  const int blocks = blocks_for(count);
  return blocks == 1 ? 0 : blocks * static_cast<int64_t>(sizeof(double));
}

void discriminator_loss(const DiscriminatorLoss& op, const Logits& real, const Logits& fake,
                        float* loss, const Launch& where) {
  const DiscriminatorTerms terms = discriminator_terms(op);
  run("discriminator_loss", 2, {terms.fake, fake}, {terms.real, real}, loss, where);
}

void generator_loss(LossKind kind, const Logits& fake, float* loss, const Launch& where) {
  const Side side = {generator_term(kind), fake};
  run("generator_loss", 1, side, side, loss, where);
}

}  // namespace cxrgan::cuda
