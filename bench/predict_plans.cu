// Which kernels conditional batch norm launches on a GPU that is not here: the product's own launchers,
// csrc/cuda/conditional_batch_norm*.cu, linked with a CUDA runtime that launches nothing and writes down
// what it is asked to launch. bench/predict_plans.py runs it.
//
//   device MULTIPROCESSORS SHARED_BYTES THREADS BLOCKS ARCHITECTURE
//   kernel SYMBOL REGISTERS SHARED_BYTES          what ptxas says of each
//   case DTYPE LAYOUT N C PIXELS PATH             such as bfloat16 channels_last 64 512 16 auto
//
// Each case is answered by a line of JSON. This file alone knows the launchers' signatures and the
// plan's numbers: when those change, so does it.
#include <cxxabi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/conditional_batch_norm_plan.h"

namespace {

using namespace cxrgan;
using namespace cxrgan::cuda;

constexpr int kClasses = 2;  // of bench/cases.py
constexpr int kDevice = 0;

// --- The runtime -----------------------------------------------------------------------------------

constexpr int kReservedBytes = 1024;  // of each block's shared memory, by the driver
constexpr int kRegisters = 65536;     // of a multiprocessor
constexpr int kRegistersAtOnce = 256; // given to a warp

// The GPU that is pretended.
struct {
  int multiprocessors = 0;
  int shared_bytes = 0;  // of a block, with opt-in; a multiprocessor has kReservedBytes more
  int threads = 0;       // of a multiprocessor
  int blocks = 0;        // of a multiprocessor
  int architecture = 0;  // 90
} pretended;

// What ptxas says of a kernel.
struct Usage {
  int registers = 0;  // of a thread
  int shared_bytes = 0;
};

struct Asked {
  std::string symbol, name;  // mangled; as C++ spells it, without its parameters
  int64_t blocks = 1;
  int threads = 1;
  int64_t shared_bytes = 0;
  int cluster = 1;  // blocks
  bool cooperative = false, overlapping = false;  // programmatic dependent launch
  int resident = 1;  // blocks that a multiprocessor holds at once
  std::optional<Tiling> tiling;
  int kept = 0;  // packets
};

std::map<std::string, Usage> usages;
std::vector<Asked> launches;  // since they were last printed

// Made on first use: kernels are registered before this file's own globals are made.
std::string& symbol_of(const void* kernel) {
  static std::map<const void*, std::string> symbols;
  return symbols[kernel];
}

std::string without(std::string text, const std::string& part) {
  for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
  return text;
}

// The name of a kernel as C++ spells it, without namespaces, and the types of its parameters.
std::pair<std::string, std::vector<std::string>> spelled(const std::string& symbol) {
  int status = 0;
  char* const demangled = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string text = status == 0 ? demangled : symbol;
  std::free(demangled);
  for (const char* part : {"void ", "cxrgan::cuda::", "(anonymous namespace)::"})
    text = without(text, part);
  std::string name;
  std::vector<std::string> parameters;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    depth += text[i] == '<' ? 1 : text[i] == '>' ? -1 : 0;
    if (depth > 0) continue;
    if (text[i] == '(') {
      name = text.substr(0, i);
      begin = i + 1;
    } else if (text[i] == ',' || text[i] == ')') {
      parameters.push_back(text.substr(begin, i - begin));
      begin = i + 2;  // ", "
    }
  }
  return {name, parameters};
}

int blocks_at_once(const std::string& symbol, int threads, size_t shared_bytes) {
  const Usage usage = usages[symbol];
  const int warps = (threads + kWarp - 1) / kWarp;
  int blocks = std::min(pretended.blocks, pretended.threads / (warps * kWarp));
  const int of_warp =
      (usage.registers * kWarp + kRegistersAtOnce - 1) / kRegistersAtOnce * kRegistersAtOnce;
  if (of_warp > 0) blocks = std::min(blocks, kRegisters / of_warp / warps);
  const size_t of_block = shared_bytes + usage.shared_bytes + kReservedBytes;
  return std::min(blocks, static_cast<int>((pretended.shared_bytes + kReservedBytes) / of_block));
}

[[maybe_unused]]  // by the compilation for devices
cudaError_t record(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, void** arguments,
                   const cudaLaunchAttribute* attributes, unsigned count, bool cooperative) {
  Asked launch;
  launch.symbol = symbol_of(kernel);
  const auto [name, types] = spelled(launch.symbol);
  launch.name = name;
  launch.blocks = int64_t{grid.x} * grid.y * grid.z;
  launch.threads = static_cast<int>(block.x * block.y * block.z);
  launch.shared_bytes = static_cast<int64_t>(shared_bytes);
  launch.cooperative = cooperative;
  for (unsigned i = 0; i < count; ++i) {
    const auto& value = attributes[i].val;
    if (attributes[i].id == cudaLaunchAttributeClusterDimension)
      launch.cluster =
          static_cast<int>(value.clusterDim.x * value.clusterDim.y * value.clusterDim.z);
    if (attributes[i].id == cudaLaunchAttributeCooperative && value.cooperative != 0)
      launch.cooperative = true;
    if (attributes[i].id == cudaLaunchAttributeProgrammaticStreamSerialization &&
        value.programmaticStreamSerializationAllowed != 0)
      launch.overlapping = true;
  }
  launch.resident = blocks_at_once(launch.symbol, launch.threads, shared_bytes);
  for (size_t i = 0; i < types.size(); ++i) {
    static_assert(offsetof(Norm, tiling) == 0);
    if (types[i] == "Norm" || (types[i] == "Tiling" && !launch.tiling))
      launch.tiling = *static_cast<const Tiling*>(arguments[i]);
    if (types[i] == "Keeping") launch.kept = static_cast<const Keeping*>(arguments[i])->packets;
  }
  launches.push_back(std::move(launch));
  return cudaSuccess;
}

}  // namespace

// What nvcc's host code calls, and the launchers of csrc/cuda. What is missing here does not link.
#ifndef __CUDA_ARCH__  // nvcc compiles twice, and has these functions for devices

extern "C" {

void** __cudaRegisterFatBinary(void*) { return nullptr; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 0; }
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* kernel, char*, const char* symbol, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  symbol_of(kernel) = symbol;
}
// Of <<<…>>>, which csrc does not use: every kernel's host function refers to them all the same.
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { std::abort(); }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { std::abort(); }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
  std::abort();
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel,
                                void** arguments) {
  return record(kernel, config->gridDim, config->blockDim, config->dynamicSmemBytes, arguments,
                config->attrs, config->numAttrs, false);
}

cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3 grid, dim3 block,
                                        void** arguments, size_t shared_bytes, cudaStream_t) {
  return record(kernel, grid, block, shared_bytes, arguments, nullptr, 0, true);
}

cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t) {
  Asked launch;
  launch.symbol = launch.name = "memset";
  launches.push_back(std::move(launch));
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = pretended.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = pretended.shared_bytes;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = pretended.shared_bytes + kReservedBytes;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = pretended.architecture / 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = pretended.architecture % 10;
      return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
      *value = 1;
      return cudaSuccess;
    default:
      return cudaErrorInvalidValue;  // answered wrongly, a plan would be another one
  }
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  const Usage usage = usages[symbol_of(kernel)];
  *attributes = {};
  attributes->numRegs = usage.registers;
  attributes->sharedSizeBytes = usage.shared_bytes;
  attributes->ptxVersion = attributes->binaryVersion = pretended.architecture;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* kernel,
                                                                   int threads, size_t shared_bytes,
                                                                   unsigned) {
  *blocks = blocks_at_once(symbol_of(kernel), threads, shared_bytes);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel,
                                                          int threads, size_t shared_bytes) {
  *blocks = blocks_at_once(symbol_of(kernel), threads, shared_bytes);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorInvalidValue"; }
const char* cudaGetErrorString(cudaError_t) { return "bench/predict_plans.cu has no answer"; }

}  // extern "C"
#endif

namespace {

// --- The launchers --------------------------------------------------------------------------------

const char* name_of(NormPath path) {
  switch (path) {
    case NormPath::kAuto:
      return "auto";
    case NormPath::kTwoPass:
      return "two_pass";
    case NormPath::kSlab:
      return "slab";
    case NormPath::kCluster:
      return "cluster";
    case NormPath::kPersistent:
      return "persistent";
  }
  throw std::runtime_error("bench/predict_plans.cu: a path without a name");
}

const char* name_of(Dtype dtype) {
  constexpr const char* kNames[] = {"float32", "bfloat16", "float16"};
  return kNames[static_cast<int>(dtype)];
}

const char* name_of(Layout layout) {
  return layout == Layout::kContiguous ? "contiguous" : "channels_last";
}

// The one of `all` that is called so.
template <class T>
T called(const std::string& name, std::initializer_list<T> all) {
  for (const T each : all)
    if (name == name_of(each)) return each;
  throw std::runtime_error("bench/predict_plans.cu: unknown name " + name);
}

// A launcher reads no tensor, so that any aligned address will do.
template <class T = void>
T* tensor() {
  return reinterpret_cast<T*>(uintptr_t{1} << 20);
}

// Packets of a tensor that a trip takes: of x alone forward, of dy and x backward.
void packets_in_flight(const Shape& shape, int& forward, int& backward) {
  with_view(shape, [&](auto view) {
    forward = decltype(view)::kFlight;
    backward = decltype(view)::kBatch;
  });
}

bool whole_packets(const Shape& shape) {
  return shape.width > 1 && (shape.channels_last || shape.images.pixels % shape.width == 0);
}

void print_launches(const char* direction, const Shape& shape) {
  for (const Asked& each : launches) {
    std::printf(
        "{\"direction\": \"%s\", \"symbol\": \"%s\", \"kernel\": \"%s\", \"blocks\": %ld, "
        "\"threads\": %d, \"shared_bytes\": %ld, \"cluster\": %d, \"cooperative\": %s, "
        "\"overlapping\": %s, \"resident\": %d, \"kept\": %d, \"tiling\": ",
        direction, each.symbol.c_str(), each.name.c_str(), static_cast<long>(each.blocks),
        each.threads, static_cast<long>(each.shared_bytes), each.cluster,
        each.cooperative ? "true" : "false", each.overlapping ? "true" : "false", each.resident,
        each.kept);
    if (!each.tiling) {
      std::printf("null}");
    } else {
      const Tiling& t = *each.tiling;
      std::printf(
          "{\"samples\": %ld, \"channels\": %ld, \"tiles\": %ld, \"piece\": %ld, \"pieces\": %d, "
          "\"units\": %d, \"group\": %d, \"across\": %d, \"chunks\": %d, \"round\": %d, "
          "\"slots\": %ld, \"packets_a_thread\": %ld}}",
          static_cast<long>(t.samples), static_cast<long>(t.channels), static_cast<long>(t.tiles),
          static_cast<long>(t.piece), t.pieces, t.units, t.group, t.across, t.chunks, t.round,
          static_cast<long>(t.slots()), static_cast<long>(packets_a_thread(shape, t)));
    }
    std::printf("%s", &each == &launches.back() ? "" : ", ");
  }
  launches.clear();
}

void answer(const ImageShape& images, NormPath path) {
  const Shape shape(images, true);
  const ConditionalBatchNorm op{images, 1e-5f, 0.2f, kClasses, tensor<const int64_t>(),
                                tensor<const float>(), tensor<const float>(), path};
  const auto where = [&](int64_t workspace_bytes) {
    return Launch{kDevice, nullptr, tensor(), workspace_bytes};
  };
  const int64_t forward_bytes = forward_workspace(images, true, path, kDevice);
  const int64_t backward_bytes = backward_workspace(images, true, path, kDevice);
  int forward_packets = 0, backward_packets = 0;
  packets_in_flight(shape, forward_packets, backward_packets);
  std::printf(
      "{\"paths\": [\"%s\", \"%s\"], \"workspace_bytes\": [%ld, %ld], \"channels_last\": %s, "
      "\"width\": %d, \"whole_packets\": %s, \"packets_in_flight\": [%d, %d], \"classes\": %d, "
      "\"launches\": [",
      name_of(forward_path(images, true, path, kDevice)),
      name_of(backward_path(images, true, path, kDevice)), static_cast<long>(forward_bytes),
      static_cast<long>(backward_bytes), shape.channels_last ? "true" : "false", shape.width,
      whole_packets(shape) ? "true" : "false", forward_packets, backward_packets, kClasses);

  float* const numbers = tensor<float>();
  conditional_batch_norm_forward(op, tensor(), tensor(), numbers, numbers, numbers,
                                 {numbers, numbers, 0.1}, where(forward_bytes));
  print_launches("forward", shape);
  std::printf(", ");
  conditional_batch_norm_backward(op, tensor(), tensor(), numbers, numbers, true, tensor(),
                                  numbers, numbers, where(backward_bytes));
  print_launches("backward", shape);
  std::printf("]}\n");
}

void obey(const std::string& line) {
  std::istringstream words(line);
  std::string what;
  words >> what;
  if (what == "device") {
    auto& on = pretended;
    words >> on.multiprocessors >> on.shared_bytes >> on.threads >> on.blocks >> on.architecture;
  } else if (what == "kernel") {
    std::string symbol;
    words >> symbol;
    words >> usages[symbol].registers >> usages[symbol].shared_bytes;
  } else if (what == "case") {
    std::string dtype, layout, path;
    ImageShape images{};
    words >> dtype >> layout >> images.samples >> images.channels >> images.pixels >> path;
    images.dtype = called(dtype, {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16});
    images.layout = called(layout, {Layout::kContiguous, Layout::kChannelsLast});
    answer(images, called(path, {NormPath::kAuto, NormPath::kTwoPass, NormPath::kSlab,
                                 NormPath::kCluster, NormPath::kPersistent}));
  }
  if (!words) throw std::runtime_error("not understood: " + line);
}

}  // namespace

int main() {
  try {
    for (std::string line; std::getline(std::cin, line);) obey(line);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
