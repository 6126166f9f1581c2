// What the files that know Python share: bindings.cpp and one for each op that has its own.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>

#include "cxrgan/cuda_launch.h"

namespace cxrgan {

namespace py = pybind11;

using Address = uintptr_t;

template <class T = void>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// A workspace: its address and bytes.
using Memory = std::pair<Address, int64_t>;

// Where a launcher runs: on the CPU with so many threads, or on a GPU and one of its streams.
struct Place {
  int device;      // CUDA ordinal; kCpu
  int64_t number;  // threads, or the cudaStream_t

  static constexpr int kCpu = -1;

  bool on_cpu() const { return device == kCpu; }
  int threads() const { return static_cast<int>(number); }
  cuda::Launch launch(Memory workspace = {}) const {
    return {device, pointer(static_cast<Address>(number)), pointer(workspace.first),
            workspace.second};
  }
};

void define_augmented_batch(py::module_& m);

}  // namespace cxrgan
