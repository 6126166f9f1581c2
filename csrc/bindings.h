// What the files that know Python share: bindings.cpp and one for each op that has its own.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
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

// Whether csrc/cuda is in this build: CMakeLists.txt defines it where there is a CUDA compiler.
#if defined(CXRGAN_CUDA)
constexpr bool kHasCuda = true;
#else
constexpr bool kHasCuda = false;
#endif
constexpr char kNoCuda[] = "this build has no CUDA in it: no CUDA compiler was found";

// Calls a function of namespace cuda. A build without CUDA throws instead, and has no reference to
// the function in it, so that nothing need stand in for what was not compiled.
template <auto Function, class... Arguments>
auto on_gpu(const Arguments&... arguments) -> decltype(Function(arguments...)) {
  if constexpr (kHasCuda) {
    return Function(arguments...);
  } else {
    throw std::runtime_error(kNoCuda);
  }
}

// Runs a step where its tensors are: that of namespace cpu with the arguments and, if it takes
// them, threads, or that of namespace cuda with the arguments and a Launch. Other Python threads go
// on meanwhile, for a full queue makes a launch wait too; only what the CPU does in a moment,
// without threads, is not worth letting them.
template <auto Cpu, auto Cuda, class... Arguments>
void run(const Place& place, Memory workspace, const Arguments&... arguments) {
  constexpr bool kTakesThreads = std::is_invocable_v<decltype(Cpu), const Arguments&..., int>;
  if constexpr (!kTakesThreads) {
    if (place.on_cpu()) return Cpu(arguments...);
  }
  const py::gil_scoped_release released;
  if (!place.on_cpu()) return on_gpu<Cuda>(arguments..., place.launch(workspace));
  if constexpr (kTakesThreads) Cpu(arguments..., place.threads());
}

void define_augmented_batch(py::module_& m);

}  // namespace cxrgan
