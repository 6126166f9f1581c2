#include "launch.h"

#include <map>
#include <mutex>
#include <stdexcept>

namespace cxrgan::cuda {
namespace {

constexpr int64_t kSharedWithoutOptIn = 48 << 10;

[[noreturn]] void fail(cudaError_t status, const std::string& what) {
  cudaGetLastError();  // or the next call of anyone in the process reports it again
  throw std::runtime_error(what + ": CUDA error " + cudaGetErrorName(status) + ": " +
                           cudaGetErrorString(status));
}

// Never launched: the runtime is asked what it has of it for a device.
__global__ void architecture_kernel() {}

Limits read_limits(int device) {
  const Current current(device);
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    const cudaError_t status = cudaDeviceGetAttribute(&value, which, device);
    if (status != cudaSuccess) fail(status, "cudaDeviceGetAttribute");
    return value;
  };
  // A device of capability 9.0 may run code that was compiled from PTX of an older one.
  cudaFuncAttributes code;
  const cudaError_t status = cudaFuncGetAttributes(&code, architecture_kernel);
  if (status != cudaSuccess) fail(status, "cudaFuncGetAttributes");
  return {attribute(cudaDevAttrMultiProcessorCount),
          attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
          attribute(cudaDevAttrComputeCapabilityMajor) >= 9 && code.ptxVersion >= 90,
          attribute(cudaDevAttrCooperativeLaunch) != 0};
}

}  // namespace

const Limits& limits_of(int device) {
  static std::mutex mutex;
  static std::map<int, Limits> known;  // its elements stay where they are
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(device);
  if (found != known.end()) return found->second;
  return known.emplace(device, read_limits(device)).first->second;
}

std::string describe(const Subject& subject) {
  if (subject.count >= 0)
    return std::string(subject.op) + " of " + std::to_string(subject.count) + " values";
  const char* const dtypes[] = {"float32", "bfloat16", "float16"};
  const ImageShape& shape = subject.shape;
  return std::string(subject.op) + " of " + std::to_string(shape.samples) + "×" +
         std::to_string(shape.channels) + " images of " + std::to_string(shape.pixels) +
         " pixels, " + dtypes[static_cast<int>(shape.dtype)] +
         (shape.layout == Layout::kChannelsLast ? ", channels_last" : ", contiguous");
}

Current::Current(int device) : device_(device), before_(device) {
  cudaError_t status = cudaGetDevice(&before_);
  if (status == cudaSuccess && before_ != device_) status = cudaSetDevice(device_);
  if (status != cudaSuccess) fail(status, "device " + std::to_string(device_));
}

Current::~Current() {
  if (before_ != device_) cudaSetDevice(before_);
}

Launcher::Launcher(const Subject& subject, const Launch& launch)
    : subject_(subject), where_(launch), current_(launch.device) {}

void* Launcher::workspace(int64_t bytes) const {
  if (bytes > where_.workspace_bytes)
    throw std::runtime_error(describe(subject_) + ": got a workspace of " +
                             std::to_string(where_.workspace_bytes) + " bytes, expected " +
                             std::to_string(bytes));
  return where_.workspace;
}

void Launcher::prepare(const void* kernel, const Grid& grid) const {
  // The same for every launch: threads that launch a kernel at once do not take it from each other.
  if (grid.shared_bytes > kSharedWithoutOptIn)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(limits_of(where_.device).shared_bytes_per_block)));
}

void Launcher::check(cudaError_t status) const {
  if (status != cudaSuccess) fail(status, describe(subject_));
}

}  // namespace cxrgan::cuda
