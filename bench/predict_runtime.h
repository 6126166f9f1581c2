// A CUDA runtime that launches nothing and writes down what it is asked to launch: linked in place of
// the real one, it makes the product's own launchers say what they would do on a GPU that is not here.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
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
  // The bytes of its parameters of the types that are kept, by type.
  std::map<std::string, std::vector<std::byte>> parameters;

  // The beginning of one of some types, which is a T; null if it has none.
  template <class T>
  const T* parameter(std::initializer_list<const char*> types) const {
    for (const char* const type : types) {
      const auto found = parameters.find(type);
      if (found != parameters.end()) return reinterpret_cast<const T*>(found->second.data());
    }
    return nullptr;
  }
};

Device& device();

// Of the kernels whose name, without namespaces, is that: for occupancy.
void set_usage(const std::string& symbol, const Usage& usage);

// Keeps the parameters of a type, by its name without namespaces, of so many bytes: of every launch.
void keep(const std::string& type, size_t bytes);

// The launches since the last call.
std::vector<Launch> taken();

}  // namespace predict
