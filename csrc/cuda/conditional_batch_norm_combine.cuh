// Where the parts of a channel come together: statistics from moments, dγ and dβ from the sums of
// samples, and the corrections of dx. Every sum has one order.
#pragma once

#include "conditional_batch_norm_affine.cuh"
#include "moments.cuh"

namespace cxrgan::cuda {

// Σd and Σd·(x−μ) of a sample's units in a round.
struct alignas(8) Sums {
  float d, centered;
};

// Σγ·d and Σγ·d·(x−μ) of a block's units.
struct alignas(16) Weighted {
  double d, centered;
};

// Where part p of channel c is in a table (parts, C) or, for planes, (C, parts).
template <bool kChannelsLast>
__device__ __forceinline__ int64_t place(int64_t p, int64_t c, int64_t parts, int64_t channels) {
  return kChannelsLast ? p * channels + c : c * parts + p;
}

// Threads of a warp that go together over the parts of one channel: a warp's lanes at distance
// kAcross, so that neighbors are neighboring channels where these are neighbors in memory, as
// many as fill a sector of 32 bytes.
template <bool kChannelsLast, class Part>
struct Team {
  static constexpr int kAcross = kChannelsLast ? 32 / sizeof(Part) : 1;
  static constexpr int kSize = kWarp / kAcross;

  static __device__ __forceinline__ int member() { return lane_of_thread() / kAcross; }
  static __device__ __forceinline__ int channel() { return lane_of_thread() % kAcross; }

  static __device__ __forceinline__ double sum(double value) {
    for (int distance = kAcross; distance < kWarp; distance *= 2)
      value += __shfl_xor_sync(kAllLanes, value, distance);
    return value;
  }
};

// --- Statistics -----------------------------------------------------------------------------------

// Where the statistics of channels go; running may have null pointers.
struct Statistics {
  float eps;
  float* mean;
  float* var;   // biased
  float* rstd;
  float* running_mean;
  float* running_var;
  float momentum;
  float unbiased;  // the unbiased variance is so many times the biased one
};

__device__ __forceinline__ void update_running(const Statistics& to, int64_t c, float mean,
                                               float var) {
  to.running_mean[c] += to.momentum * (mean - to.running_mean[c]);
  to.running_var[c] += to.momentum * (var * to.unbiased - to.running_var[c]);
}

__device__ __forceinline__ void store_statistics(const Statistics& to, int64_t c, float mean,
                                                 float var, float rstd) {
  to.mean[c] = mean;
  to.var[c] = var;
  to.rstd[c] = rstd;
  if (to.running_mean != nullptr) update_running(to, c, mean, var);
}

// Mean, variance and r of channels [first, last) of `values` values from `parts` parts each:
// put(channel, mean, variance, r) gets them from get(part, channel). The whole block takes part.
template <bool kChannelsLast, class Get, class Put>
__device__ void combine_moments(int64_t values, int parts, int64_t first, int64_t last,
                                const Statistics& to, const Get& get, const Put& put) {
  using Each = Team<kChannelsLast, Moments>;
  const double count = static_cast<double>(values);
  for (int64_t base = first + warp_of_thread() * Each::kAcross; base < last;
       base += warps_of_block() * Each::kAcross) {
    const int64_t c = base + Each::channel();
    // About the first part's mean: in double nothing is lost that a float could show.
    double origin = 0, total = 0, squares = 0;
    if (c < last) {
      origin = get(0, c).high;
#pragma unroll 4
      for (int p = Each::member(); p < parts; p += Each::kSize) {
        const Moments m = get(p, c);
        // A part without values must not turn an infinite mean into NaN times zero.
        const double apart = m.count == 0 ? 0.0 : m.high - origin + m.low;
        total += m.count * apart;
        squares += m.m2 + m.count * (apart * apart);
      }
    }
    const double shift = Each::sum(total) / count;
    double variance = Each::sum(squares) / count - shift * shift;
    if (variance < 0) variance = 0;  // by rounding; NaN stays
    if (c < last && Each::member() == 0)
      put(c, static_cast<float>(origin + shift), static_cast<float>(variance),
          static_cast<float>(1.0 / sqrt(variance + static_cast<double>(to.eps))));
  }
}

// --- The sums of samples --------------------------------------------------------------------------

// A block's Sums of two rounds, so that one barrier a round is enough: units of a round × columns.
constexpr int kBuffers = 2;

inline __host__ __device__ int64_t round_sums(const Tiling& t, int columns) {
  return static_cast<int64_t>(t.round) * columns;
}

// Leaves the sums of a unit where sum_over_round finds them. All lanes of a warp take part.
template <class V>
__device__ __forceinline__ void leave_sums(const Tiling& t, float (&sums)[2 * V::kChannels],
                                           Sums* of_round) {
  sum_over_group<V>(t, sums);
  const int lane = lane_of_thread() & (t.group - 1), columns = t.across * V::kChannels;
  if (lane >= t.across) return;
  const int unit = threadIdx.x / t.group;
#pragma unroll
  for (int c = 0; c < V::kChannels; ++c)
    of_round[unit * columns + lane * V::kChannels + c] = {sums[c], sums[V::kChannels + c]};
}

// Sums a round's units by sample, into slots (slots, C) or (C, slots); add(column, sample, Σd,
// Σd·(x−μ)) sees each sum too, always those of one column in a thread. The whole block takes part,
// after a barrier behind leave_sums.
template <class V, class Add>
__device__ __forceinline__ void sum_over_round(const Tiling& t, const Share& share, int round,
                                               const Sums* of_round, Sums* slots, const Add& add) {
  const int columns = t.across * V::kChannels;
  const int begin = round * t.round, end = static_cast<int>(smaller(begin + t.round, t.units));
  const int first = begin / t.pieces, last = (end - 1) / t.pieces;
  const int column = threadIdx.x % columns, stride = blockDim.x / columns;
  const int64_t c = share.tile * columns + column;
  const int row = threadIdx.x / columns;
  if (row >= stride || c >= t.channels) return;
  for (int n = first + row; n <= last; n += stride) {
    const int from = static_cast<int>(larger(static_cast<int64_t>(n) * t.pieces, begin));
    const int to = static_cast<int>(smaller(static_cast<int64_t>(n + 1) * t.pieces, end));
    double d = 0, centered = 0;
    for (int unit = from; unit < to; ++unit) {
      const Sums part = of_round[(unit - begin) * columns + column];
      d += part.d;
      centered += part.centered;
    }
    slots[place<V::kChannelsLast>(round + n, c, t.slots(), t.channels)] = {static_cast<float>(d),
                                                                   static_cast<float>(centered)};
    add(column, n, d, centered);
  }
}

// The sum over a block's threads of what those of a column have, left in sums[column]; scratch holds
// kWarp for each warp. Thread i has what is of column i % columns. Ends with a barrier.
__device__ __forceinline__ void sum_over_columns(int columns, Weighted own, Weighted* scratch,
                                                 Weighted* sums) {
  for (int distance = columns; distance < kWarp; distance *= 2) {
    own.d += __shfl_xor_sync(kAllLanes, own.d, distance);
    own.centered += __shfl_xor_sync(kAllLanes, own.centered, distance);
  }
  scratch[threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.x < columns) {
    // Of each warp one thread has all that the warp has of a column, if it has the column at all.
    Weighted all = {};
    for (int i = threadIdx.x; i < blockDim.x; i += columns < kWarp ? kWarp : columns) {
      all.d += scratch[i].d;
      all.centered += scratch[i].centered;
    }
    sums[threadIdx.x] = all;
  }
  __syncthreads();
}

// dβ and dγ of channels [first, last), written, from the slots of their samples: this block's share
// of the pairs of a class and a group of channels. rstd: of channel `first` on. scratch holds kWarp
// for each warp. The whole block takes part.
template <bool kChannelsLast>
__device__ void combine_gradients(const Norm& op, const Sums* slots, int64_t first, int64_t last,
                                  int chunk, int chunks, const float* rstd, float* dweight,
                                  float* dbias, Weighted* scratch) {
  using Each = Team<kChannelsLast, Sums>;
  const Tiling& t = op.tiling;
  const int64_t groups = (last - first + Each::kAcross - 1) / Each::kAcross;  // of channels
  const int64_t pairs = op.classes * groups;
  if (chunk >= pairs) return;
  const int64_t own = (pairs - 1 - chunk) / chunks + 1;
  // Where they are few, several warps share a pair.
  int sharing = 1;
  while (sharing * 2 * own <= warps_of_block()) sharing *= 2;
  const int part = warp_of_thread() % sharing, side_by_side = warps_of_block() / sharing;
  for (int64_t done = 0; done < own; done += side_by_side) {
    const int64_t index = done + warp_of_thread() / sharing;
    const int64_t pair = chunk + index * chunks;
    const bool takes_part = warp_of_thread() / sharing < side_by_side && index < own;
    const int64_t k = pair / groups, c = first + pair % groups * Each::kAcross + Each::channel();
    double d = 0, centered = 0;
    if (takes_part && c < last) {
      for (int64_t n = part * Each::kSize + Each::member(); n < t.samples;
           n += sharing * Each::kSize) {
        if (op.labels[n] != k) continue;
        const int64_t to = ((n + 1) * t.pieces - 1) / t.round + n;
#pragma unroll 4
        for (int64_t slot = n * t.pieces / t.round + n; slot <= to; ++slot) {
          const Sums sums = slots[place<kChannelsLast>(slot, c, t.slots(), t.channels)];
          d += sums.d;
          centered += sums.centered;
        }
      }
    }
    d = Each::sum(d);
    centered = Each::sum(centered);
    if (sharing > 1) {  // then all pairs are gone over in one turn
      scratch[threadIdx.x] = {d, centered};
      __syncthreads();
    }
    if (!takes_part || part != 0 || c >= last || Each::member() != 0) continue;
    for (int i = 1; i < sharing; ++i) {
      d += scratch[threadIdx.x + i * kWarp].d;
      centered += scratch[threadIdx.x + i * kWarp].centered;
    }
    dbias[k * t.channels + c] = static_cast<float>(d);
    // 0 for a class without samples, though r be NaN.
    dweight[k * t.channels + c] =
        centered == 0 ? 0.0f : static_cast<float>(centered * rstd[c - first]);
  }
}

// The corrections of channels [first, last) from dγ and dβ over `count` values a channel; none for
// constant statistics (count 0). The whole block takes part.
template <bool kChannelsLast>
__device__ void correct(const Norm& op, int64_t first, int64_t last, const float* rstd,
                        const float* dweight, const float* dbias, int64_t count,
                        Correction* corrections) {
  using Each = Team<kChannelsLast, Sums>;
  const int64_t channels = op.tiling.channels;
  for (int64_t base = first + warp_of_thread() * Each::kAcross; base < last;
       base += warps_of_block() * Each::kAcross) {
    const int64_t c = base + Each::channel();
    double a = 0, b = 0;
    if (c < last && count != 0) {
      for (int64_t k = Each::member(); k < op.classes; k += Each::kSize) {
        // What no sample used has no part in it, though its γ be infinite.
        const double gamma = op.weight[k * channels + c];
        const double of_bias = dbias[k * channels + c], of_weight = dweight[k * channels + c];
        if (of_bias != 0) a += gamma * of_bias;
        if (of_weight != 0) b += gamma * of_weight;
      }
    }
    a = Each::sum(a);
    b = Each::sum(b);
    if (c < last && Each::member() == 0) corrections[c] = correction_of(a, b, rstd[c], count);
  }
}

}  // namespace cxrgan::cuda
