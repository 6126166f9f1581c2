#include "predict_runtime.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <map>

namespace predict {
namespace {

constexpr int kReservedBytes = 1024;  // of each block's shared memory, by the driver
constexpr int kRegisters = 65536;     // of a multiprocessor
constexpr int kRegistersAtOnce = 256; // given to a warp
constexpr int kWarp = 32;

// Made on first use: kernels are registered before this file's own globals are.
template <class T>
T& only() {
  static T object;
  return object;
}

struct Symbols : std::map<const void*, std::string> {};
struct Usages : std::map<std::string, Usage> {};
struct Kept : std::map<std::string, size_t> {};
struct Launches : std::vector<Launch> {};

std::string without(std::string text, const std::string& part) {
  for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
  return text;
}

struct Spelled {
  std::string name;
  std::vector<std::string> parameters;  // types
};

Spelled spelled(const std::string& symbol) {
  int status = 0;
  char* const demangled = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string text = status == 0 ? demangled : symbol;
  std::free(demangled);
  for (const char* part : {"void ", "cxrgan::cuda::", "(anonymous namespace)::"})
    text = without(text, part);
  Spelled found;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    depth += text[i] == '<' ? 1 : text[i] == '>' ? -1 : 0;
    if (depth > 0) continue;
    if (text[i] == '(') {
      found.name = text.substr(0, i);
      begin = i + 1;
    } else if (text[i] == ',' || text[i] == ')') {
      found.parameters.push_back(text.substr(begin, i - begin));
      begin = i + 2;  // ", "
    }
  }
  return found;
}

int blocks_at_once(const std::string& symbol, int threads, size_t shared_bytes) {
  const Device& on = device();
  const Usage usage = only<Usages>()[symbol];
  const int warps = (threads + kWarp - 1) / kWarp;
  int blocks = std::min(on.blocks, on.threads / (warps * kWarp));
  const int of_warp =
      (usage.registers * kWarp + kRegistersAtOnce - 1) / kRegistersAtOnce * kRegistersAtOnce;
  if (of_warp > 0) blocks = std::min(blocks, kRegisters / of_warp / warps);
  const size_t of_block = shared_bytes + usage.shared_bytes + kReservedBytes;
  return std::min(blocks, static_cast<int>((on.shared_bytes + kReservedBytes) / of_block));
}

cudaError_t record(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, void** arguments,
                   const cudaLaunchAttribute* attributes, unsigned count, bool cooperative) {
  Launch launch;
  launch.symbol = only<Symbols>()[kernel];
  const Spelled known = spelled(launch.symbol);
  launch.name = known.name;
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
  for (size_t i = 0; i < known.parameters.size(); ++i) {
    const auto kept = only<Kept>().find(known.parameters[i]);
    if (kept == only<Kept>().end()) continue;
    const auto* const bytes = static_cast<const std::byte*>(arguments[i]);
    launch.parameters[kept->first].assign(bytes, bytes + kept->second);
  }
  only<Launches>().push_back(std::move(launch));
  return cudaSuccess;
}

}  // namespace

Device& device() { return only<Device>(); }

void set_usage(const std::string& symbol, const Usage& usage) { only<Usages>()[symbol] = usage; }

void keep(const std::string& type, size_t bytes) { only<Kept>()[type] = bytes; }

std::vector<Launch> taken() {
  std::vector<Launch> launches(std::move(static_cast<std::vector<Launch>&>(only<Launches>())));
  only<Launches>().clear();
  return launches;
}

}  // namespace predict

// What nvcc's host code calls, and the launchers of csrc/cuda. What is missing here does not link.

using namespace predict;

extern "C" {

void** __cudaRegisterFatBinary(void*) { return nullptr; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 0; }
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* kernel, char*, const char* symbol, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  only<Symbols>()[kernel] = symbol;
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
  Launch launch;
  launch.symbol = launch.name = "memset";
  launch.blocks = launch.threads = launch.resident = 1;
  only<Launches>().push_back(std::move(launch));
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const Device& on = device();
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = on.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = on.shared_bytes;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = on.shared_bytes + kReservedBytes;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = on.architecture / 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = on.architecture % 10;
      return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
      *value = 1;
      return cudaSuccess;
    default:
      return cudaErrorInvalidValue;  // answered wrongly, a plan would be another one
  }
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  const Usage usage = only<Usages>()[only<Symbols>()[kernel]];
  *attributes = {};
  attributes->numRegs = usage.registers;
  attributes->sharedSizeBytes = usage.shared_bytes;
  attributes->ptxVersion = attributes->binaryVersion = device().architecture;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* kernel,
                                                                   int threads, size_t shared_bytes,
                                                                   unsigned) {
  *blocks = blocks_at_once(only<Symbols>()[kernel], threads, shared_bytes);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel,
                                                          int threads, size_t shared_bytes) {
  *blocks = blocks_at_once(only<Symbols>()[kernel], threads, shared_bytes);
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
const char* cudaGetErrorString(cudaError_t) { return "bench/predict_runtime.cpp has no answer"; }

}  // extern "C"
