// How the kernels divide images among warps. Both layouts come down to the same loop: a lane walks
// over packets at a constant distance, all in one sample, and
//
//   contiguous       all of one channel; lanes side by side along the plane
//   channels_last    each of its own kWidth channels; lanes side by side along a pixel's channels, and
//                    where these are few over several pixels
//
// A sample's plane is cut into pieces. A unit, a piece of one sample, is what a group of lanes (a
// warp, or less where planes are small) goes over together; a tile is the channels that a block has
// to do with. So sums over a unit's lanes belong to one sample, that is, to one class.
#pragma once

#include "packet.cuh"

namespace cxrgan::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <class T, int kWidth_, bool kChannelsLast_, bool kEdges_ = false>
struct View {
  using Scalar = T;
  using Pack = Packet<T, kWidth_>;
  static constexpr int kWidth = kWidth_;
  static constexpr bool kChannelsLast = kChannelsLast_;
  // Whether planes may begin or end within a packet; taking care of that costs registers.
  static constexpr bool kEdges = kEdges_;
  static constexpr int kChannels = kChannelsLast ? kWidth : 1;  // of a packet
  // Packets in flight for each lane, of one tensor and of each of two. Packets of eight channels leave
  // registers for no more.
  static constexpr int kFlight = 4;
  static constexpr int kBatch = kChannelsLast && kWidth == 8 ? 2 : 4;
};

// The same for every block of a launch; made by plan.h.
struct Tiling {
  int64_t samples, channels, pixels;
  int64_t tiles;   // contiguous: a channel each; channels_last: lanes_across·kWidth channels each
  int64_t piece;   // pixels
  int pieces;      // of a sample
  int units;       // samples·pieces
  int group;       // lanes to a unit, a power of two
  int across;      // of them side by side across channels, a power of two; 1 for planes
  int chunks;      // blocks to a tile
  int round;       // units that a block goes over at once

  __host__ __device__ int64_t values_per_channel() const { return samples * pixels; }

  // A tile's units are gone over in rounds; chunk c has rounds c, c + chunks, c + 2·chunks, …
  __host__ __device__ int rounds() const { return (units - 1) / round + 1; }

  // A sum for each round and sample that the round has units of: number round + sample. Neither ever
  // goes down from unit to unit, so that no two have the same number.
  __host__ __device__ int64_t slots() const { return rounds() + samples - 1; }
};

// What one lane has of a unit.
struct Strip {
  int64_t first, step;  // elements: its first packet, and from one packet to the next
  int64_t begin, end;   // planes: of the unit; in the packets at its edges others are not its own
  int64_t sample;
  int64_t channel;      // of the first value of a packet
  int count;            // packets
};

__device__ __forceinline__ int lane_of_thread() { return threadIdx.x % kWarp; }
__device__ __forceinline__ int warp_of_thread() { return threadIdx.x / kWarp; }
__device__ __forceinline__ int warps_of_block() { return blockDim.x / kWarp; }

__host__ __device__ __forceinline__ int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
__host__ __device__ __forceinline__ int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The first channel of this lane's packets in a tile; channels_last: may be past the last.
template <class V>
__device__ __forceinline__ int64_t channel_of(const Tiling& t, int64_t tile) {
  if constexpr (!V::kChannelsLast) return tile;
  return (tile * t.across + (lane_of_thread() & (t.across - 1))) * V::kWidth;
}

template <class V>
__device__ __forceinline__ Strip strip_of(const Tiling& t, int64_t tile, int unit) {
  Strip s{};
  s.channel = channel_of<V>(t, tile);
  if (unit >= t.units) return s;
  const int sample = unit / t.pieces;
  const int64_t from = static_cast<int64_t>(unit - sample * t.pieces) * t.piece;
  const int64_t length = smaller(t.piece, t.pixels - from);
  const int lane = lane_of_thread() & (t.group - 1);
  s.sample = sample;
  int64_t packets, stride;  // of the unit from this lane on; from one of the lane's to the next
  if constexpr (V::kChannelsLast) {
    if (s.channel >= t.channels) return s;
    const int row = lane / t.across;
    stride = t.group / t.across;
    packets = length - row;
    s.first = (sample * t.pixels + from + row) * t.channels + s.channel;
    s.step = stride * t.channels;
  } else {
    s.begin = (sample * t.channels + tile) * t.pixels + from;
    s.end = s.begin + length;
    // Packets are aligned in memory, wherever the plane begins.
    const int64_t packet = s.begin / V::kWidth + lane;
    stride = t.group;
    packets = (s.end + V::kWidth - 1) / V::kWidth - packet;
    s.first = packet * V::kWidth;
    s.step = stride * V::kWidth;
  }
  s.count = packets <= 0 ? 0 : static_cast<int>((packets + stride - 1) / stride);
  return s;
}

// The part [from, to) of the packet at `at` that is the unit's own.
struct Part {
  int from, to;
};

template <class V>
__device__ __forceinline__ Part part_of(const Strip& s, int64_t at) {
  if constexpr (!V::kEdges) return {0, V::kWidth};
  return {static_cast<int>(larger(s.begin - at, 0)),
          static_cast<int>(smaller(s.end - at, V::kWidth))};
}

template <class V>
__device__ __forceinline__ bool is_whole(const Part& part) {
  return !V::kEdges || part.to - part.from == V::kWidth;
}

// The packet at `at`; zeros where it is not the unit's own, which is not read.
template <class V>
__device__ __forceinline__ typename V::Pack load(const typename V::Scalar* x, const Strip& s,
                                                 int64_t at) {
  using Pack = typename V::Pack;
  const Part part = part_of<V>(s, at);
  if (is_whole<V>(part)) return *reinterpret_cast<const Pack*>(x + at);
  Pack packet;
#pragma unroll
  for (int i = 0; i < V::kWidth; ++i) {
    round_to(0.0f, packet.values[i]);
    if (i >= part.from && i < part.to) packet.values[i] = x[at + i];
  }
  return packet;
}

template <class V>
__device__ __forceinline__ void store(typename V::Scalar* y, const Strip& s, int64_t at,
                                      const typename V::Pack& packet) {
  using Pack = typename V::Pack;
  const Part part = part_of<V>(s, at);
  if (is_whole<V>(part)) {
    *reinterpret_cast<Pack*>(y + at) = packet;
    return;
  }
#pragma unroll
  for (int i = 0; i < V::kWidth; ++i)
    if (i >= part.from && i < part.to) y[at + i] = packet.values[i];
}

// This block's part of the work on a tile.
struct Share {
  int64_t tile;
  int chunk, chunks;
};

enum class Order { kForwards, kBackwards };

// Blocks of a grid of tiles·chunks; backwards, what was read last comes first: L2 still has it.
__device__ __forceinline__ Share share_of_block(const Tiling& t, Order order) {
  const int64_t block = order == Order::kForwards ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
  return {block % t.tiles, static_cast<int>(block / t.tiles), t.chunks};
}

// body(strip, round) for each unit of this lane's group, a round after the other: all threads of a
// block go round as often, so that the body may exchange among them; past the last unit a strip is
// empty.
template <class V, class Body>
__device__ __forceinline__ void for_units(const Tiling& t, const Share& share, Order order,
                                          const Body& body) {
  const int rounds = t.rounds();
  if (share.chunk >= rounds) return;
  const int within = threadIdx.x / t.group;
  const int last = share.chunk + (rounds - 1 - share.chunk) / share.chunks * share.chunks;
  const bool forwards = order == Order::kForwards;
  const int step = forwards ? share.chunks : -share.chunks;
  for (int r = forwards ? share.chunk : last; forwards ? r <= last : r >= share.chunk; r += step) {
    body(strip_of<V>(t, share.tile, r * t.round + within), r);
  }
}

// Sums over the lanes of a group that have the same channels; every lane gets them.
template <class V, int kCount>
__device__ __forceinline__ void sum_over_group(const Tiling& t, float (&values)[kCount]) {
  for (int distance = t.across; distance < t.group; distance *= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      values[i] += __shfl_xor_sync(kAllLanes, values[i], distance);
  }
}

}  // namespace cxrgan::cuda
