// What the GPUs of this machine are, and whether the code built here can run on them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cxrgan::cuda {

struct Device {
  std::string name;
  int major, minor;  // compute capability
  int multiprocessors;
  int64_t l2_bytes;
  int64_t shared_bytes_per_block;  // with opt-in
  int driver_version, runtime_version;  // 13000 for 13.0
  std::string probe_error;
};

// Throws std::runtime_error where there is no usable driver or this build has no CUDA in it.
std::vector<Device> devices();

// Why a kernel of this build cannot run on a device; empty if it can.
std::string probe_error(int device);

}  // namespace cxrgan::cuda
