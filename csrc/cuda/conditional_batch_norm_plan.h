// Which path conditional batch norm takes on a device, and the numbers of its launches.
#pragma once

#include "conditional_batch_norm_kernels.cuh"
#include "cxrgan/conditional_batch_norm.h"
#include "plan.h"

namespace cxrgan::cuda {

// The launches of the two-pass kernels. Those that leave something for each block have as many
// blocks as run at once, at two to a multiprocessor; the others have many, so that none ends much
// later.
struct PassPlan {
  Tiling summing, streaming;
};

inline PassPlan pass_plan(const Shape& shape, const Limits& limits) {
  const int64_t at_once = static_cast<int64_t>(limits.multiprocessors) * 2;
  const Tiling t = pass_tiling(shape, limits);
  return {with_blocks(t, kPassThreads, at_once), with_blocks(t, kPassThreads, at_once * 16)};
}

// Bytes of shared memory that merge_over_block takes.
inline int64_t merge_bytes(const Shape& shape, const Tiling& t, int threads) {
  const int columns = t.across * (shape.rows ? shape.width : 1);
  return static_cast<int64_t>(sizeof(Moments)) * columns * (threads / kWarp);
}

// A launch of a single-read kernel; cluster 0 where there is none.
struct SlabPlan {
  Tiling tiling;
  int threads;
  int cluster;         // blocks
  int64_t slab_bytes;  // of one tensor, in each block
  int64_t shared_bytes;
};

// tensors: that are kept, 1 (x) forward and 2 (dy, x) backward. packets: of a unit, for each lane.
inline SlabPlan slab_plan_of(const Shape& shape, int tensors, int cluster, int packets,
                             const Limits& limits) {
  const int64_t packet_bytes = shape.width * size_of(shape.images.dtype);
  SlabPlan plan{};
  // Of channels_last images a block keeps 64 bytes of each pixel: two sectors of memory.
  plan.tiling = tiling_of(shape, packets, lanes_of(shape, 64));
  plan.tiling.chunks = cluster;
  const int64_t values = shape.images.values_per_channel();
  const int64_t packets_a_block =
      divide_up(shape.rows ? values * plan.tiling.across : divide_up(values, shape.width), cluster);
  plan.threads =
      static_cast<int>(clamp(divide_up(packets_a_block, 4 * kWarp) * kWarp, 64, kSingleThreads));
  plan.slab_bytes =
      packets_a_thread(shape, plan.tiling, plan.threads) * plan.threads * packet_bytes;
  plan.shared_bytes =
      tensors * plan.slab_bytes + (tensors == 1 ? merge_bytes(shape, plan.tiling, plan.threads) : 0);
  // No block of a cluster may be without work.
  const int64_t units_a_round = plan.threads / plan.tiling.group;
  if (plan.shared_bytes <= limits.shared_bytes_per_block &&
      plan.tiling.units > (cluster - 1) * units_a_round)
    plan.cluster = cluster;
  return plan;
}

// The longest units with which a cluster has room, and each of its blocks work. In rows each unit
// leaves a sum for every channel, so that long ones cost less; in planes short ones suit more warps.
inline SlabPlan slab_plan_of(const Shape& shape, int tensors, int cluster, const Limits& limits) {
  int packets = shape.rows ? 32 : 4;
  SlabPlan plan = slab_plan_of(shape, tensors, cluster, packets, limits);
  while (plan.cluster == 0 && packets > 2)
    plan = slab_plan_of(shape, tensors, cluster, packets /= 2, limits);
  return plan;
}

constexpr int kMostOfACluster = 8;  // blocks, on every device that has clusters

// The plan of a path, with cluster 0 where the path is impossible or is two-pass. kAuto: single-read
// where that keeps four tenths of the multiprocessors busy, with the smallest cluster that does.
// This rule is a prediction: bench/gpu.sh measures every path at every listed shape.
inline SlabPlan slab_plan(const Shape& shape, int tensors, NormPath path, const Limits& limits) {
  for (int cluster = 1; cluster <= kMostOfACluster; cluster *= 2) {
    if (path == NormPath::kTwoPass || (cluster > 1 && (!limits.clusters || path == NormPath::kSlab)))
      break;
    if (cluster == 1 && path == NormPath::kCluster) continue;
    const SlabPlan plan = slab_plan_of(shape, tensors, cluster, limits);
    const bool busy = plan.tiling.tiles * cluster * 5 >= limits.multiprocessors * 2;
    if (plan.cluster != 0 && (busy || path != NormPath::kAuto)) return plan;
  }
  return {};
}

inline NormPath path_of(const SlabPlan& plan) {
  return plan.cluster == 0   ? NormPath::kTwoPass
         : plan.cluster == 1 ? NormPath::kSlab
                             : NormPath::kCluster;
}

// Channels to a block of the combining kernels: those of one warp's teams, so that blocks are many.
template <class Part>
int64_t channels_a_block(const Shape& shape) {
  return shape.rows ? Team<true, Part>::kAcross : Team<false, Part>::kAcross;
}

}  // namespace cxrgan::cuda
