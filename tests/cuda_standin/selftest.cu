// Kernels that show whether the stand-in does what a device does; tests/build/test_cuda_standin.py
// calls them.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr unsigned kAll = 0xffffffffu;

template <class T>
__device__ T* shared() {
  return static_cast<T*>(cuda_standin::dynamic_shared());
}

template <class... Expected, class... Actual>
cudaError_t launch(dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(Expected...),
                   Actual... actual) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  return cudaLaunchKernelEx(&config, kernel, actual...);
}

// ---- Barriers

template <bool kBarriers>
__global__ void block_sum_kernel(const float* x, float* sums) {
  float* const part = shared<float>();
  const unsigned thread = threadIdx.x;
  part[thread] = x[blockIdx.x * blockDim.x + thread];
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (kBarriers) __syncthreads();
    if (thread < half) part[thread] += part[thread + half];
  }
  if (thread == 0) sums[blockIdx.x] = part[0];
}

// As the last block does that adds up what all left in global memory: right in one order only.
__global__ void running_sum_kernel(const float* x, float* sums) {
  const unsigned block = blockIdx.x;
  sums[block] = x[block] + (block == 0 ? 0.0f : sums[block - 1]);
}

__global__ void log_kernel(int* log, int* count) {
  const unsigned thread =
      threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  log[(*count)++] = static_cast<int>(block * threads + thread);
}

__global__ void many_exchanges_kernel(float* sums) {
  float value = static_cast<float>(threadIdx.x);
  for (int round = 0; round < 2; ++round) {
    for (int distance = 16; distance > 0; distance /= 2)
      value += __shfl_xor_sync(kAll, value, distance);
    for (int barrier = 0; barrier < 3; ++barrier) __syncthreads();
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = value;
}

// ---- Warps

enum Exchange { kIndex, kUp, kDown, kXor };

template <class T>
__global__ void shuffle_kernel(int exchange, const T* in, T* out, int operand, int width) {
  const unsigned thread = threadIdx.x;
  const T value = in[thread];
  switch (exchange) {
    case kIndex:
      out[thread] = __shfl_sync(kAll, value, operand, width);
      break;
    case kUp:
      out[thread] = __shfl_up_sync(kAll, value, static_cast<unsigned>(operand), width);
      break;
    case kDown:
      out[thread] = __shfl_down_sync(kAll, value, static_cast<unsigned>(operand), width);
      break;
    default:
      out[thread] = __shfl_xor_sync(kAll, value, operand, width);
  }
}

// Each half of a warp by itself, and one half oftener than the other.
__global__ void halves_kernel(const int* in, int* out) {
  const bool upper = threadIdx.x % 32 >= 16;
  const unsigned mask = upper ? 0xffff0000u : 0x0000ffffu;
  int value = in[threadIdx.x];
  for (int distance = 1; distance < (upper ? 16 : 4); distance *= 2)
    value += __shfl_xor_sync(mask, value, distance);
  __syncwarp();
  out[threadIdx.x] = value;
}

__global__ void vote_kernel(const int* in, int* out) {
  const int value = in[threadIdx.x];
  out[threadIdx.x] = static_cast<int>(__ballot_sync(kAll, value)) ^
                     (__any_sync(kAll, value) != 0 ? 0 : -1) ^
                     (__all_sync(kAll, value) != 0 ? 1 << 31 : 0);
}

template <bool kWarpBarrier>
__global__ void neighbor_kernel(const int* in, int* out) {
  int* const values = shared<int>();
  values[threadIdx.x] = in[threadIdx.x];
  if (kWarpBarrier) __syncwarp();
  const unsigned lane = threadIdx.x % 32;
  out[threadIdx.x] = values[threadIdx.x - lane + (lane + 1) % 32] +
                     values[threadIdx.x - lane + (lane + 31) % 32];
}

// Each round's number by way of the other warp, with so many buffers for it.
__global__ void rounds_kernel(int* sums, int buffers) {
  int* const values = shared<int>();
  const unsigned other = threadIdx.x ^ 32;
  int sum = 0;
  for (int round = 0; round < 2; ++round) {
    int* const buffer = values + round % buffers * 64;
    buffer[threadIdx.x] = __shfl_sync(kAll, round + 1, 0);
    __syncthreads();
    sum += buffer[other];
  }
  sums[threadIdx.x] = sum;
}

// ---- Clusters

template <bool kClusterSync>
__global__ void cluster_kernel(const float* x, float* parts, float* sums) {
  const unsigned rank = cuda_standin::cluster_rank(), size = cuda_standin::cluster_size();
  if (threadIdx.x == 0) {
    shared<unsigned>()[0] = rank;
    parts[blockIdx.x] = x[blockIdx.x];
  }
  if (kClusterSync) cuda_standin::cluster_sync();
  if (threadIdx.x != 1) return;
  float sum = 0;
  for (unsigned i = 0; i < size; ++i) sum += parts[blockIdx.x - rank + i];
  sums[blockIdx.x] = shared<unsigned>()[0] == rank ? sum : -1.0f;
}

// The blocks' numbers, read by the first of a cluster where they lie; kWait: until it has, they stay.
template <bool kWait>
__global__ void peers_kernel(const float* x, float* sums) {
  const unsigned size = cuda_standin::cluster_size();
  if (threadIdx.x == 0) shared<float>()[0] = x[blockIdx.x];
  cuda_standin::cluster_arrive();
  cuda_standin::cluster_wait();
  if (threadIdx.x == 0 && cuda_standin::cluster_rank() == 0) {
    float sum = 0;
    for (unsigned i = 0; i < size; ++i) {
      sum += *static_cast<float*>(cuda_standin::map_shared(shared<float>(), static_cast<int>(i)));
      __syncwarp(1);  // others get their turn between two reads
    }
    sums[blockIdx.x / size] = sum;
  }
  cuda_standin::cluster_arrive();
  if (kWait) cuda_standin::cluster_wait();
}

// ---- Cooperative launches

template <bool kGridSync>
__global__ void grid_kernel(const float* x, float* parts, float* sums) {
  if (threadIdx.x == 0) {
    shared<unsigned>()[0] = blockIdx.x;
    parts[blockIdx.x] = x[blockIdx.x];
  }
  if (kGridSync) cuda_standin::grid_sync();
  if (threadIdx.x != 1) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  const bool alone = cuda_standin::cluster_rank() == 0 && cuda_standin::cluster_size() == 1;
  sums[blockIdx.x] = alone && shared<unsigned>()[0] == blockIdx.x ? sum : -1.0f;
}

__global__ void grid_sync_kernel(unsigned but) {
  if (blockIdx.x != but) cuda_standin::grid_sync();
}

// ---- Mistakes

// A kibibyte a level, each of which needs the one before: no compiler makes a loop of it.
__device__ int depth_of(int levels, const volatile char* above) {
  volatile char frame[1024];
  frame[0] = static_cast<char>(above[0] + 1);
  return levels == 0 ? frame[0] : depth_of(levels - 1, frame) + frame[0];
}

__global__ void mistake_kernel(int which, int zero) {
  int* const values = shared<int>();
  const unsigned thread = threadIdx.x;
  const char start = 0;
  switch (which) {
    case 0:  // half a block at a barrier
      if (thread < 32) __syncthreads();
      break;
    case 1:  // at different kinds of barriers
      if (thread < 32) __syncthreads();
      else cuda_standin::cluster_sync();
      break;
    case 2:  // a lane that does not take part
      if (thread != 5) __shfl_xor_sync(kAll, 1.0f, 1);
      break;
    case 3:  // a lane that does something else
      if (thread == 37) __ballot_sync(kAll, 1);
      else __syncwarp();
      break;
    case 4:  // a mask without the caller
      __syncwarp(0x7fffffffu);
      break;
    case 5:  // one past the end of shared memory
      values[thread + 1] = 1;
      break;
    case 6:
      *(reinterpret_cast<volatile int*>(16) + zero) = 1;
      break;
    case 7:
      reinterpret_cast<uint2*>(values + 1)->x = 1;
      break;
    case 8:
      values[thread] = depth_of(1000, &start);
      break;
    case 9:
      values[thread] = 7 / zero;
      break;
    case 10:
      if (thread == 3) __trap();
      break;
    case 11:
      __shfl_xor_sync(kAll, 1, 1, 24);
      break;
  }
}

__global__ void nothing_kernel() {}

// ---- Numbers

template <class T>
__global__ void widen_kernel(const T* in, float* out, int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) out[i] = static_cast<float>(in[i]);
}

__global__ void narrow_kernel(const float* in, __half* halves, __nv_bfloat16* bfloats,
                              int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    halves[i] = __float2half_rn(in[i]);
    bfloats[i] = __float2bfloat16_rn(in[i]);
  }
}

__global__ void pair_kernel(float2 in, __half2* halves, __nv_bfloat162* bfloats, float2* out) {
  *halves = __float22half2_rn(in);
  *bfloats = __float22bfloat162_rn(in);
  out[0] = __half22float2(*halves);
  out[1] = __bfloat1622float2(*bfloats);
}

__global__ void arithmetic_kernel(float a, float b, float* out) {
  out[0] = min(a, b);
  out[1] = max(a, b);
  out[2] = __fmaf_rn(a, b, 1.0f);
  out[3] = rsqrtf(b);
  out[4] = static_cast<float>(min(static_cast<int>(a), 2u) == 2u);  // as unsigned, like CUDA
}

}  // namespace

EXPORT int block_sum(const float* x, float* sums, unsigned blocks, unsigned threads, int barriers) {
  return launch(blocks, threads, threads * sizeof(float),
                barriers != 0 ? block_sum_kernel<true> : block_sum_kernel<false>, x, sums);
}

EXPORT int running_sum(const float* x, float* sums, unsigned blocks) {
  return launch(blocks, 1, 0, running_sum_kernel, x, sums);
}

EXPORT int log_turns(int* log, const unsigned* grid, const unsigned* block) {
  int count = 0;
  return launch(dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]), 0, log_kernel,
                log, &count);
}

EXPORT int many_exchanges(float* sums, unsigned blocks, unsigned threads) {
  return launch(blocks, threads, 0, many_exchanges_kernel, sums);
}

#define SHUFFLE(TYPE)                                                                           \
  EXPORT int shuffle_##TYPE(int exchange, const TYPE* in, TYPE* out, int operand, int width) { \
    return launch(1, 64, 0, shuffle_kernel<TYPE>, exchange, in, out, operand, width);          \
  }
SHUFFLE(float)
SHUFFLE(double)
SHUFFLE(int32_t)
SHUFFLE(uint32_t)
SHUFFLE(int64_t)
SHUFFLE(uint64_t)

EXPORT int halves(const int* in, int* out) { return launch(1, 64, 0, halves_kernel, in, out); }

EXPORT int vote(const int* in, int* out) { return launch(1, 64, 0, vote_kernel, in, out); }

EXPORT int rounds(int* sums, int buffers) {
  return launch(1, 64, 2 * 64 * sizeof(int), rounds_kernel, sums, buffers);
}

EXPORT int neighbors(const int* in, int* out, int barrier) {
  return launch(1, 64, 64 * sizeof(int),
                barrier != 0 ? neighbor_kernel<true> : neighbor_kernel<false>, in, out);
}

EXPORT int cluster(const float* x, float* parts, float* sums, unsigned blocks, unsigned size,
                   int barrier) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {size, 1, 1};
  cudaLaunchConfig_t config = {blocks, 64, sizeof(unsigned), nullptr, &attribute, 1};
  return cudaLaunchKernelEx(&config, barrier != 0 ? cluster_kernel<true> : cluster_kernel<false>, x,
                            parts, sums);
}

EXPORT int peers(const float* x, float* sums, unsigned blocks, unsigned size, int wait) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {size, 1, 1};
  cudaLaunchConfig_t config = {blocks, 64, sizeof(float), nullptr, &attribute, 1};
  return cudaLaunchKernelEx(&config, wait != 0 ? peers_kernel<true> : peers_kernel<false>, x, sums);
}

EXPORT int grid(const float* x, float* parts, float* sums, unsigned blocks, int barrier) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config = {blocks, 64, sizeof(unsigned), nullptr, &attribute, 1};
  return cudaLaunchKernelEx(&config, barrier != 0 ? grid_kernel<true> : grid_kernel<false>, x, parts,
                            sums);
}

// A barrier of a grid that block `but` does not come to.
EXPORT int grid_barrier(unsigned blocks, unsigned but, uint64_t shared_bytes, int cooperative) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = cooperative;
  cudaLaunchConfig_t config = {blocks, 64, shared_bytes, nullptr, &attribute, 1};
  return cudaLaunchKernelEx(&config, grid_sync_kernel, but);
}

EXPORT int mistake(int which) {
  return launch(1, 64, 64 * sizeof(int), mistake_kernel, which, 0);
}

EXPORT int partial_warp() {  // 16 lanes, of which all 32 are asked
  return launch(1, 16, 64 * sizeof(int), mistake_kernel, 3, 0);
}

// What a launch of these extents gives: grid, block and cluster, three each.
EXPORT int try_launch(const unsigned* extents, uint64_t shared_bytes, int shared_opt_in,
                      int large_clusters) {
  cudaError_t status = cudaFuncSetAttribute(
      nothing_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_opt_in);
  if (status != cudaSuccess) return status;
  status = cudaFuncSetAttribute(nothing_kernel, cudaFuncAttributeNonPortableClusterSizeAllowed,
                                large_clusters);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {extents[6], extents[7], extents[8]};
  cudaLaunchConfig_t config = {dim3(extents[0], extents[1], extents[2]),
                               dim3(extents[3], extents[4], extents[5]),
                               shared_bytes,
                               nullptr,
                               &attribute,
                               1};
  return cudaLaunchKernelEx(&config, nothing_kernel);
}

EXPORT int occupancy(int threads, uint64_t shared_bytes, unsigned cluster_size, int* blocks,
                     int* clusters) {
  const cudaError_t status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      blocks, many_exchanges_kernel, threads, shared_bytes);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster_size, 1, 1};
  const cudaLaunchConfig_t config = {cluster_size, static_cast<unsigned>(threads), shared_bytes,
                                     nullptr, &attribute, 1};
  return cudaOccupancyMaxActiveClusters(clusters, many_exchanges_kernel, &config);
}

EXPORT int device_attribute(int attribute, int* value) {
  return cudaDeviceGetAttribute(value, static_cast<cudaDeviceAttr>(attribute), 0);
}

EXPORT int widen(int bfloat, const uint16_t* in, float* out, int64_t count) {
  return bfloat != 0 ? launch(1, 32, 0, widen_kernel<__nv_bfloat16>,
                              reinterpret_cast<const __nv_bfloat16*>(in), out, count)
                     : launch(1, 32, 0, widen_kernel<__half>,
                              reinterpret_cast<const __half*>(in), out, count);
}

EXPORT int narrow(const float* in, uint16_t* halves, uint16_t* bfloats, int64_t count) {
  return launch(1, 32, 0, narrow_kernel, in, reinterpret_cast<__half*>(halves),
                reinterpret_cast<__nv_bfloat16*>(bfloats), count);
}

EXPORT int pairs(float a, float b, uint16_t* halves, uint16_t* bfloats, float* out) {
  return launch(1, 1, 0, pair_kernel, make_float2(a, b), reinterpret_cast<__half2*>(halves),
                reinterpret_cast<__nv_bfloat162*>(bfloats), reinterpret_cast<float2*>(out));
}

EXPORT int arithmetic(float a, float b, float* out) {
  return launch(1, 1, 0, arithmetic_kernel, a, b, out);
}

EXPORT int reset() { return cudaDeviceReset(); }
EXPORT int last_error() { return cudaGetLastError(); }
EXPORT const char* error_name(int error) {
  return cudaGetErrorName(static_cast<cudaError_t>(error));
}
EXPORT const char* error_text(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
