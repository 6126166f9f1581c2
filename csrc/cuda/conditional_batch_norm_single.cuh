// The single-launch kernels of conditional batch norm: the blocks of a tile read it once, keep as much
// of it as their shared memory holds, tell each other what they have measured, and write.
//
//   a block          has a tile to itself
//   a cluster        of blocks shares a tile and hands over through its shared memory
//   a whole grid     of as many blocks as run at once (a cooperative launch) shares the tiles and
//                    hands over through global memory; what does not fit is read again, last read
//                    first: L2 still has it
//
// A block waits once, for what its tile's other blocks have measured; all of them then combine it,
// in the same order.
#pragma once

#include "conditional_batch_norm_combine.cuh"
#include "together.cuh"

namespace cxrgan::cuda {

constexpr int kSingleThreads = 512;  // of a single-launch kernel, at most

// What a launch keeps, and who waits for whom.
struct Keeping {
  int packets;  // of a thread, of each tensor, that wait in shared memory
  bool grid;    // whether the blocks of a tile are chunks of a cooperative launch, else a cluster
};

// Each thread's own packets, in the order of its steps: no other thread touches them. Addresses are
// made anew at every access, from the few registers that there are.
template <class Pack>
class Slab {
 public:
  // first: packets of all threads that lie before.
  __device__ __forceinline__ Slab(int first, int packets) : first_(first), packets_(packets) {}

  __device__ __forceinline__ bool holds(int i) const { return i < packets_; }

  __device__ __forceinline__ Pack& operator[](int i) const {
    const int thread = threadIdx.x, threads = blockDim.x;
    return reinterpret_cast<Pack*>(dynamic_shared())[(first_ + i) * threads + thread];
  }

  // Those of the thread from its packet `first` on, `count` at most, if it holds them all.
  template <int kCount>
  __device__ __forceinline__ bool read(int first, int count, Pack (&packets)[kCount]) const {
    if (count > kCount) count = kCount;
    if (!holds(first + count - 1)) return false;
#pragma unroll
    for (int u = 0; u < kCount; ++u)
      if (u < count) packets[u] = (*this)[first + u];
    return true;
  }

  // What lies behind the packets of all threads.
  __device__ __forceinline__ unsigned char* end() const {
    return dynamic_shared() + (first_ + packets_) * static_cast<int>(blockDim.x * sizeof(Pack));
  }

 private:
  const int first_, packets_;
};

__device__ __forceinline__ Share share_of_single(const Tiling& t, bool grid) {
  if (grid) return share_of_block(t, Order::kForwards);
  return {blockIdx.x / cluster_size() % t.tiles, cluster_rank(), cluster_size()};
}

// What a block has in shared memory behind its slabs; the same on the host, which asks for bytes().
struct ForwardScratch {
  Moments* moments;  // of each warp's columns, then of the block's
  float* mean;       // of columns
  float* rstd;

  __device__ ForwardScratch(unsigned char* memory, int columns, int threads)
      : moments(reinterpret_cast<Moments*>(memory)),
        mean(reinterpret_cast<float*>(moments + threads / kWarp * columns)),
        rstd(mean + columns) {}

  static int64_t bytes(int columns, int threads) {
    return columns * (threads / kWarp * static_cast<int64_t>(sizeof(Moments)) +
                      2 * static_cast<int64_t>(sizeof(float)));
  }
};

struct BackwardScratch {
  Weighted* threads;        // one each
  Weighted* block;          // of columns, of this block's units
  Weighted* tile;           // of columns, of all
  Sums* rounds;             // of two
  Correction* corrections;  // of columns

  __device__ BackwardScratch(unsigned char* memory, const Tiling& t, int columns, int of_block)
      : threads(reinterpret_cast<Weighted*>(memory)),
        block(threads + of_block),
        tile(block + columns),
        rounds(reinterpret_cast<Sums*>(tile + columns)),
        corrections(reinterpret_cast<Correction*>(rounds + kBuffers * round_sums(t, columns))) {}

  static int64_t bytes(const Tiling& t, int columns, int of_block) {
    return (of_block + 2 * columns) * static_cast<int64_t>(sizeof(Weighted)) +
           kBuffers * round_sums(t, columns) * static_cast<int64_t>(sizeof(Sums)) +
           columns * static_cast<int64_t>(sizeof(Correction));
  }
};

// table: Moments (chunks, C) or (C, chunks); of a grid only.
template <class V>
__global__ void __launch_bounds__(kSingleThreads, 1)
    single_forward_kernel(Norm op, Keeping keeping, const typename V::Scalar* x, Moments* table,
                          typename V::Scalar* y, Statistics to) {
  const Tiling& t = op.tiling;
  const Share share = share_of_single(t, keeping.grid);
  const int columns = t.across * V::kChannels;
  const Slab<typename V::Pack> slab(0, keeping.packets);
  const ForwardScratch scratch(slab.end(), columns, blockDim.x);
  int passed = 0;  // packets
  LaneMoments<V> moments;
  for_units<V>(t, share, Order::kForwards, [&](const Strip& s, int) {
    measure<V>(x, s, moments, [&](const typename V::Pack& packet, int i) {
      if (slab.holds(passed + i)) slab[passed + i] = packet;
    });
    passed += s.count;
  });
  merge_over_block<V>(t, moments, scratch.moments);
  const int64_t first = share.tile * columns, last = smaller(first + columns, t.channels);
  const auto put = [&](int64_t c, float mean, float var, float rstd) {
    scratch.mean[c - first] = mean;
    scratch.rstd[c - first] = rstd;
    if (share.chunk == 0) store_statistics(to, c, mean, var, rstd);
  };
  if (keeping.grid) {
    for (int64_t c = first + threadIdx.x; c < last; c += blockDim.x)
      table[place<V::kChannelsLast>(share.chunk, c, share.chunks, t.channels)] =
          scratch.moments[c - first];
    grid_sync();
    const auto get = [&](int p, int64_t c) {
      return table[place<V::kChannelsLast>(p, c, share.chunks, t.channels)];
    };
    combine_moments<V::kChannelsLast>(t.values_per_channel(), share.chunks, first, last, to, get,
                                      put);
  } else {
    cluster_sync();
    const auto get = [&](int p, int64_t c) { return of_rank(scratch.moments, p)[c - first]; };
    combine_moments<V::kChannelsLast>(t.values_per_channel(), share.chunks, first, last, to, get,
                                      put);
    cluster_arrive();
  }
  __syncthreads();
  Affine<V> a;
  const int64_t channel = channel_of<V>(t, share.tile);
  a.set_channels(channel < t.channels, true, scratch.mean + (channel - first),
                 scratch.rstd + (channel - first));
  for_units<V>(t, share, Order::kBackwards, [&](const Strip& s, int) {
    passed -= s.count;
    const auto fetch = [&](int i, auto& packets) {
      if (!slab.read(passed + i, s.count - i, packets)) load_packets<V>(x, s, i, packets);
    };
    write_activated<V>(op, a, s, fetch, y);
  });
  if (!keeping.grid) cluster_wait();  // others may still read this block's moments
}

// slots: of samples, as sum_over_round leaves them. table: Weighted (chunks, C) or (C, chunks); of a
// grid only.
template <class V>
__global__ void __launch_bounds__(kSingleThreads, 1)
    single_backward_kernel(Norm op, Keeping keeping, const typename V::Scalar* dy,
                           const typename V::Scalar* x, const float* mean, const float* rstd,
                           int64_t count, Sums* slots, Weighted* table, typename V::Scalar* dx,
                           float* dweight, float* dbias) {
  using Pack = typename V::Pack;
  const Tiling& t = op.tiling;
  const Share share = share_of_single(t, keeping.grid);
  const int columns = t.across * V::kChannels;
  const Slab<Pack> gradients(0, keeping.packets), values(keeping.packets, keeping.packets);
  const BackwardScratch scratch(values.end(), t, columns, blockDim.x);
  const int64_t first = share.tile * columns, last = smaller(first + columns, t.channels);
  const int64_t channel = channel_of<V>(t, share.tile);
  Affine<V> a;
  a.set_channels(channel < t.channels, op.aligned, mean + channel, rstd + channel);
  int passed = 0;  // packets
  Sums* buffer = scratch.rounds;
  Weighted own = {};
  for_units<V>(t, share, Order::kForwards, [&](const Strip& s, int round) {
    float sums[2 * V::kChannels] = {};
    reduce_strip<V>(op, a, s, dy, x, sums, [&](const Pack& gradient, const Pack& value, int i) {
      if (!gradients.holds(passed + i)) return;
      gradients[passed + i] = gradient;
      values[passed + i] = value;
    });
    passed += s.count;
    leave_sums<V>(t, sums, buffer);
    __syncthreads();
    sum_over_round<V>(
        t, share, round, buffer, slots, [&](int column, int n, double d, double centered) {
          const int64_t label = op.labels[n];
          if (label < 0 || label >= op.classes) return;
          // What is 0 has no part in it, though γ be infinite.
          const double gamma = op.weight[label * t.channels + first + column];
          if (d != 0) own.d += gamma * d;
          if (centered != 0) own.centered += gamma * centered;
        });
    buffer = buffer == scratch.rounds ? scratch.rounds + round_sums(t, columns) : scratch.rounds;
  });
  sum_over_columns(columns, own, scratch.threads, scratch.block);
  if (keeping.grid) {
    for (int64_t c = first + threadIdx.x; c < last; c += blockDim.x)
      table[place<V::kChannelsLast>(share.chunk, c, share.chunks, t.channels)] = scratch.block[c - first];
    grid_sync();
  } else {
    cluster_sync();
  }
  const int column = threadIdx.x % columns, stride = blockDim.x / columns;
  own = {};
  if (static_cast<int>(threadIdx.x) < stride * columns && first + column < last) {
    for (int p = threadIdx.x / columns; p < share.chunks; p += stride) {
      const Weighted part =
          keeping.grid ? table[place<V::kChannelsLast>(p, first + column, share.chunks, t.channels)]
                       : of_rank(scratch.block, p)[column];
      own.d += part.d;
      own.centered += part.centered;
    }
  }
  if (!keeping.grid) cluster_arrive();
  sum_over_columns(columns, own, scratch.threads, scratch.tile);
  for (int64_t c = first + threadIdx.x; c < last; c += blockDim.x) {
    const Weighted all = scratch.tile[c - first];
    const double r = rstd[c];
    const double b = all.centered == 0 ? 0.0 : all.centered * r;  // though r be NaN
    scratch.corrections[c - first] = correction_of(all.d, b, r, count);
  }
  __syncthreads();
  Correction corrections[V::kChannels];
  load_corrections<V>(channel < t.channels, scratch.corrections + (channel - first), corrections);
  for_units<V>(t, share, Order::kBackwards, [&](const Strip& s, int) {
    passed -= s.count;
    const auto fetch = [&](int i, auto& of_dy, auto& of_x) {
      if (gradients.read(passed + i, s.count - i, of_dy)) {
        values.read(passed + i, s.count - i, of_x);
      } else {
        load_packets<V>(dy, s, i, of_dy);
        load_packets<V>(x, s, i, of_x);
      }
    };
    write_gradient<V>(op, a, corrections, s, fetch, dx);
  });
  // Nobody waits for these.
  combine_gradients<V::kChannelsLast>(op, slots, first, last, share.chunk, share.chunks, rstd + first,
                              dweight, dbias, scratch.threads);
  if (!keeping.grid) cluster_wait();  // others may still read this block's sums
}

}  // namespace cxrgan::cuda
