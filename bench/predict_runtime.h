// A CUDA runtime that launches nothing and writes down what it is asked to launch: linked in place of
// the real one, it makes the product's own launchers say what they would do on a GPU that is not here.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace predict {

// The GPU that is pretended.
struct Device {
  int multiprocessors = 0;
  int shared_bytes = 0;  // of a block, with opt-in; a multiprocessor has reserved_bytes more
  int threads = 0;       // of a multiprocessor
  int blocks = 0;        // of a multiprocessor
  int architecture = 0;  // 90
};

// What ptxas says of a kernel.
struct Usage {
  int registers = 0;  // of a thread
  int shared_bytes = 0;
};

struct Launch {
  std::string symbol, name;  // mangled; as C++ spells it, without its parameters
  int64_t blocks = 0;
  int threads = 0;
  int64_t shared_bytes = 0;
  int cluster = 1;  // blocks
  bool cooperative = false, overlapping = false;  // programmatic dependent launch
  int resident = 0;  // blocks that a multiprocessor holds at once
  std::vector<std::byte> first;  // the bytes of its first parameter, if that is kept
};

Device& device();

// Of the kernels whose name, without namespaces, is that: for occupancy.
void set_usage(const std::string& symbol, const Usage& usage);

// Keeps `bytes` of the first parameter of kernels whose first parameter is of that type.
void keep_first(const std::string& type, size_t bytes);

// The launches since the last call.
std::vector<Launch> taken();

}  // namespace predict
