// What normalizes, activates and differentiates the packets of conditional batch norm, a strip at a
// time.
#pragma once

#include "strips.cuh"

namespace cxrgan::cuda {

// What every step knows; see cxrgan/conditional_batch_norm.h.
struct Norm {
  Tiling tiling;
  int64_t classes;
  const int64_t* labels;  // (N,)
  const float* weight;    // (K, C)
  const float* bias;      // (K, C)
  float slope;
  bool aligned;  // whether every row of weight and bias, and mean and rstd, begin at 16 bytes
};

// Of statistics over `count` values: dx = γr·d + (offset + (x−μ)·factor), offset = −r·A,
// factor = −r²·B; the same spelling as csrc/cpu/conditional_batch_norm_element.h.
struct alignas(8) Correction {
  float offset, factor;
};

// Of channels' sums a = Σγ·dβ and b = Σγ·dγ; none for constant statistics (count 0).
__device__ __forceinline__ Correction correction_of(double a, double b, double r, int64_t count) {
  if (count == 0) return {0, 0};
  return {static_cast<float>(-r * a / count), static_cast<float>(-r * r * b / count)};
}

// Neighboring floats, sixteen bytes at a time where they are aligned.
template <int kCount>
__device__ __forceinline__ void load_floats(const float* from, bool aligned, float (&to)[kCount]) {
  if constexpr (kCount % 4 == 0) {
    if (aligned) {
#pragma unroll
      for (int i = 0; i < kCount; i += 4) {
        const float4 four = *reinterpret_cast<const float4*>(from + i);
        to[i] = four.x;
        to[i + 1] = four.y;
        to[i + 2] = four.z;
        to[i + 3] = four.w;
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = from[i];
}

// What normalizes a packet: of its channels, and of a sample's class. Every step spells z the same
// way, so that forward and backward agree on its sign to the bit.
template <class V>
struct Affine {
  static constexpr int kChannels = V::kChannels;
  float mean[kChannels], scale[kChannels], shift[kChannels];
  float slope;
  const float* rstd;  // of the lane's channels: read for each sample, as registers are few
  bool aligned;       // whether mean and rstd were

  // means, rstds: of the lane's first channel on. A lane without channels has zeros, and no strips.
  __device__ __forceinline__ void set_channels(bool has_channels, bool aligned_, const float* means,
                                               const float* rstds) {
    rstd = rstds;
    aligned = aligned_;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) mean[c] = 0;
    if (has_channels) load_floats(means, aligned, mean);
  }

  // A label out of range makes its sample NaN.
  __device__ __forceinline__ void set_sample(const Norm& op, const Strip& s) {
    slope = op.slope;
    if (s.count == 0) return;
    const int64_t label = op.labels[s.sample];
    const bool valid = label >= 0 && label < op.classes;
    if (!valid) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c) scale[c] = shift[c] = __int_as_float(0x7fffffff);
      return;
    }
    const int64_t row = label * op.tiling.channels + s.channel;
    load_floats(op.weight + row, op.aligned, scale);
    load_floats(op.bias + row, op.aligned, shift);
    float r[kChannels];
    load_floats(rstd, aligned, r);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) scale[c] *= r[c];
  }

  static __device__ __forceinline__ int of(int i) { return V::kChannelsLast ? i : 0; }

  __device__ __forceinline__ float centered(float x, int i) const { return x - mean[of(i)]; }

  __device__ __forceinline__ float z(float centered, int i) const {
    return __fmaf_rn(centered, scale[of(i)], shift[of(i)]);
  }

  __device__ __forceinline__ float activated(float x, int i) const {
    const float pre = z(centered(x, i), i);
    return pre > 0 ? pre : pre * slope;
  }

  // d = dy·(1 if z > 0 else slope)
  __device__ __forceinline__ float gradient(float dy, float centered, int i) const {
    return z(centered, i) > 0 ? dy : dy * slope;
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

// Packets of a strip from its packet i on, as many as there are.
template <class V, int kCount>
__device__ __forceinline__ void load_packets(const typename V::Scalar* x, const Strip& s, int i,
                                             typename V::Pack (&packets)[kCount]) {
#pragma unroll
  for (int u = 0; u < kCount; ++u)
    if (i + u < s.count) packets[u] = load<V>(x, s, s.first + (i + u) * s.step);
}

// y of a strip; fetch(index in the strip, packets) gives its packets of x from there on. The parameters
// of its sample are looked for when its first packets are on their way: they wait for its label.
template <class V, class Fetch>
__device__ __forceinline__ void write_activated(const Norm& op, Affine<V>& a, const Strip& s,
                                                const Fetch& fetch, typename V::Scalar* y) {
  for (int i = 0; i < s.count; i += V::kFlight) {
    typename V::Pack packets[V::kFlight];
    fetch(i, packets);
    if (i == 0) a.set_sample(op, s);
#pragma unroll
    for (int u = 0; u < V::kFlight; ++u)
      if (i + u < s.count) store<V>(y, s, s.first + (i + u) * s.step, activate(a, packets[u]));
  }
}

// Σd and Σd·(x−μ) of a strip into sums; visit(packet of dy, packet of x, index) sees each. Parameters
// come as in write_activated.
template <class V, class Visit>
__device__ __forceinline__ void reduce_strip(const Norm& op, Affine<V>& a, const Strip& s,
                                             const typename V::Scalar* dy,
                                             const typename V::Scalar* x,
                                             float (&sums)[2 * V::kChannels], const Visit& visit) {
  constexpr int kChannels = V::kChannels;
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
    if (i == 0) a.set_sample(op, s);
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u)
      if (i + u < s.count) visit(gradients[u], packets[u], i + u);
    // A channel after the other: registers are few. Zeros stand for what is past the strip's end.
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      float total = 0, products = 0;
#pragma unroll
      for (int u = 0; u < V::kBatch; ++u) {
#pragma unroll
        for (int j = V::kChannelsLast ? c : 0; j < (V::kChannelsLast ? c + 1 : V::kWidth); ++j) {
          const float centered = a.centered(value_of(packets[u], j), j);
          // 0 where the packet is not the unit's own
          const float d = a.gradient(value_of(gradients[u], j), centered, j);
          total += d;
          products = __fmaf_rn(d, centered, products);
        }
      }
      sums[c] += total;
      sums[kChannels + c] += products;
    }
  }
}

// The corrections of a lane's channels, from those of its first one on; none without channels.
template <class V>
__device__ __forceinline__ void load_corrections(bool has_channels, const Correction* from,
                                                 Correction (&to)[V::kChannels]) {
#pragma unroll
  for (int c = 0; c < V::kChannels; ++c) {
    to[c] = {0, 0};
    if (has_channels) to[c] = from[c];
  }
}

// dx of a strip; fetch(index in the strip, packets of dy, packets of x) gives those from there on.
// Parameters come as in write_activated.
template <class V, class Fetch>
__device__ __forceinline__ void write_gradient(const Norm& op, Affine<V>& a,
                                               const Correction (&corrections)[V::kChannels],
                                               const Strip& s, const Fetch& fetch,
                                               typename V::Scalar* dx) {
  for (int i = 0; i < s.count; i += V::kBatch) {
    typename V::Pack gradients[V::kBatch], packets[V::kBatch];
    fetch(i, gradients, packets);
    if (i == 0) a.set_sample(op, s);
#pragma unroll
    for (int u = 0; u < V::kBatch; ++u) {
      if (i + u >= s.count) continue;
      float g[V::kWidth], v[V::kWidth];
      unpack(gradients[u], g);
      unpack(packets[u], v);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        const Correction& correction = corrections[V::kChannelsLast ? j : 0];
        const float centered = a.centered(v[j], j);
        const float scaled = a.gradient(g[j], centered, j) * a.scale[V::kChannelsLast ? j : 0];
        // Constant statistics have no correction, for an infinite or NaN x either.
        g[j] = correction.factor == 0
                   ? scaled + correction.offset
                   : scaled + __fmaf_rn(centered, correction.factor, correction.offset);
      }
      store<V>(dx, s, s.first + (i + u) * s.step, pack<typename V::Scalar, V::kWidth>(g));
    }
  }
}

}  // namespace cxrgan::cuda
