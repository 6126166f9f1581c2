// A block's dynamic shared memory, and blocks that wait for each other: those of a cluster (compute
// capability 9.0; before it, and in launches without clusters, a cluster is one block), which also
// read each other's shared memory, and those of a cooperative launch.
#pragma once

#include <cuda_runtime.h>

#ifndef CXRGAN_CUDA_STANDIN
#include <cooperative_groups.h>
#endif

#include <cstdint>

namespace cxrgan::cuda {

#ifdef CXRGAN_CUDA_STANDIN  // tests/cuda_standin runs the kernels on a CPU

inline unsigned char* dynamic_shared() {
  return static_cast<unsigned char*>(cuda_standin::dynamic_shared());
}
inline int cluster_rank() { return cuda_standin::cluster_rank(); }
inline int cluster_size() { return cuda_standin::cluster_size(); }
inline void cluster_arrive() { cuda_standin::cluster_arrive(); }
inline void cluster_wait() { cuda_standin::cluster_wait(); }
inline void grid_sync() { cuda_standin::grid_sync(); }

template <class T>
T* of_rank(T* shared, int rank) {
  return static_cast<T*>(cuda_standin::map_shared(shared, rank));
}

#else

__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  return shared_memory;
}

__device__ __forceinline__ int cluster_rank() {
  unsigned rank = 0;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
  return static_cast<int>(rank);
}

__device__ __forceinline__ int cluster_size() {
  unsigned size = 1;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
#endif
  return static_cast<int>(size);
}

// Says that this thread has come so far; what it wrote before, all of the cluster see after their
// cluster_wait.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

// Waits until all threads of the cluster have arrived as often as this one.
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  __syncthreads();
#endif
}

// Waits for all threads of a cooperative launch; what any wrote before it, all see after it. The
// driver keeps its counters, for each launch its own.
__device__ __forceinline__ void grid_sync() { cooperative_groups::this_grid().sync(); }

// What this block has at `shared`, in the cluster's block of that rank.
template <class T>
__device__ __forceinline__ T* of_rank(T* shared, int rank) {
#if __CUDA_ARCH__ >= 900
  uint64_t address;
  asm("mapa.u64 %0, %1, %2;"
      : "=l"(address)
      : "l"(reinterpret_cast<uint64_t>(shared)), "r"(rank));
  return reinterpret_cast<T*>(address);
#else
  return shared;
#endif
}

#endif

__device__ __forceinline__ void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

}  // namespace cxrgan::cuda
