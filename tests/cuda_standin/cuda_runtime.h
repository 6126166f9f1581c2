// A stand-in for the CUDA runtime: what csrc/cuda includes where tests compile it with the host's
// C++ compiler. Kernels run on the CPU, in fibers (scheduler.cpp), so that their source is tested
// without a GPU. Only what the kernels may use is here; anything else fails to compile.
//
// CXRGAN_STANDIN_ORDER   forwards (the default), backwards, eager, or a number that seeds a shuffle:
//                        which threads and blocks go first (scheduler.h)
// CXRGAN_STANDIN_DEVICE  such as "sms=4,cc=75,shared=65536,l2=1048576": what GPU to be (device.h)
#pragma once

#define CXRGAN_CUDA_STANDIN 1

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// Threads change shared memory while a fiber waits at a barrier, which a host compiler that
// believes in the promise need not look at again.
#define __restrict__

// ---- Vectors

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// ---- Where a thread is: set by the scheduler whenever it goes on with one.

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_standin {

enum class WarpOp : int { kSync, kShuffle, kBallot };

// Waits for the lanes of a mask, then gives what lane `source` brought: all ones if it is not in
// the mask. A ballot gives the lanes that brought something else than 0.
uint64_t exchange(WarpOp op, unsigned mask, uint64_t bits, int source);
int lane();
void block_barrier();
[[noreturn]] void trap(const char* why);

// ---- For csrc/cuda: what CUDA spells in PTX, cooperative groups or extern arrays.
void* dynamic_shared();  // of this block, aligned to 128 bytes
unsigned cluster_rank();
unsigned cluster_size();
void cluster_arrive();
void cluster_wait();
inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}
void* map_shared(void* shared, int rank);  // the same place of another block of the cluster
void grid_sync();                          // of a cooperative launch

enum class Direction { kIndex, kUp, kDown, kXor };

template <class T>
T shuffle(Direction direction, unsigned mask, T value, int operand, int width) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "up to 8 bytes");
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) trap("the width of a shuffle");
  const int self = lane(), first = self & ~(width - 1), last = self | (width - 1);
  int source = self;
  switch (direction) {
    case Direction::kIndex:
      source = first | (operand & (width - 1));
      break;
    case Direction::kUp:
      if (self - operand >= first) source = self - operand;
      break;
    case Direction::kDown:
      if (self + operand <= last) source = self + operand;
      break;
    case Direction::kXor:
      if ((self ^ operand) <= last) source = self ^ operand;
      break;
  }
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = exchange(WarpOp::kShuffle, mask, bits, source);
  memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

}  // namespace cuda_standin

// ---- Threads together

inline void __syncthreads() { cuda_standin::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_standin::exchange(cuda_standin::WarpOp::kSync, mask, 0, 0);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap() { cuda_standin::trap("__trap()"); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return cuda_standin::shuffle(cuda_standin::Direction::kIndex, mask, value, source, width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return cuda_standin::shuffle(cuda_standin::Direction::kUp, mask, value, int(delta), width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return cuda_standin::shuffle(cuda_standin::Direction::kDown, mask, value, int(delta), width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  return cuda_standin::shuffle(cuda_standin::Direction::kXor, mask, value, lane_mask, width);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  using cuda_standin::WarpOp;
  return static_cast<unsigned>(
      cuda_standin::exchange(WarpOp::kBallot, mask, predicate != 0, cuda_standin::lane()));
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

// Orders a kernel after the one before it on its stream: here they never overlap.
inline void cudaGridDependencySynchronize() {}
inline void cudaTriggerProgrammaticLaunchCompletion() {}

// ---- Arithmetic

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frsqrt_rn(float a) { return static_cast<float>(1.0 / sqrt(double(a))); }
inline float rsqrtf(float a) { return __frsqrt_rn(a); }
inline double rsqrt(double a) { return 1.0 / sqrt(a); }
inline float __fdividef(float a, float b) {
  return fabsf(b) > 0x1p126f && fabsf(b) <= 0x1.fffffep127f ? a * 0.0f : a / b;  // as documented
}
inline float __expf(float a) { return expf(a); }
inline float __logf(float a) { return logf(a); }
inline float __saturatef(float a) { return fminf(fmaxf(a, 0.0f), 1.0f); }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __clz(int a) { return a == 0 ? 32 : __builtin_clz(static_cast<unsigned>(a)); }
inline int __ffs(int a) { return __builtin_ffs(a); }

// As CUDA's many overloads: mixed types are promoted, and NaN loses against a number.
template <class A, class B, class C = decltype(A() + B()),
          class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
inline C min(A a, B b) {
  const C x = static_cast<C>(a), y = static_cast<C>(b);
  if constexpr (std::is_floating_point_v<C>) return y != y || x < y ? x : y;
  return x < y ? x : y;
}
template <class A, class B, class C = decltype(A() + B()),
          class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
inline C max(A a, B b) {
  const C x = static_cast<C>(a), y = static_cast<C>(b);
  if constexpr (std::is_floating_point_v<C>) return y != y || x > y ? x : y;
  return x > y ? x : y;
}

namespace cuda_standin {
template <class To, class From>
inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(static_cast<void*>(&to), &from, sizeof(to));
  return to;
}
}  // namespace cuda_standin

inline unsigned __float_as_uint(float a) { return cuda_standin::bit_cast<unsigned>(a); }
inline int __float_as_int(float a) { return cuda_standin::bit_cast<int>(a); }
inline float __uint_as_float(unsigned a) { return cuda_standin::bit_cast<float>(a); }
inline float __int_as_float(int a) { return cuda_standin::bit_cast<float>(a); }

// ---- Loads and stores with a word about caches

// clang-format off
template <class T> T __ldg(const T* from) { return *from; }
template <class T> T __ldca(const T* from) { return *from; }
template <class T> T __ldcg(const T* from) { return *from; }
template <class T> T __ldcs(const T* from) { return *from; }
template <class T> T __ldlu(const T* from) { return *from; }
template <class T> void __stcg(T* to, std::common_type_t<T> value) { *to = value; }
template <class T> void __stcs(T* to, std::common_type_t<T> value) { *to = value; }
template <class T> void __stwt(T* to, std::common_type_t<T> value) { *to = value; }
// clang-format on

#include "runtime_api.h"
