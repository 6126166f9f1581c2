// The kernels of conditional batch norm, made of conditional_batch_norm_steps.cuh.
//
//   two-pass      forward: moments, combine_moments, apply
//                 backward: reduce, combine_gradients, propagate
//   single-read   one launch each: a block, or a cluster of them, keeps a tile of all samples in
//                 shared memory between the steps
//
// No kernel waits for another block of its grid but those of its own cluster, and every sum has one
// order, so that results are the same bits from run to run.
#pragma once

#include "cluster.cuh"
#include "conditional_batch_norm_steps.cuh"

namespace cxrgan::cuda {

constexpr int kPassThreads = 256;    // of a two-pass kernel
constexpr int kSingleThreads = 512;  // of a single-read or combining kernel, at most

template <class V>
__global__ void __launch_bounds__(kPassThreads, 2)
    moments_kernel(Tiling t, const typename V::Scalar* x, Moments* table) {
  Moments* const shared = reinterpret_cast<Moments*>(dynamic_shared());
  const Share share = share_of_block(t, Order::kForwards);
  Moments moments[V::kChannels] = {};
  for_units<V>(t, share, Order::kForwards, [&](const Strip& s, int) {
    measure<V>(x, s, moments, [](const typename V::Pack&, int) {});
  });
  merge_over_block<V>(t, moments, shared);
  const int columns = t.across * V::kChannels;
  for (int64_t i = threadIdx.x; i < columns; i += blockDim.x) {
    const int64_t c = share.tile * columns + i;
    if (c < t.channels) table[place<V::kRows>(share.chunk, c, share.chunks, t.channels)] = shared[i];
  }
}

template <bool kRows>
__global__ void __launch_bounds__(kSingleThreads, 1)
    combine_moments_kernel(Tiling t, int64_t channels_a_block, const Moments* table, float eps,
                           float* mean, float* var, float* rstd) {
  const int64_t first = blockIdx.x * channels_a_block;
  combine_moments<kRows>(t, table, t.chunks, first, smaller(first + channels_a_block, t.channels),
                         eps, mean, var, rstd);
}

template <class V>
__global__ void __launch_bounds__(kPassThreads, 2)
    apply_kernel(Norm op, const typename V::Scalar* x, const float* mean, const float* rstd,
                 typename V::Scalar* y) {
  const Share share = share_of_block(op.tiling, Order::kBackwards);
  Affine<V> a;
  a.set_channels(op.tiling, share.tile, mean, rstd);
  for_units<V>(op.tiling, share, Order::kBackwards, [&](const Strip& s, int) {
    a.set_sample(op, s);
    write_activated<V>(a, s, [&](int i) { return load<V>(x, s, s.first + i * s.step); }, y);
  });
}

template <class V>
__global__ void __launch_bounds__(kPassThreads, 2)
    reduce_kernel(Norm op, const typename V::Scalar* dy, const typename V::Scalar* x,
                  const float* mean, const float* rstd, Sums* table) {
  const Share share = share_of_block(op.tiling, Order::kForwards);
  Affine<V> a;
  a.set_channels(op.tiling, share.tile, mean, rstd);
  for_units<V>(op.tiling, share, Order::kForwards, [&](const Strip& s, int unit) {
    a.set_sample(op, s);
    reduce_unit<V>(op.tiling, a, s, unit, dy, x, table,
                   [](const typename V::Pack&, const typename V::Pack&, int) {});
  });
}

template <bool kRows>
__global__ void __launch_bounds__(kSingleThreads, 1)
    combine_gradients_kernel(Norm op, int64_t channels_a_block, const Sums* units, Sums* samples,
                             const float* rstd, int64_t count, float* dweight, float* dbias,
                             Correction* corrections) {
  const int64_t first = blockIdx.x * channels_a_block;
  const int64_t last = smaller(first + channels_a_block, op.tiling.channels);
  combine_gradients<kRows>(op, units, samples, first, last, rstd, dweight, dbias);
  correct<kRows>(op, first, last, rstd, dweight, dbias, count, corrections);
}

template <bool kRows>
__global__ void __launch_bounds__(kSingleThreads, 1)
    correct_kernel(Norm op, int64_t channels_a_block, const float* rstd, const float* dweight,
                   const float* dbias, int64_t count, Correction* corrections) {
  const int64_t first = blockIdx.x * channels_a_block;
  correct<kRows>(op, first, smaller(first + channels_a_block, op.tiling.channels), rstd, dweight,
                 dbias, count, corrections);
}

template <class V>
__global__ void __launch_bounds__(kPassThreads, 2)
    propagate_kernel(Norm op, const typename V::Scalar* dy, const typename V::Scalar* x,
                     const float* mean, const float* rstd, const Correction* corrections,
                     typename V::Scalar* dx) {
  const Share share = share_of_block(op.tiling, Order::kBackwards);
  Affine<V> a;
  a.set_channels(op.tiling, share.tile, mean, rstd);
  Correction own[V::kChannels];
  load_corrections<V>(op.tiling, share.tile, corrections, own);
  for_units<V>(op.tiling, share, Order::kBackwards, [&](const Strip& s, int) {
    a.set_sample(op, s);
    const auto at = [&](int i) { return s.first + i * s.step; };
    write_gradient<V>(
        a, own, s, [&](int i) { return load<V>(dy, s, at(i)); },
        [&](int i) { return load<V>(x, s, at(i)); }, dx);
  });
}

// --- Single-read: the packets of a thread wait in shared memory for its next step ------------------

// Each thread's own packets, in the order of its steps: no other thread touches them.
template <class Pack>
class Slab {
 public:
  __device__ explicit Slab(unsigned char* memory)
      : mine_(reinterpret_cast<Pack*>(memory) + threadIdx.x) {}

  __device__ Pack& operator[](int i) const { return mine_[static_cast<int64_t>(i) * blockDim.x]; }

 private:
  Pack* const mine_;
};

// A cluster's share of a tile is that of as many chunks.
__device__ __forceinline__ Share share_of_cluster(const Tiling& t) {
  return {blockIdx.x / cluster_size() % t.tiles, cluster_rank(), cluster_size()};
}

// for_units that counts the packets of the units before: body(strip, unit, index of its first).
template <class V, class Body>
__device__ __forceinline__ void for_kept_units(const Tiling& t, const Share& share,
                                               const Body& body) {
  int kept = 0;
  for_units<V>(t, share, Order::kForwards, [&](const Strip& s, int unit) {
    body(s, unit, kept);
    kept += s.count;
  });
}

// Shared memory: the slab, then Moments of each warp's columns. table: moments of the chunks.
template <class V>
__global__ void __launch_bounds__(kSingleThreads, 1)
    slab_forward_kernel(Norm op, int slab_bytes, float eps, const typename V::Scalar* x,
                        Moments* table, typename V::Scalar* y, float* mean, float* var,
                        float* rstd) {
  const Tiling& t = op.tiling;
  const Share share = share_of_cluster(t);
  const Slab<typename V::Pack> slab(dynamic_shared());
  Moments* const shared = reinterpret_cast<Moments*>(dynamic_shared() + slab_bytes);
  Moments moments[V::kChannels] = {};
  for_kept_units<V>(t, share, [&](const Strip& s, int, int kept) {
    measure<V>(x, s, moments,
               [&](const typename V::Pack& packet, int i) { slab[kept + i] = packet; });
  });
  merge_over_block<V>(t, moments, shared);
  const int columns = t.across * V::kChannels;
  const int64_t first = share.tile * columns, last = smaller(first + columns, t.channels);
  for (int64_t c = first + threadIdx.x; c < last; c += blockDim.x)
    table[place<V::kRows>(share.chunk, c, share.chunks, t.channels)] = shared[c - first];
  cluster_sync();
  if (share.chunk == 0)
    combine_moments<V::kRows>(t, table, share.chunks, first, last, eps, mean, var, rstd);
  cluster_sync();
  Affine<V> a;
  a.set_channels(t, share.tile, mean, rstd);
  for_kept_units<V>(t, share, [&](const Strip& s, int, int kept) {
    a.set_sample(op, s);
    write_activated<V>(a, s, [&](int i) { return slab[kept + i]; }, y);
  });
}

// Shared memory: a slab of dy and one of x, of slab_bytes each.
template <class V>
__global__ void __launch_bounds__(kSingleThreads, 1)
    slab_backward_kernel(Norm op, int slab_bytes, const typename V::Scalar* dy,
                         const typename V::Scalar* x, const float* mean, const float* rstd,
                         int64_t count, Sums* units, Sums* samples, Correction* corrections,
                         typename V::Scalar* dx, float* dweight, float* dbias) {
  using Pack = typename V::Pack;
  const Tiling& t = op.tiling;
  const Share share = share_of_cluster(t);
  const Slab<Pack> gradients(dynamic_shared()), values(dynamic_shared() + slab_bytes);
  Affine<V> a;
  a.set_channels(t, share.tile, mean, rstd);
  for_kept_units<V>(t, share, [&](const Strip& s, int unit, int kept) {
    a.set_sample(op, s);
    reduce_unit<V>(t, a, s, unit, dy, x, units, [&](const Pack& gradient, const Pack& value, int i) {
      gradients[kept + i] = gradient;
      values[kept + i] = value;
    });
  });
  cluster_sync();
  const int columns = t.across * V::kChannels;
  const int64_t first = share.tile * columns, last = smaller(first + columns, t.channels);
  if (share.chunk == 0) {
    combine_gradients<V::kRows>(op, units, samples, first, last, rstd, dweight, dbias);
    correct<V::kRows>(op, first, last, rstd, dweight, dbias, count, corrections);
  }
  cluster_sync();
  Correction own[V::kChannels];
  load_corrections<V>(t, share.tile, corrections, own);
  for_kept_units<V>(t, share, [&](const Strip& s, int, int kept) {
    a.set_sample(op, s);
    write_gradient<V>(
        a, own, s, [&](int i) { return gradients[kept + i]; },
        [&](int i) { return values[kept + i]; }, dx);
  });
}

}  // namespace cxrgan::cuda
