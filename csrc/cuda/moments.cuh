// Means and sums of squared deviations of channels, one pass over the data.
//
// A lane measures a strip about the mean of its first packets, so that squares are of deviations and
// nothing cancels, and merges strips by Chan, Golub & LeVeque (1983). Means are pairs of floats:
// where they are thousands of deviations, a float's rounding of a part's mean would show in the
// variance.
#pragma once

#include "strips.cuh"

namespace cxrgan::cuda {

// Of a part of a channel: mean = high + low.
struct alignas(16) Moments {
  float count, high, low, m2;
};

__device__ __forceinline__ Moments merged(const Moments& a, const Moments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  const float count = a.count + b.count;
  const float share = b.count / count;
  const float delta = (b.high - a.high) + (b.low - a.low);
  // high + low = a.high + moved without a rounding error (Knuth's two-sum).
  const float moved = __fmaf_rn(delta, share, a.low);
  const float high = a.high + moved;
  const float part = high - a.high;
  const float low = (a.high - (high - part)) + (moved - part);
  return {count, high, low, __fmaf_rn(delta * delta, a.count * share, a.m2 + b.m2)};
}

// Σ(v − origin) and its squares over a batch's values; of the own ones where not all are.
template <class V, bool kAllOwn>
__device__ __forceinline__ void add_batch(const float (&v)[V::kBatch][V::kWidth], unsigned own,
                                          const float (&origin)[V::kChannels],
                                          float (&sum)[V::kChannels],
                                          float (&square)[V::kChannels]) {
  float total[V::kChannels] = {}, squares[V::kChannels] = {};
#pragma unroll
  for (int u = 0; u < V::kBatch; ++u) {
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      const int c = V::kRows ? j : 0;
      float d = v[u][j] - origin[c];
      if (!kAllOwn && !(own >> (u * V::kWidth + j) & 1u)) d = 0;
      total[c] += d;
      squares[c] = __fmaf_rn(d, d, squares[c]);
    }
  }
#pragma unroll
  for (int c = 0; c < V::kChannels; ++c) {
    sum[c] += total[c];
    square[c] += squares[c];
  }
}

// Takes a strip into the lane's moments. visit(packet, index in the strip) sees each packet.
template <class V, class Visit>
__device__ __forceinline__ void measure(const typename V::Scalar* x, const Strip& s,
                                        Moments (&moments)[V::kChannels], const Visit& visit) {
  constexpr unsigned kAllOwn = ~0u >> (32 - V::kBatch * V::kWidth);
  float origin[V::kChannels], sum[V::kChannels] = {}, square[V::kChannels] = {};
  int taken = 0;  // values, of each channel
  for (int i = 0; i < s.count; i += V::kBatch) {
    typename V::Pack packets[V::kBatch];
    unsigned own = 0;  // a bit for each value
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u) {
      packets[u] = {};
      if (i + u < s.count) {
        const int64_t at = s.first + (i + u) * s.step;
        const Part part = part_of<V>(s, at);
        packets[u] = load<V>(x, s, at);
        own |= ((1u << (part.to - part.from)) - 1u) << part.from << (u * V::kWidth);
      }
    }
    float v[V::kBatch][V::kWidth];
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u) {
      if (i + u < s.count) visit(packets[u], i + u);
      unpack(packets[u], v[u]);
    }
    const int n = V::kRows ? static_cast<int>(smaller(s.count - i, V::kBatch)) : __popc(own);
    if (i == 0) {
      float first[V::kChannels] = {};
#pragma unroll
      for (int u = 0; u < V::kBatch; ++u)
#pragma unroll
        for (int j = 0; j < V::kWidth; ++j) first[V::kRows ? j : 0] += v[u][j];
#pragma unroll
      for (int c = 0; c < V::kChannels; ++c) origin[c] = first[c] / n;
    }
    if (own == kAllOwn) {
      add_batch<V, true>(v, own, origin, sum, square);
    } else {
      add_batch<V, false>(v, own, origin, sum, square);
    }
    taken += n;
  }
  if (taken == 0) return;
#pragma unroll
  for (int c = 0; c < V::kChannels; ++c) {
    const float low = sum[c] / taken;
    const float m2 = __fmaf_rn(-sum[c], low, square[c]);
    const float at_least_zero = m2 < 0 ? 0.0f : m2;  // NaN stays
    moments[c] =
        merged(moments[c], {static_cast<float>(taken), origin[c], low, at_least_zero});
  }
}

// Merges the moments of all threads of a block that have the same channels. Those of the tile's
// channels are left in shared[0 … across·kChannels), number i by the thread of that number (modulo
// the block's size), which alone can read it back at once. `shared` holds as many for each warp.
template <class V>
__device__ __forceinline__ void merge_over_block(const Tiling& t, Moments (&moments)[V::kChannels],
                                                 Moments* shared) {
  const int lane = lane_of_thread(), columns = t.across * V::kChannels;
  for (int distance = t.across; distance < kWarp; distance *= 2) {
#pragma unroll
    for (int c = 0; c < V::kChannels; ++c) {
      const Moments& m = moments[c];
      const Moments other = {__shfl_xor_sync(kAllLanes, m.count, distance),
                             __shfl_xor_sync(kAllLanes, m.high, distance),
                             __shfl_xor_sync(kAllLanes, m.low, distance),
                             __shfl_xor_sync(kAllLanes, m.m2, distance)};
      // The lower lane's first, in both: rounding is not symmetric, and lanes go on with one result.
      moments[c] = lane & distance ? merged(other, m) : merged(m, other);
    }
  }
  if (lane < t.across) {
#pragma unroll
    for (int c = 0; c < V::kChannels; ++c)
      shared[warp_of_thread() * columns + lane * V::kChannels + c] = moments[c];
  }
  __syncthreads();
  for (int column = threadIdx.x; column < columns; column += blockDim.x) {
    Moments all = shared[column];
    for (int warp = 1; warp < warps_of_block(); ++warp)
      all = merged(all, shared[warp * columns + column]);
    shared[column] = all;
  }
}

}  // namespace cxrgan::cuda
