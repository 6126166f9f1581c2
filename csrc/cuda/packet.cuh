// Images as packets of up to 16 bytes, and their arithmetic in float.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace cxrgan::cuda {

using BFloat16 = __nv_bfloat16;
using Float16 = __half;

// kWidth neighbors, loaded and stored at once.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Packet {
  T values[kWidth];
};

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(BFloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(Float16 value) { return __half2float(value); }

__device__ __forceinline__ void round_to(float value, float& out) { out = value; }
__device__ __forceinline__ void round_to(float value, BFloat16& out) {
  out = __float2bfloat16_rn(value);
}
__device__ __forceinline__ void round_to(float value, Float16& out) { out = __float2half_rn(value); }

// Two at once: one instruction where the processor has it.
__device__ __forceinline__ void round_pair(float a, float b, float* out) {
  out[0] = a;
  out[1] = b;
}
__device__ __forceinline__ void round_pair(float a, float b, BFloat16* out) {
  const __nv_bfloat162 pair = __float22bfloat162_rn(make_float2(a, b));
  out[0] = pair.x;
  out[1] = pair.y;
}
__device__ __forceinline__ void round_pair(float a, float b, Float16* out) {
  const __half2 pair = __float22half2_rn(make_float2(a, b));
  out[0] = pair.x;
  out[1] = pair.y;
}

// Value i of a packet, i known to the compiler.
template <class T, int kWidth>
__device__ __forceinline__ float value_of(const Packet<T, kWidth>& packet, int i) {
  return to_float(packet.values[i]);
}

// bfloat16 is the upper half of a float. Taken from whole words: as single values they would each
// fill a register.
template <int kWidth>
__device__ __forceinline__ float value_of(const Packet<BFloat16, kWidth>& packet, int i) {
  if constexpr (kWidth == 1) return to_float(packet.values[0]);
  const unsigned word = reinterpret_cast<const unsigned*>(packet.values)[i / 2];
  return __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xffff0000u);
}

template <class T, int kWidth>
__device__ __forceinline__ void unpack(const Packet<T, kWidth>& packet, float (&out)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) out[i] = value_of(packet, i);
}

template <class T, int kWidth>
__device__ __forceinline__ Packet<T, kWidth> pack(const float (&values)[kWidth]) {
  Packet<T, kWidth> packet;
  if constexpr (kWidth == 1) {
    round_to(values[0], packet.values[0]);
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; i += 2)
      round_pair(values[i], values[i + 1], packet.values + i);
  }
  return packet;
}

}  // namespace cxrgan::cuda
