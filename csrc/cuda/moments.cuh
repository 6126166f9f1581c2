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

// The moments of a and b together, of neither without values: `count` values, b's share of them.
__device__ __forceinline__ Moments merged_by(const Moments& a, const Moments& b, float count,
                                             float share) {
  const float delta = (b.high - a.high) + (b.low - a.low);
  // high + low = a.high + moved without a rounding error (Knuth's two-sum).
  const float moved = __fmaf_rn(delta, share, a.low);
  const float high = a.high + moved;
  const float part = high - a.high;
  const float low = (a.high - (high - part)) + (moved - part);
  return {count, high, low, __fmaf_rn(delta * delta, a.count * share, a.m2 + b.m2)};
}

__device__ __forceinline__ Moments merged(const Moments& a, const Moments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  const float count = a.count + b.count;
  return merged_by(a, b, count, b.count / count);
}

// Σ(v − origin) and its squares over a batch's values; of the own ones where not all are. A channel
// after the other: registers are few.
template <class V, bool kAllOwn>
__device__ __forceinline__ void add_batch(const float (&v)[V::kBatch][V::kWidth], unsigned own,
                                          const float (&origin)[V::kChannels],
                                          float (&sum)[V::kChannels],
                                          float (&square)[V::kChannels]) {
#pragma unroll
  for (int c = 0; c < V::kChannels; ++c) {
    float total = 0, squares = 0;
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u) {
#pragma unroll
      for (int j = V::kChannelsLast ? c : 0; j < (V::kChannelsLast ? c + 1 : V::kWidth); ++j) {
        float d = v[u][j] - origin[c];
        if (!kAllOwn && !(own >> (u * V::kWidth + j) & 1u)) d = 0;
        total += d;
        squares = __fmaf_rn(d, d, squares);
      }
    }
    sum[c] += total;
    square[c] += squares;
  }
}

// What a lane has measured; channels_last images have as many values in every channel.
template <class V>
struct LaneMoments {
  float count = 0;
  float high[V::kChannels] = {}, low[V::kChannels] = {}, m2[V::kChannels] = {};

  __device__ __forceinline__ Moments of(int c) const { return {count, high[c], low[c], m2[c]}; }

  // Takes `taken` values in, whose channel c is given by part(c); in channels_last with one division for
  // all.
  template <class Part>
  __device__ __forceinline__ void merge(float taken, const Part& part) {
    const float before = count;
    count += taken;
    const float share = taken / count;
#pragma unroll
    for (int c = 0; c < V::kChannels; ++c) {
      const Moments b = part(c);
      const Moments all =
          before == 0 ? b : merged_by({before, high[c], low[c], m2[c]}, b, count, share);
      high[c] = all.high;
      low[c] = all.low;
      m2[c] = all.m2;
    }
  }
};

// Divides all channels of a lane by one number: in channels_last, where they are many, by its reciprocal.
template <class V>
class Divisor {
 public:
  __device__ explicit Divisor(int n)
      : by_(V::kChannelsLast ? 1.0f / static_cast<float>(n) : static_cast<float>(n)) {}

  __device__ __forceinline__ float operator()(float value) const {
    return V::kChannelsLast ? value * by_ : value / by_;
  }

 private:
  const float by_;
};

// Takes a strip into the lane's moments. visit(packet, index in the strip) sees each packet.
template <class V, class Visit>
__device__ __forceinline__ void measure(const typename V::Scalar* x, const Strip& s,
                                        LaneMoments<V>& moments, const Visit& visit) {
  constexpr int kBits = V::kBatch * V::kWidth;  // of `own` for a batch
  constexpr unsigned kAllOwn = ~0u >> (32 - kBits);
  float origin[V::kChannels], sum[V::kChannels] = {}, square[V::kChannels] = {};
  int taken = 0;  // values, of each channel
  for (int i = 0; i < s.count; i += V::kFlight) {
    typename V::Pack packets[V::kFlight];
    unsigned own = 0;  // a bit for each value
#pragma unroll
    for (int u = 0; u < V::kFlight; ++u) {
      packets[u] = {};
      if (i + u < s.count) {
        const int64_t at = s.first + (i + u) * s.step;
        const Part part = part_of<V>(s, at);
        packets[u] = load<V>(x, s, at);
        own |= ((1u << (part.to - part.from)) - 1u) << part.from << (u * V::kWidth);
      }
    }
#pragma unroll
    for (int b = 0; b < V::kFlight; b += V::kBatch) {
      if (i + b >= s.count) break;
      float v[V::kBatch][V::kWidth];
#pragma unroll
      for (int u = 0; u < V::kBatch; ++u) {
        if (i + b + u < s.count) visit(packets[b + u], i + b + u);
        unpack(packets[b + u], v[u]);
      }
      const unsigned of_batch = own >> (b * V::kWidth) & kAllOwn;
      const int n =
          V::kChannelsLast ? static_cast<int>(smaller(s.count - i - b, V::kBatch)) : __popc(of_batch);
      if (i + b == 0) {
        float first[V::kChannels] = {};
#pragma unroll
        for (int u = 0; u < V::kBatch; ++u)
#pragma unroll
          for (int j = 0; j < V::kWidth; ++j) first[V::kChannelsLast ? j : 0] += v[u][j];
        const Divisor<V> by(n);
#pragma unroll
        for (int c = 0; c < V::kChannels; ++c) origin[c] = by(first[c]);
      }
      if (of_batch == kAllOwn) {
        add_batch<V, true>(v, of_batch, origin, sum, square);
      } else {
        add_batch<V, false>(v, of_batch, origin, sum, square);
      }
      taken += n;
    }
  }
  if (taken == 0) return;
  const float count = static_cast<float>(taken);
  const Divisor<V> by(taken);
  moments.merge(count, [&](int c) -> Moments {
    const float low = by(sum[c]);
    const float m2 = __fmaf_rn(-sum[c], low, square[c]);
    return {count, origin[c], low, m2 < 0 ? 0.0f : m2};  // NaN stays
  });
}

// Merges the moments of all threads of a block that have the same channels. Those of the tile's
// channels are left in shared[0 … across·kChannels), number i by the thread of that number (modulo
// the block's size), which alone can read it back at once. `shared` holds as many for each warp.
template <class V>
__device__ __forceinline__ void merge_over_block(const Tiling& t, LaneMoments<V>& moments,
                                                 Moments* shared) {
  const int lane = lane_of_thread(), columns = t.across * V::kChannels;
  for (int distance = t.across; distance < kWarp; distance *= 2) {
    const float count = __shfl_xor_sync(kAllLanes, moments.count, distance);
    // The lower lane's first, in both: rounding is not symmetric, and lanes go on with one result.
    const bool lower = !(lane & distance);
    const float all = moments.count + count;
    const float later = lower ? count : moments.count;
    const float share = all == 0 ? 0.0f : later / all;
#pragma unroll
    for (int c = 0; c < V::kChannels; ++c) {
      const Moments own = moments.of(c);
      const Moments other = {count, __shfl_xor_sync(kAllLanes, own.high, distance),
                             __shfl_xor_sync(kAllLanes, own.low, distance),
                             __shfl_xor_sync(kAllLanes, own.m2, distance)};
      const Moments a = lower ? own : other, b = lower ? other : own;
      const Moments both = a.count == 0 ? b : b.count == 0 ? a : merged_by(a, b, all, share);
      moments.high[c] = both.high;
      moments.low[c] = both.low;
      moments.m2[c] = both.m2;
    }
    moments.count = all;
  }
  if (lane < t.across) {
#pragma unroll
    for (int c = 0; c < V::kChannels; ++c)
      shared[warp_of_thread() * columns + lane * V::kChannels + c] = moments.of(c);
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
