// The GPU that is pretended, and its queries.
#pragma once

#include "cuda_runtime.h"

namespace cuda_standin {

constexpr size_t kSharedByDefault = 48 * 1024;  // of a block, without opt-in
constexpr int kRegisters = 65536;               // of a multiprocessor

struct Device {
  int multiprocessors = 4, major = 9, minor = 0;
  int ptx = 90;  // capability that the code was compiled for, where it is compiled at run time
  int threads = 2048, blocks = 32;  // of a multiprocessor
  size_t shared = 227 * 1024;       // of a block, with opt-in
  int l2 = 4 << 20;
  bool cooperative = true;  // whether it takes cooperative launches

  // What the driver keeps to itself of each block's.
  size_t reserved_shared() const { return major >= 8 ? 1024 : 0; }
  size_t shared_of_multiprocessor() const { return shared + reserved_shared(); }
};

// As CXRGAN_STANDIN_DEVICE has it, e.g. "sms=4,cc=75,shared=65536,l2=1048576,ptx=70,cooperative=0"; false
// if that cannot be read. Looked up each time, so that a test can change it.
bool read_device(Device* device);

cudaError_t record(cudaError_t error);  // for cudaGetLastError

}  // namespace cuda_standin
