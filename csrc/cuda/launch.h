// Launching kernels: the device at hand, its limits, and errors that say what was launched.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <utility>

#include "cxrgan/cuda_launch.h"
#include "cxrgan/tensor.h"

namespace cxrgan::cuda {

// What grids and paths are chosen by; read once for each device.
struct Limits {
  int multiprocessors;
  int64_t shared_bytes_per_block;  // with opt-in
  bool clusters;  // whether the code that this build has for the device knows of clusters
  bool cooperative;  // whether blocks of a grid that all run at once may wait for each other
};

const Limits& limits_of(int device);

// What a message names.
struct Subject {
  const char* op;
  ImageShape shape;
  int64_t count = -1;  // logits or channels, where there are no images
};

// "conditional_batch_norm_act of 64×128 images of 1024 pixels, bfloat16, channels_last"
std::string describe(const Subject& subject);

// Makes a device current for as long as it lives, and what was current again.
class Current {
 public:
  explicit Current(int device);
  ~Current();
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  int device_, before_;
};

// One op's launches, with their device current for as long as it lives.
class Launcher {
 public:
  Launcher(const Subject& subject, const Launch& launch);

  struct Grid {
    int64_t blocks;
    int threads;
    int64_t shared_bytes = 0;
    int cluster = 1;  // blocks
    bool cooperative = false;
  };

  // The workspace, if it has so many bytes; else it throws.
  void* workspace(int64_t bytes) const;

  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), const Grid& grid, Arguments&&... arguments) const {
    prepare(reinterpret_cast<const void*>(kernel), grid);
    cudaLaunchAttribute attribute{};
    if (grid.cooperative) {
      attribute.id = cudaLaunchAttributeCooperative;
      attribute.val.cooperative = 1;
    } else {
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim.x = grid.cluster;
      attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    }
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(grid.blocks));
    config.blockDim = dim3(grid.threads);
    config.dynamicSmemBytes = grid.shared_bytes;
    config.stream = static_cast<cudaStream_t>(where_.stream);
    config.attrs = &attribute;
    config.numAttrs = grid.cooperative || grid.cluster > 1 ? 1 : 0;
    check(cudaLaunchKernelEx(&config, kernel,
                             static_cast<Parameters>(std::forward<Arguments>(arguments))...));
  }

 private:
  void prepare(const void* kernel, const Grid& grid) const;
  void check(cudaError_t status) const;

  const Subject subject_;
  const Launch where_;
  const Current current_;
};

}  // namespace cxrgan::cuda
