// The steps of conditional batch norm on a GPU, as a block takes them. The two-pass kernels make a
// launch of each, the single-read ones do them in one (conditional_batch_norm_kernels.cuh).
#pragma once

#include "moments.cuh"

namespace cxrgan::cuda {

// What every step knows; see cxrgan/conditional_batch_norm.h.
struct Norm {
  Tiling tiling;
  int64_t classes;
  const int64_t* labels;  // (N,)
  const float* weight;    // (K, C)
  const float* bias;      // (K, C)
  float slope;
};

// Σd and Σd·(x−μ) of a unit or a sample.
struct alignas(8) Sums {
  float d, centred;
};

// Of statistics over `count` values: dx = γr·d + (offset + (x−μ)·factor), offset = −r·A,
// factor = −r²·B; the same spelling as csrc/cpu/conditional_batch_norm_element.h.
struct alignas(8) Correction {
  float offset, factor;
};

// Threads of a warp that go together over the parts of one channel: a warp's lanes at distance
// kAcross, so that neighbours are neighbouring channels where these are neighbours in memory, as
// many as fill a sector of 32 bytes.
template <bool kRows, class Part>
struct Team {
  static constexpr int kAcross = kRows ? 32 / sizeof(Part) : 1;
  static constexpr int kSize = kWarp / kAcross;

  static __device__ __forceinline__ int member() { return lane_of_thread() / kAcross; }
  static __device__ __forceinline__ int channel() { return lane_of_thread() % kAcross; }

  static __device__ __forceinline__ double sum(double value) {
    for (int distance = kAcross; distance < kWarp; distance *= 2)
      value += __shfl_xor_sync(kAllLanes, value, distance);
    return value;
  }
};

// Where part p of channel c is in a table (parts, C) or, for planes, (C, parts).
template <bool kRows>
__device__ __forceinline__ int64_t place(int64_t p, int64_t c, int64_t parts, int64_t channels) {
  return kRows ? p * channels + c : c * parts + p;
}

// Mean, variance and r of channels [first, last) from `parts` parts each; the whole block takes part.
template <bool kRows>
__device__ void combine_moments(const Tiling& t, const Moments* table, int parts, int64_t first,
                                int64_t last, float eps, float* mean, float* var, float* rstd) {
  using Each = Team<kRows, Moments>;
  const double count = static_cast<double>(t.values_per_channel());
  for (int64_t base = first + warp_of_thread() * Each::kAcross; base < last;
       base += warps_of_block() * Each::kAcross) {
    const int64_t c = base + Each::channel();
    // About the first part's mean: in double nothing is lost that a float could show.
    double origin = 0, total = 0, squares = 0;
    if (c < last) {
      origin = table[place<kRows>(0, c, parts, t.channels)].high;
#pragma unroll 4
      for (int p = Each::member(); p < parts; p += Each::kSize) {
        const Moments m = table[place<kRows>(p, c, parts, t.channels)];
        // A part without values must not turn an infinite mean into NaN times zero.
        const double apart = m.count == 0 ? 0.0 : m.high - origin + m.low;
        total += m.count * apart;
        squares += m.m2 + m.count * (apart * apart);
      }
    }
    const double shift = Each::sum(total) / count;
    double variance = Each::sum(squares) / count - shift * shift;
    if (variance < 0) variance = 0;  // by rounding; NaN stays
    if (c < last && Each::member() == 0) {
      mean[c] = static_cast<float>(origin + shift);
      var[c] = static_cast<float>(variance);
      rstd[c] = static_cast<float>(1.0 / sqrt(variance + static_cast<double>(eps)));
    }
  }
}

// Sums over a class's samples give dβ and dγ of channels [first, last), written; `samples` is
// scratch of the size of (N, C). The whole block takes part.
template <bool kRows>
__device__ void combine_gradients(const Norm& op, const Sums* units, Sums* samples, int64_t first,
                                  int64_t last, const float* rstd, float* dweight, float* dbias) {
  using Each = Team<kRows, Sums>;
  const Tiling& t = op.tiling;
  const int64_t groups = (last - first + Each::kAcross - 1) / Each::kAcross;  // of channels
  const Sums* of_samples = units;
  if (t.pieces > 1) {
    // A team to each pair of a sample and a channel.
    for (int64_t i = warp_of_thread(); i < t.samples * groups; i += warps_of_block()) {
      const int64_t n = i / groups, c = first + i % groups * Each::kAcross + Each::channel();
      double d = 0, centred = 0;
      if (c < last) {
#pragma unroll 4
        for (int p = Each::member(); p < t.pieces; p += Each::kSize) {
          const Sums part = units[place<kRows>(n * t.pieces + p, c, t.units, t.channels)];
          d += part.d;
          centred += part.centred;
        }
      }
      d = Each::sum(d);
      centred = Each::sum(centred);
      if (c < last && Each::member() == 0)
        samples[place<kRows>(n, c, t.samples, t.channels)] = {static_cast<float>(d),
                                                              static_cast<float>(centred)};
    }
    of_samples = samples;
    __syncthreads();
  }
  // A team to each pair of a class and a channel.
  for (int64_t i = warp_of_thread(); i < op.classes * groups; i += warps_of_block()) {
    const int64_t k = i / groups, c = first + i % groups * Each::kAcross + Each::channel();
    double d = 0, centred = 0;
    if (c < last) {
      for (int64_t n = Each::member(); n < t.samples; n += Each::kSize) {
        if (op.labels[n] != k) continue;
        const Sums part = of_samples[place<kRows>(n, c, t.samples, t.channels)];
        d += part.d;
        centred += part.centred;
      }
    }
    d = Each::sum(d);
    centred = Each::sum(centred);
    if (c < last && Each::member() == 0) {
      dbias[k * t.channels + c] = static_cast<float>(d);
      // 0 for a class without samples, though r be NaN.
      dweight[k * t.channels + c] = centred == 0 ? 0.0f : static_cast<float>(centred * rstd[c]);
    }
  }
  __syncthreads();
}

// The corrections of channels [first, last) from dγ and dβ over `count` values a channel; none for
// constant statistics (count 0). The whole block takes part.
template <bool kRows>
__device__ void correct(const Norm& op, int64_t first, int64_t last, const float* rstd,
                        const float* dweight, const float* dbias, int64_t count,
                        Correction* corrections) {
  using Each = Team<kRows, Sums>;
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
    if (c < last && Each::member() == 0) {
      const double r = rstd[c];
      corrections[c] = {0, 0};
      if (count != 0)
        corrections[c] = {static_cast<float>(-r * a / count), static_cast<float>(-r * r * b / count)};
    }
  }
}

// What normalises a packet: of its channels, and of a sample's class. Every step spells z the same
// way, so that forward and backward agree on its sign to the bit.
template <class V>
struct Affine {
  static constexpr int kChannels = V::kChannels;
  float mean[kChannels], rstd[kChannels], scale[kChannels], shift[kChannels];
  float slope;

  __device__ __forceinline__ void set_channels(const Tiling& t, int64_t tile, const float* means,
                                               const float* rstds) {
    const int64_t channel = channel_of<V>(t, tile);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      mean[c] = rstd[c] = 0;
      if (channel + c < t.channels) {
        mean[c] = means[channel + c];
        rstd[c] = rstds[channel + c];
      }
    }
  }

  // A label out of range makes its sample NaN.
  __device__ __forceinline__ void set_sample(const Norm& op, const Strip& s) {
    slope = op.slope;
    if (s.count == 0) return;
    const int64_t label = op.labels[s.sample];
    const bool valid = label >= 0 && label < op.classes;
    const int64_t row = (valid ? label : 0) * op.tiling.channels + s.channel;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      scale[c] = shift[c] = __int_as_float(0x7fffffff);
      if (valid) {
        scale[c] = op.weight[row + c] * rstd[c];
        shift[c] = op.bias[row + c];
      }
    }
  }

  static __device__ __forceinline__ int of(int i) { return V::kRows ? i : 0; }

  __device__ __forceinline__ float centred(float x, int i) const { return x - mean[of(i)]; }

  __device__ __forceinline__ float z(float centred, int i) const {
    return __fmaf_rn(centred, scale[of(i)], shift[of(i)]);
  }

  __device__ __forceinline__ float activated(float x, int i) const {
    const float pre = z(centred(x, i), i);
    return pre > 0 ? pre : pre * slope;
  }

  // d = dy·(1 if z > 0 else slope)
  __device__ __forceinline__ float gradient(float dy, float centred, int i) const {
    return z(centred, i) > 0 ? dy : dy * slope;
  }
};

template <class V>
__device__ __forceinline__ typename V::Pack activate(const Affine<V>& a,
                                                     const typename V::Pack& packet) {
  float x[V::kWidth];
  unpack(packet, x);
#pragma unroll
  for (int i = 0; i < V::kWidth; ++i) x[i] = a.activated(x[i], i);
  return pack<typename V::Scalar, V::kWidth>(x);
}

// y of a strip from get(index in the strip), its packets of x.
template <class V, class Get>
__device__ __forceinline__ void write_activated(const Affine<V>& a, const Strip& s, const Get& get,
                                                typename V::Scalar* y) {
  for (int i = 0; i < s.count; i += V::kBatch) {
    typename V::Pack packets[V::kBatch];
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u)
      if (i + u < s.count) packets[u] = get(i + u);
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u)
      if (i + u < s.count) store<V>(y, s, s.first + (i + u) * s.step, activate(a, packets[u]));
  }
}

// Σd and Σd·(x−μ) of a strip, into table (units, C) or (C, units); visit(packet of dy, packet of x,
// index) sees each. All lanes of a warp take part.
template <class V, class Visit>
__device__ __forceinline__ void reduce_unit(const Tiling& t, const Affine<V>& a, const Strip& s,
                                            int unit, const typename V::Scalar* dy,
                                            const typename V::Scalar* x, Sums* table,
                                            const Visit& visit) {
  constexpr int kChannels = V::kChannels;
  float sums[2 * kChannels] = {};  // Σd, then Σd·(x−μ)
  for (int i = 0; i < s.count; i += V::kBatch) {
    typename V::Pack gradients[V::kBatch], packets[V::kBatch];
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u) {
      gradients[u] = packets[u] = {};
      if (i + u < s.count) {
        const int64_t at = s.first + (i + u) * s.step;
        gradients[u] = load<V>(dy, s, at);
        packets[u] = load<V>(x, s, at);
      }
    }
    float batch[2 * kChannels] = {};
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u) {
      if (i + u >= s.count) continue;
      visit(gradients[u], packets[u], i + u);
      float g[V::kWidth], v[V::kWidth];
      unpack(gradients[u], g);
      unpack(packets[u], v);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        const int c = V::kRows ? j : 0;
        const float centred = a.centred(v[j], j);
        const float d = a.gradient(g[j], centred, j);  // 0 where the packet is not the unit's own
        batch[c] += d;
        batch[kChannels + c] = __fmaf_rn(d, centred, batch[kChannels + c]);
      }
    }
#pragma unroll
    for (int c = 0; c < 2 * kChannels; ++c) sums[c] += batch[c];
  }
  sum_over_group<V>(t, sums);
  if (s.count == 0 || (lane_of_thread() & (t.group - 1)) >= t.across) return;
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
    table[place<V::kRows>(unit, s.channel + c, t.units, t.channels)] = {sums[c],
                                                                        sums[kChannels + c]};
}

// dx of a strip from get_dy(index) and get_x(index).
template <class V, class GetDy, class GetX>
__device__ __forceinline__ void write_gradient(const Affine<V>& a,
                                               const Correction (&corrections)[V::kChannels],
                                               const Strip& s, const GetDy& get_dy,
                                               const GetX& get_x, typename V::Scalar* dx) {
  for (int i = 0; i < s.count; i += V::kBatch) {
    typename V::Pack gradients[V::kBatch], packets[V::kBatch];
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u) {
      if (i + u < s.count) {
        gradients[u] = get_dy(i + u);
        packets[u] = get_x(i + u);
      }
    }
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u) {
      if (i + u >= s.count) continue;
      float g[V::kWidth], v[V::kWidth];
      unpack(gradients[u], g);
      unpack(packets[u], v);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        const Correction& correction = corrections[V::kRows ? j : 0];
        const float centred = a.centred(v[j], j);
        const float scaled = a.gradient(g[j], centred, j) * a.scale[V::kRows ? j : 0];
        // Constant statistics have no correction, for an infinite or NaN x either.
        g[j] = correction.factor == 0
                   ? scaled + correction.offset
                   : scaled + __fmaf_rn(centred, correction.factor, correction.offset);
      }
      store<V>(dx, s, s.first + (i + u) * s.step, pack<typename V::Scalar, V::kWidth>(g));
    }
  }
}

template <class V>
__device__ __forceinline__ void load_corrections(const Tiling& t, int64_t tile,
                                                 const Correction* from,
                                                 Correction (&to)[V::kChannels]) {
  const int64_t channel = channel_of<V>(t, tile);
#pragma unroll
  for (int c = 0; c < V::kChannels; ++c) {
    to[c] = {0, 0};
    if (channel + c < t.channels) to[c] = from[channel + c];
  }
}

}  // namespace cxrgan::cuda
