// Which path conditional batch norm takes on a device, and the numbers of its launches.
#pragma once

#include <unordered_map>

#include "conditional_batch_norm_kernels.cuh"
#include "conditional_batch_norm_single.cuh"
#include "cxrgan/conditional_batch_norm.h"
#include "plan.h"

namespace cxrgan::cuda {

// What the kernels are told of a call; mean and rstd are those that they will read.
inline Norm norm_of(const ConditionalBatchNorm& op, const Tiling& t, const float* mean,
                    const float* rstd) {
  const bool aligned =
      op.shape.channels % 4 == 0 && all_aligned(op.weight, op.bias, mean, rstd);
  return {t, op.classes, op.labels, op.weight, op.bias, op.negative_slope, aligned};
}

// The launches of the two-pass kernels. The blocks of the first, which leave something each and may
// wait for each other, run all at once, two to a multiprocessor; those of the second are many, so that
// none ends much later.
struct PassPlan {
  Tiling first, second;
};

inline PassPlan pass_plan(const Shape& shape, const Limits& limits) {
  const int64_t at_once = static_cast<int64_t>(limits.multiprocessors) * 2;
  const Tiling t = pass_tiling(shape, limits);
  return {with_blocks(t, kPassThreads, at_once), with_blocks(t, kPassThreads, at_once * 16)};
}

// Whether a grid's blocks may wait for each other: all of them have to run at once.
inline bool runs_at_once(const Tiling& t, int blocks_a_multiprocessor, const Limits& limits) {
  return limits.cooperative &&
         t.tiles * t.chunks <= static_cast<int64_t>(limits.multiprocessors) * blocks_a_multiprocessor;
}

inline int columns_of(const Shape& shape, const Tiling& t) {
  return t.across * (shape.channels_last ? shape.width : 1);
}

// Bytes of shared memory that merge_over_block takes.
inline int64_t merge_bytes(const Shape& shape, const Tiling& t, int threads) {
  return static_cast<int64_t>(sizeof(Moments)) * columns_of(shape, t) * (threads / kWarp);
}

// A launch of a single-launch kernel; path kTwoPass where there is none.
struct SinglePlan {
  NormPath path = NormPath::kTwoPass;
  Tiling tiling;
  int threads;
  int packets;           // of a thread, of each tensor, that are kept
  int packets_in_all;    // that a thread has of each
  int64_t shared_bytes;  // of a block

  bool grid() const { return path == NormPath::kPersistent; }
  int cluster() const { return grid() ? 1 : tiling.chunks; }
  int64_t blocks() const { return tiling.tiles * tiling.chunks; }
};

// tensors: that are kept, 1 (x) forward and 2 (dy, x) backward. chunks: blocks to a tile; packets: of a
// unit, for each lane; across: bytes of a pixel that a block of channels_last images has.
inline SinglePlan single_plan_of(const Shape& shape, int tensors, NormPath path, int chunks,
                                 int packets, int across, const Limits& limits) {
  SinglePlan plan{};
  plan.path = path;
  Tiling& t = plan.tiling = tiling_of(shape, packets, lanes_of(shape, across));
  const int64_t values = shape.images.values_per_channel();
  const int64_t packets_a_block =
      divide_up(shape.channels_last ? values * t.across : divide_up(values, shape.width), chunks);
  plan.threads =
      static_cast<int>(clamp(divide_up(packets_a_block, 4 * kWarp) * kWarp, 64, kSingleThreads));
  t.round = plan.threads / t.group;
  t.chunks = chunks;
  const int columns = columns_of(shape, t);
  const int64_t scratch = tensors == 1 ? ForwardScratch::bytes(columns, plan.threads)
                                       : BackwardScratch::bytes(t, columns, plan.threads);
  const int64_t of_packet =
      tensors * plan.threads * shape.width * size_of(shape.images.dtype);  // a packet a thread
  constexpr int64_t kMostPackets = int64_t{1} << 30;
  const int64_t all = packets_a_thread(shape, t);
  const int64_t room = larger(limits.shared_bytes_per_block - scratch, 0) / of_packet;
  plan.packets_in_all = static_cast<int>(smaller(all, kMostPackets));
  plan.packets = static_cast<int>(smaller(plan.packets_in_all, room));
  plan.shared_bytes = scratch + plan.packets * of_packet;
  // A block without work would leave nothing where the others look for it.
  const bool all_work = t.rounds() >= chunks;
  const bool possible = plan.grid() ? runs_at_once(t, 1, limits) : plan.packets == all;
  if (!possible || !all_work || plan.shared_bytes > limits.shared_bytes_per_block)
    plan.path = NormPath::kTwoPass;
  return plan;
}

// Whether the busiest block has at most an eighth more rounds than the mean.
inline bool is_even(const Tiling& t) {
  return 8 * divide_up(t.rounds(), t.chunks) * t.chunks <= 9 * static_cast<int64_t>(t.rounds());
}

// The longest units with which each block has work, as much as the others. In channels_last each
// unit leaves a sum for every channel, so that long ones cost less; in contiguous images short ones
// suit more warps.
inline SinglePlan single_plan_of(const Shape& shape, int tensors, NormPath path, int chunks,
                                 int across, const Limits& limits) {
  SinglePlan best{};
  const int most = shape.channels_last ? 32 : 4, least = shape.channels_last ? 2 : 1;
  for (int packets = most; packets >= least; packets /= 2) {
    const SinglePlan plan =
        single_plan_of(shape, tensors, path, chunks, packets, across, limits);
    if (plan.path == NormPath::kTwoPass) continue;
    best = plan;
    if (is_even(plan.tiling)) break;
  }
  return best;
}

// --- What a launch is expected to take ------------------------------------------------------------
//
// Microseconds on a device like an H100, of which only the comparison of paths is believed: a device's
// bandwidth and latencies differ from these by factors that the paths share. bench/predict.py holds
// measurements against a longer model of the same.

constexpr double kLaunchCost = 1.6;        // of a kernel that depends on the one before it, replayed
constexpr double kClusterCost = 0.6;       // of waiting for the others, and of reading what they have
constexpr double kGridCost = 2.0;
constexpr double kCombineCost = 1.0;       // of combining in the two-pass path
constexpr double kLatency = 0.6;           // of a load, in a crowd
constexpr double kRoundCost = 0.55;        // of a block's instructions for a round, each time at least
constexpr double kBytesInFlight = 64;      // of a thread
constexpr double kMultiprocessorRate = 54e3;  // bytes a microsecond at most, to and from L2
constexpr double kBusyForAll = 0.7;        // of the multiprocessors have the device's whole bandwidth

// Of moving bytes with blocks of so many threads, `at_once` of them to a multiprocessor, that go over
// their rounds so many times.
inline double moving_cost(double bytes, const Tiling& t, int threads, int64_t at_once, int times,
                          const Limits& limits) {
  const int64_t blocks = t.tiles * t.chunks, rounds = divide_up(t.rounds(), t.chunks);
  const int64_t places = limits.multiprocessors * at_once;
  const int64_t busy = smaller(blocks, limits.multiprocessors);
  const int64_t waves = divide_up(blocks, places);
  const double idle = static_cast<double>(waves * smaller(blocks, places)) / blocks;
  const double resident = smaller(at_once, divide_up(blocks, limits.multiprocessors)) * threads;
  const double of_one = resident * kBytesInFlight / kLatency;
  const double rate = of_one < kMultiprocessorRate ? of_one : kMultiprocessorRate;
  const double whole = kBusyForAll * limits.multiprocessors * kMultiprocessorRate;
  const double moving = idle * bytes / (busy * rate < whole ? busy * rate : whole);
  const double computing = kRoundCost * times * waves * rounds;
  return moving > computing ? moving : computing;
}

inline double image_bytes(const Shape& shape) {
  return static_cast<double>(shape.images.elements()) * size_of(shape.images.dtype);
}

inline double expected_cost(const Shape& shape, int tensors, const SinglePlan& plan,
                            const Limits& limits) {
  const Tiling& t = plan.tiling;
  const double image = image_bytes(shape);
  const double kept = static_cast<double>(plan.packets) / plan.packets_in_all;
  const double uneven =
      static_cast<double>(divide_up(t.rounds(), t.chunks) * t.chunks) / t.rounds();
  const double bytes = image * (tensors * (2 - kept) + 1) * uneven;
  // Registers for kSingleThreads, and shared memory for as many blocks as it holds.
  const int64_t at_once = larger(
      smaller(kSingleThreads / plan.threads, limits.shared_bytes_per_block / plan.shared_bytes), 1);
  const double wait = plan.grid() ? kGridCost : plan.cluster() > 1 ? kClusterCost : 0;
  return kLaunchCost + wait + 2 * kLatency +
         moving_cost(bytes, t, plan.threads, at_once, 2, limits);
}

inline double expected_cost(const Shape& shape, int tensors, const PassPlan& plan,
                            const Limits& limits) {
  const double image = image_bytes(shape);
  const double wait = runs_at_once(plan.first, 2, limits) ? kGridCost : kLaunchCost;
  return 2 * kLaunchCost + wait + kCombineCost + 2 * kLatency +
         moving_cost(image * tensors, plan.first, kPassThreads, 2, 1, limits) +
         moving_cost(image * (tensors + 1), plan.second, kPassThreads, 2, 1, limits);
}

constexpr int kMostOfACluster = 8;  // blocks, on every device that has clusters

// The plan of a path, of path kTwoPass where that path is impossible; of kAuto, what is expected to take
// least.
inline SinglePlan choose_single_plan(const Shape& shape, int tensors, NormPath path,
                                     const Limits& limits) {
  SinglePlan best{};
  if (path == NormPath::kTwoPass) return best;
  double least = path == NormPath::kAuto
                     ? expected_cost(shape, tensors, pass_plan(shape, limits), limits)
                     : 1e300;
  const auto consider = [&](NormPath of, int chunks, int across) {
    const SinglePlan plan = single_plan_of(shape, tensors, of, chunks, across, limits);
    if (plan.path == NormPath::kTwoPass) return;
    const double cost = expected_cost(shape, tensors, plan, limits);
    if (cost < least) best = plan, least = cost;
  };
  const bool any = path == NormPath::kAuto;
  // Of channels_last images a block has 64 bytes of each pixel, or a single sector of memory.
  for (int across = 64; across >= (shape.channels_last ? 32 : 64); across /= 2) {
    if (any || path == NormPath::kSlab) consider(NormPath::kSlab, 1, across);
    if ((any || path == NormPath::kCluster) && limits.clusters)
      for (int cluster = 2; cluster <= kMostOfACluster; cluster *= 2)
        consider(NormPath::kCluster, cluster, across);
    if (any || path == NormPath::kPersistent) {
      const int64_t tiles = tiling_of(shape, 2, lanes_of(shape, across)).tiles;
      for (int64_t chunks = limits.multiprocessors / tiles; chunks >= 1; chunks /= 2)
        consider(NormPath::kPersistent, static_cast<int>(chunks), across);
    }
  }
  return best;
}

// The same, remembered: to choose takes longer than to launch.
inline SinglePlan single_plan(const Shape& shape, int tensors, NormPath path, int device) {
  struct Key {
    ImageShape images;
    int width, tensors, device;
    NormPath path;

    bool operator==(const Key& other) const {
      return images.dtype == other.images.dtype && images.layout == other.images.layout &&
             images.samples == other.images.samples && images.channels == other.images.channels &&
             images.pixels == other.images.pixels && width == other.width &&
             tensors == other.tensors && device == other.device && path == other.path;
    }
  };
  struct Hash {
    size_t operator()(const Key& key) const {
      size_t hash = 0;
      for (const int64_t each :
           {static_cast<int64_t>(key.images.dtype), static_cast<int64_t>(key.images.layout),
            key.images.samples, key.images.channels, key.images.pixels,
            static_cast<int64_t>(key.width), static_cast<int64_t>(key.tensors),
            static_cast<int64_t>(key.device), static_cast<int64_t>(key.path)})
        hash = (hash ^ static_cast<size_t>(each)) * 0x9e3779b97f4a7c15u;
      return hash;
    }
  };
  constexpr size_t kMost = 1024;  // a training has some dozens of shapes
  thread_local std::unordered_map<Key, SinglePlan, Hash> known;
  const Key key{shape.images, shape.width, tensors, device, path};
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  if (known.size() >= kMost) known.clear();
  return known.emplace(key, choose_single_plan(shape, tensors, path, limits_of(device)))
      .first->second;
}

// Channels to a block of the combining kernels: those of one warp's teams, so that blocks are many.
template <class Part>
int64_t channels_a_block(const Shape& shape) {
  return shape.channels_last ? Team<true, Part>::kAcross : Team<false, Part>::kAcross;
}

}  // namespace cxrgan::cuda
