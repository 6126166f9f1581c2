// A block's dynamic shared memory, and clusters of blocks that wait for each other (compute
// capability 9.0; before it, and in launches without clusters, a cluster is one block).
#pragma once

#include <cuda_runtime.h>

namespace cxrgan::cuda {

#ifdef CXRGAN_CUDA_STANDIN  // tests/cuda_standin runs the kernels on a CPU

inline unsigned char* dynamic_shared() {
  return static_cast<unsigned char*>(cuda_standin::dynamic_shared());
}
inline int cluster_rank() { return cuda_standin::cluster_rank(); }
inline int cluster_size() { return cuda_standin::cluster_size(); }
inline void cluster_sync() { cuda_standin::cluster_sync(); }

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

// What any of the cluster's blocks wrote before it, to global memory too, all of them see after it.
__device__ __forceinline__ void cluster_sync() {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
#else
  __syncthreads();
#endif
}

#endif

}  // namespace cxrgan::cuda
