// What the files that know Python share: bindings.cpp and one for each op that has its own.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#include "cxrgan/cuda_launch.h"

namespace cxrgan {

namespace py = pybind11;

using Address = uintptr_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// An address as whatever pointer a launcher takes.
struct Pointer {
  Address address;

  template <class T>
  operator T*() const {
    return pointer<T>(address);
  }
};

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
    return {device, pointer<void>(static_cast<Address>(number)), pointer<void>(workspace.first),
            workspace.second};
  }
};

// Runs a step where its tensors are: `cpu` with the arguments and, if it takes them, threads, or `cuda`
// with the arguments and a Launch. Other Python threads go on meanwhile, for a full queue makes a launch
// wait too; only what the CPU does in a moment, without threads, is not worth letting them.
template <class Cpu, class Cuda, class... Arguments>
void run(const Place& place, Memory workspace, const Cpu& cpu, const Cuda& cuda,
         const Arguments&... arguments) {
  if constexpr (!std::is_invocable_v<Cpu, const Arguments&..., int>) {
    if (place.on_cpu()) return cpu(arguments...);
  }
  const py::gil_scoped_release released;
  if (!place.on_cpu()) return cuda(arguments..., place.launch(workspace));
  if constexpr (std::is_invocable_v<Cpu, const Arguments&..., int>) {
    cpu(arguments..., place.threads());
  }
}

void define_augmented_batch(py::module_& m);

}  // namespace cxrgan
