// The two-pass kernels of conditional batch norm: images are read once to be measured and once more to
// be written.
//
//   forward   statistics, apply                  with combine_statistics between them where blocks
//   backward  backward_reduce, backward_apply    cannot wait for each other; so combine_gradients
//
// Where they can (a cooperative launch), the blocks of the first kernel also do the combining, each
// some channels. Every sum has one order, so that results are the same bits from run to run.
#pragma once

#include "conditional_batch_norm_combine.cuh"
#include "together.cuh"

namespace cxrgan::cuda {

constexpr int kPassThreads = 256;     // of a two-pass kernel
constexpr int kCombineThreads = 512;  // of a combining kernel, at most

// body(first, last) for a block's channels of all: a warp's teams' at a time.
template <int kChannels, class Body>
__device__ __forceinline__ void for_channels(int64_t channels, const Body& body) {
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kChannels; first < channels;
       first += static_cast<int64_t>(gridDim.x) * kChannels)
    body(first, smaller(first + kChannels, channels));
}

template <bool kChannelsLast>
__device__ void combine_table(const Tiling& t, const Moments* table, const Statistics& to) {
  for_channels<Team<kChannelsLast, Moments>::kAcross>(t.channels, [&](int64_t first, int64_t last) {
    combine_moments<kChannelsLast>(
        t.values_per_channel(), t.chunks, first, last, to,
        [&](int p, int64_t c) { return table[place<kChannelsLast>(p, c, t.chunks, t.channels)]; },
        [&](int64_t c, float mean, float var, float rstd) {
          store_statistics(to, c, mean, var, rstd);
        });
  });
}

template <class V>
__global__ void __launch_bounds__(kPassThreads, 2)
    statistics_kernel(Tiling t, bool cooperative, const typename V::Scalar* x, Moments* table,
                      Statistics to) {
  Moments* const shared = reinterpret_cast<Moments*>(dynamic_shared());
  const Share share = share_of_block(t, Order::kForwards);
  LaneMoments<V> moments;
  for_units<V>(t, share, Order::kForwards, [&](const Strip& s, int) {
    measure<V>(x, s, moments, [](const typename V::Pack&, int) {});
  });
  merge_over_block<V>(t, moments, shared);
  const int columns = t.across * V::kChannels;
  for (int64_t i = threadIdx.x; i < columns; i += blockDim.x) {
    const int64_t c = share.tile * columns + i;
    if (c < t.channels)
      table[place<V::kChannelsLast>(share.chunk, c, share.chunks, t.channels)] = shared[i];
  }
  if (!cooperative) return;
  grid_sync();
  combine_table<V::kChannelsLast>(t, table, to);
}

template <bool kChannelsLast>
__global__ void __launch_bounds__(kCombineThreads, 1)
    combine_statistics_kernel(Tiling t, const Moments* table, Statistics to) {
  combine_table<kChannelsLast>(t, table, to);
}

// The lane's Affine of a tile, from the statistics of all channels.
template <class V>
__device__ __forceinline__ Affine<V> affine_of(const Norm& op, int64_t tile, const float* mean,
                                               const float* rstd) {
  const int64_t channel = channel_of<V>(op.tiling, tile);
  Affine<V> a;
  a.set_channels(channel < op.tiling.channels, op.aligned, mean + channel, rstd + channel);
  return a;
}

template <class V>
__global__ void __launch_bounds__(kPassThreads, 2)
    apply_kernel(Norm op, const typename V::Scalar* x, const float* mean, const float* rstd,
                 typename V::Scalar* y) {
  const Share share = share_of_block(op.tiling, Order::kBackwards);
  Affine<V> a = affine_of<V>(op, share.tile, mean, rstd);
  for_units<V>(op.tiling, share, Order::kBackwards, [&](const Strip& s, int) {
    const auto fetch = [&](int i, auto& packets) { load_packets<V>(x, s, i, packets); };
    write_activated<V>(op, a, s, fetch, y);
  });
}

// Where the gradients of the parameters go, and the corrections.
struct Gradients {
  const float* rstd;
  int64_t count;  // values a channel was normalized with; 0: constant statistics
  float* dweight;
  float* dbias;
  Correction* corrections;
};

// scratch holds kWarp for each warp.
template <bool kChannelsLast>
__device__ void combine_slots(const Norm& op, const Sums* slots, const Gradients& to,
                              Weighted* scratch) {
  for_channels<Team<kChannelsLast, Sums>::kAcross>(
      op.tiling.channels, [&](int64_t first, int64_t last) {
        combine_gradients<kChannelsLast>(op, slots, first, last, 0, 1, to.rstd + first, to.dweight,
                                         to.dbias, scratch);
        __syncthreads();
        correct<kChannelsLast>(op, first, last, to.rstd, to.dweight, to.dbias, to.count,
                               to.corrections);
      });
}

// Bytes of shared memory of backward_reduce_kernel: the sums of rounds, and the scratch of combining.
inline __host__ __device__ int64_t reduce_bytes(const Tiling& t, int columns) {
  return kBuffers * round_sums(t, columns) * static_cast<int64_t>(sizeof(Sums)) +
         kPassThreads * static_cast<int64_t>(sizeof(Weighted));
}

template <class V>
__global__ void __launch_bounds__(kPassThreads, 2)
    backward_reduce_kernel(Norm op, bool cooperative, const typename V::Scalar* dy,
                           const typename V::Scalar* x, const float* mean, Sums* slots,
                           Gradients to) {
  const Tiling& t = op.tiling;
  const Share share = share_of_block(t, Order::kForwards);
  const int64_t of_round = round_sums(t, t.across * V::kChannels);
  Sums* const shared = reinterpret_cast<Sums*>(dynamic_shared());
  Sums* buffer = shared;
  Affine<V> a = affine_of<V>(op, share.tile, mean, to.rstd);
  for_units<V>(t, share, Order::kForwards, [&](const Strip& s, int round) {
    float sums[2 * V::kChannels] = {};
    reduce_strip<V>(op, a, s, dy, x, sums,
                    [](const typename V::Pack&, const typename V::Pack&, int) {});
    leave_sums<V>(t, sums, buffer);
    __syncthreads();
    sum_over_round<V>(t, share, round, buffer, slots, [](int, int, double, double) {});
    buffer = buffer == shared ? shared + of_round : shared;
  });
  if (!cooperative) return;
  grid_sync();
  combine_slots<V::kChannelsLast>(op, slots, to,
                                  reinterpret_cast<Weighted*>(shared + kBuffers * of_round));
}

template <bool kChannelsLast>
__global__ void __launch_bounds__(kCombineThreads, 1)
    combine_gradients_kernel(Norm op, const Sums* slots, Gradients to) {
  combine_slots<kChannelsLast>(op, slots, to, reinterpret_cast<Weighted*>(dynamic_shared()));
}

template <bool kChannelsLast>
__global__ void __launch_bounds__(kCombineThreads, 1)
    correct_kernel(Norm op, Gradients of) {
  for_channels<Team<kChannelsLast, Sums>::kAcross>(
      op.tiling.channels, [&](int64_t first, int64_t last) {
        correct<kChannelsLast>(op, first, last, of.rstd, of.dweight, of.dbias, of.count,
                               of.corrections);
      });
}

template <class V>
__global__ void __launch_bounds__(kPassThreads, 2)
    backward_apply_kernel(Norm op, const typename V::Scalar* dy, const typename V::Scalar* x,
                          const float* mean, const float* rstd, const Correction* corrections,
                          typename V::Scalar* dx) {
  const Share share = share_of_block(op.tiling, Order::kBackwards);
  Affine<V> a = affine_of<V>(op, share.tile, mean, rstd);
  Correction own[V::kChannels];
  load_corrections<V>(channel_of<V>(op.tiling, share.tile) < op.tiling.channels,
                      corrections + channel_of<V>(op.tiling, share.tile), own);
  for_units<V>(op.tiling, share, Order::kBackwards, [&](const Strip& s, int) {
    const auto fetch = [&](int i, auto& gradients, auto& values) {
      load_packets<V>(dy, s, i, gradients);
      load_packets<V>(x, s, i, values);
    };
    write_gradient<V>(op, a, own, s, fetch, dx);
  });
}

}  // namespace cxrgan::cuda
