// One kernel launch: its blocks one cluster after another, a fiber for every thread of a cluster; of a
// cooperative launch all blocks together.
#pragma once

#include <string>

#include "cuda_runtime.h"

namespace cuda_standin {

struct Launch {
  dim3 grid, block, cluster;
  size_t shared_bytes;
  bool cooperative;
  Call call;
  const void* arguments;
};

struct Outcome {
  cudaError_t error;
  std::string message;
};

// In which order ready threads and blocks take their turns. Reads CXRGAN_STANDIN_ORDER: forwards,
// backwards, a number that seeds a new permutation at every turn, or eager: the last warp that can go
// on always does, so that it is as far ahead of the others as barriers let it. (The first ones are
// those that mostly read what all have left.)
struct Order {
  enum class Kind { kForwards, kBackwards, kShuffled, kEager } kind;
  uint64_t seed;
};
bool read_order(Order* order);

Outcome run(const Launch& launch, const Order& order);

}  // namespace cuda_standin
