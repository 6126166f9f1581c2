// Where a CUDA launcher runs: the same for every op.
#pragma once

#include <cstdint>

namespace cxrgan::cuda {

// Launchers queue kernels and return: they neither wait nor allocate, so that a stream capture can
// record them. One that cannot queue a kernel throws a std::runtime_error that names the op, the
// shape and the CUDA error.
struct Launch {
  int device;       // CUDA ordinal; made current for the launch, and put back
  void* stream;     // cudaStream_t
  void* workspace;  // device memory, 16-byte aligned, nobody else's until the stream has passed the
                    // launch
  int64_t workspace_bytes;  // what the op asks for; too few are refused
};

}  // namespace cxrgan::cuda
