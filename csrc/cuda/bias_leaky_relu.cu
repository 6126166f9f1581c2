// The launchers of cxrgan/bias_leaky_relu.h on a GPU.
#include "cxrgan/bias_leaky_relu.h"

#include "plan.h"
#include "together.cuh"

namespace cxrgan::cuda {
namespace {

constexpr int kThreads = 256;

// A sum and what its rounding has lost (Knuth's two-sum).
struct Total {
  float high, low;

  __device__ __forceinline__ void add(float value) {
    const float sum = high + value, part = sum - high;
    const float lost = (high - (sum - part)) + (value - part);
    high = sum;
    low += isfinite(sum) ? lost : 0.0f;  // infinity has lost nothing, but would say NaN
  }
};

// What a value is multiplied by: the gain, and gain·slope.
struct Slopes {
  float positive, negative;
};

Slopes slopes_of(const BiasLeakyRelu& op) { return {op.gain, op.gain * op.negative_slope}; }

__device__ __forceinline__ float gated(float value, float sign, Slopes slopes) {
  return value * (sign > 0 ? slopes.positive : slopes.negative);
}

// The biases of this lane's channels; zeros where there are none.
template <class V>
__device__ __forceinline__ void load_biases(const Tiling& t, int64_t tile, const float* bias,
                                            float (&to)[V::kChannels]) {
  const int64_t channel = channel_of<V>(t, tile);
#pragma unroll
  for (int c = 0; c < V::kChannels; ++c)
    to[c] = bias != nullptr && channel + c < t.channels ? bias[channel + c] : 0.0f;
}

// y = gated(x + b, by its own sign); or, given y, out = gated(g + b, by y's sign).
template <class V, bool kGiven>
__global__ void __launch_bounds__(kThreads, 2)
    act_kernel(Tiling t, Slopes slopes, const typename V::Scalar* x, const float* bias,
               const typename V::Scalar* y, typename V::Scalar* out) {
  const Share share = share_of_block(t, Order::kForwards);
  float biases[V::kChannels];
  load_biases<V>(t, share.tile, bias, biases);
  for_units<V>(t, share, Order::kForwards, [&](const Strip& s, int) {
    for (int i = 0; i < s.count; i += V::kBatch) {
      typename V::Pack packets[V::kBatch], signs[V::kBatch];
#pragma unroll
      for (int u = 0; u < V::kBatch; ++u) {
        if (i + u >= s.count) continue;
        const int64_t at = s.first + (i + u) * s.step;
        packets[u] = load<V>(x, s, at);
        if constexpr (kGiven) signs[u] = load<V>(y, s, at);
      }
#pragma unroll
      for (int u = 0; u < V::kBatch; ++u) {
        if (i + u >= s.count) continue;
        float z[V::kWidth], sign[V::kWidth];
        unpack(packets[u], z);
        if constexpr (kGiven) unpack(signs[u], sign);
#pragma unroll
        for (int j = 0; j < V::kWidth; ++j) {
          z[j] += biases[V::kChannelsLast ? j : 0];
          z[j] = gated(z[j], kGiven ? sign[j] : z[j], slopes);
        }
        store<V>(out, s, s.first + (i + u) * s.step, pack<typename V::Scalar, V::kWidth>(z));
      }
    }
  });
}

// dx, and each block's sums of it: (chunks, C), or (C, chunks) for planes.
template <class V>
__global__ void __launch_bounds__(kThreads, 2)
    backward_kernel(Tiling t, Slopes slopes, const typename V::Scalar* dy,
                    const typename V::Scalar* y, typename V::Scalar* dx, double* table) {
  double* const shared = reinterpret_cast<double*>(dynamic_shared());
  const Share share = share_of_block(t, Order::kForwards);
  Total totals[V::kChannels] = {};
  for_units<V>(t, share, Order::kForwards, [&](const Strip& s, int) {
    for (int i = 0; i < s.count; i += V::kBatch) {
      typename V::Pack gradients[V::kBatch], signs[V::kBatch];
#pragma unroll
      for (int u = 0; u < V::kBatch; ++u) {
        if (i + u >= s.count) continue;
        const int64_t at = s.first + (i + u) * s.step;
        gradients[u] = load<V>(dy, s, at);
        signs[u] = load<V>(y, s, at);
      }
      float batch[V::kChannels] = {};
#pragma unroll
      for (int u = 0; u < V::kBatch; ++u) {
        if (i + u >= s.count) continue;
        float d[V::kWidth], sign[V::kWidth];
        unpack(gradients[u], d);
        unpack(signs[u], sign);
#pragma unroll
        for (int j = 0; j < V::kWidth; ++j) {
          d[j] = gated(d[j], sign[j], slopes);  // 0 where the packet is not the unit's own
          batch[V::kChannelsLast ? j : 0] += d[j];
        }
        store<V>(dx, s, s.first + (i + u) * s.step, pack<typename V::Scalar, V::kWidth>(d));
      }
#pragma unroll
      for (int c = 0; c < V::kChannels; ++c) totals[c].add(batch[c]);
    }
  });
  const int columns = t.across * V::kChannels;
#pragma unroll
  for (int c = 0; c < V::kChannels; ++c) {
    double total = static_cast<double>(totals[c].high) + totals[c].low;
    for (int distance = t.across; distance < kWarp; distance *= 2)
      total += __shfl_xor_sync(kAllLanes, total, distance);
    if (lane_of_thread() < t.across)
      shared[warp_of_thread() * columns + lane_of_thread() * V::kChannels + c] = total;
  }
  __syncthreads();
  for (int column = threadIdx.x; column < columns; column += blockDim.x) {
    double total = 0;
    for (int warp = 0; warp < warps_of_block(); ++warp) total += shared[warp * columns + column];
    const int64_t c = share.tile * columns + column;
    if (c >= t.channels) continue;
    table[V::kChannelsLast ? share.chunk * t.channels + c : c * share.chunks + share.chunk] = total;
  }
}

// dbias of a channel for each warp, from `parts` sums at a distance of `stride`.
__global__ void __launch_bounds__(kThreads)
    combine_kernel(int64_t channels, int parts, int64_t channel_stride, int64_t part_stride,
                   const double* table, float* dbias) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * warps_of_block() + warp_of_thread();
  if (c >= channels) return;
  double total = 0;
  for (int p = lane_of_thread(); p < parts; p += kWarp)
    total += table[c * channel_stride + p * part_stride];
  for (int distance = 1; distance < kWarp; distance *= 2)
    total += __shfl_xor_sync(kAllLanes, total, distance);
  if (lane_of_thread() == 0) dbias[c] = static_cast<float>(total);
}

__global__ void zero_kernel(int64_t count, float* values) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) values[i] = 0;
}

// blocks: to a multiprocessor.
Tiling plan(const Shape& shape, int device, int blocks) {
  const Limits& limits = limits_of(device);
  const Tiling t = pass_tiling(shape, limits);
  return with_blocks(t, kThreads, static_cast<int64_t>(limits.multiprocessors) * blocks);
}

// Each block leaves sums: as many as run at once.
Tiling backward_plan(const Shape& shape, int device) { return plan(shape, device, 2); }

int64_t sums_bytes(const Tiling& t) {
  return t.chunks * t.channels * static_cast<int64_t>(sizeof(double));
}

template <bool kGiven>
void act(const char* name, const BiasLeakyRelu& op, const void* x, const float* bias, const void* y,
         void* out, const Launch& where) {
  if (op.shape.elements() == 0) return;
  const Launcher launch({name, op.shape}, where);
  const Shape shape(op.shape, all_aligned(x, y, out));
  const Tiling t = plan(shape, where.device, 32);
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(act_kernel<V, kGiven>, {t.tiles * t.chunks, kThreads}, t, slopes_of(op),
           static_cast<const T*>(x), bias, static_cast<const T*>(y), static_cast<T*>(out));
  });
}

}  // namespace

int64_t bias_leaky_relu_workspace(const ImageShape& shape, int device) {
  if (shape.elements() == 0) return 0;
  return larger(sums_bytes(backward_plan(Shape(shape, true), device)),
                     sums_bytes(backward_plan(Shape(shape, false), device)));
}

void bias_leaky_relu(const BiasLeakyRelu& op, const void* x, const float* bias, void* y,
                     const Launch& where) {
  act<false>("bias_leaky_relu", op, x, bias, nullptr, y, where);
}

void bias_leaky_relu_gate(const BiasLeakyRelu& op, const void* g, const float* bias, const void* y,
                          void* out, const Launch& where) {
  act<true>("bias_leaky_relu_gate", op, g, bias, y, out, where);
}

void bias_leaky_relu_backward(const BiasLeakyRelu& op, const void* dy, const void* y, void* dx,
                              float* dbias, const Launch& where) {
  const Launcher launch({"bias_leaky_relu_backward", op.shape}, where);
  const int64_t channels = op.shape.channels;
  if (op.shape.elements() == 0) {
    if (channels > 0) launch(zero_kernel, {divide_up(channels, 256), 256}, channels, dbias);
    return;
  }
  const Shape shape(op.shape, all_aligned(dy, y, dx));
  const Tiling t = backward_plan(shape, where.device);
  double* const table = static_cast<double*>(launch.workspace(sums_bytes(t)));
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    const int64_t shared =
        static_cast<int64_t>(sizeof(double)) * t.across * V::kChannels * (kThreads / kWarp);
    launch(backward_kernel<V>, {t.tiles * t.chunks, kThreads, shared}, t, slopes_of(op),
           static_cast<const T*>(dy), static_cast<const T*>(y), static_cast<T*>(dx), table);
  });
  const int warps = kThreads / kWarp;
  launch(combine_kernel, {divide_up(channels, warps), kThreads}, channels, t.chunks,
         shape.channels_last ? int64_t{1} : int64_t{t.chunks},
         shape.channels_last ? channels : int64_t{1}, table,
         dbias);
}

}  // namespace cxrgan::cuda
