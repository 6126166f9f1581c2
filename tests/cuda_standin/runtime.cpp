#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "device.h"
#include "scheduler.h"

namespace cuda_standin {
namespace {

constexpr int kRegistersOfThread = 32;

// ---- Errors

struct Text {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr Text kTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError",
     "initialization error: CXRGAN_STANDIN_DEVICE or CXRGAN_STANDIN_ORDER cannot be read"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorCooperativeLaunchTooLarge, "cudaErrorCooperativeLaunchTooLarge",
     "too many blocks in cooperative launch"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorInvalidClusterSize, "cudaErrorInvalidClusterSize", "cluster misconfiguration"},
};

const Text& text_of(cudaError_t error) {
  for (const Text& each : kTexts)
    if (each.error == error) return each;
  static constexpr Text unknown = {cudaSuccess, "unrecognized error code",
                                   "unrecognized error code"};
  return unknown;
}

// Of what follows, and of launches: fibers.cpp and scheduler.cpp have one at a time.
std::mutex mutex;
Outcome failed = {cudaSuccess, ""};  // of a kernel; stays
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t failure_of_kernel() {
  const std::lock_guard<std::mutex> lock(mutex);
  return failed.error;
}

// ---- Attributes of kernels

struct Limits {
  size_t dynamic_shared = kSharedByDefault;
  bool large_clusters = false;
};
std::unordered_map<const void*, Limits> limits_of;

unsigned count_of(const dim3& extent) { return extent.x * extent.y * extent.z; }

// The cluster that a launch asks for, 1, 1, 1 if it does not, and whether it is cooperative.
cudaError_t read_attributes(const cudaLaunchConfig_t& config, dim3* cluster, bool* cooperative) {
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    switch (attribute.id) {
      case cudaLaunchAttributeClusterDimension:
        *cluster = dim3(attribute.val.clusterDim.x, attribute.val.clusterDim.y,
                        attribute.val.clusterDim.z);
        break;
      case cudaLaunchAttributeCooperative:
        *cooperative = attribute.val.cooperative != 0;
        break;
      case cudaLaunchAttributeIgnore:
      case cudaLaunchAttributeProgrammaticStreamSerialization:
        break;
      default:
        return cudaErrorInvalidValue;
    }
  }
  return cudaSuccess;
}

cudaError_t check_block(const Device& device, const dim3& block, size_t shared,
                        const Limits& limits) {
  if (block.x < 1 || block.y < 1 || block.z < 1 || block.x > 1024 || block.y > 1024 ||
      block.z > 64 || count_of(block) > 1024)
    return cudaErrorInvalidConfiguration;
  if (shared > limits.dynamic_shared || shared > device.shared) return cudaErrorInvalidValue;
  return cudaSuccess;
}

cudaError_t check_cluster(const Device& device, const dim3& grid, const dim3& cluster,
                          const Limits& limits) {
  if (count_of(cluster) == 1) return cudaSuccess;
  if (device.major < 9) return cudaErrorNotSupported;
  const unsigned most = limits.large_clusters ? 16 : 8;
  if (cluster.x < 1 || cluster.y < 1 || cluster.z < 1 || cluster.x > most || cluster.y > most ||
      cluster.z > most || count_of(cluster) > most || grid.x % cluster.x != 0 ||
      grid.y % cluster.y != 0 || grid.z % cluster.z != 0)
    return cudaErrorInvalidClusterSize;
  return cudaSuccess;
}

cudaError_t check(const Device& device, const cudaLaunchConfig_t& config, const dim3& cluster,
                  const Limits& limits) {
  const dim3& grid = config.gridDim;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  const cudaError_t status =
      check_block(device, config.blockDim, config.dynamicSmemBytes, limits);
  return status != cudaSuccess ? status : check_cluster(device, grid, cluster, limits);
}

// How many blocks of a kernel a multiprocessor holds at once.
int resident_blocks(const Device& device, const dim3& block, size_t shared_bytes,
                    const Limits& limits) {
  if (check_block(device, block, shared_bytes, limits) != cudaSuccess) return 0;
  const int rounded = static_cast<int>((count_of(block) + 31) / 32 * 32);
  int blocks = std::min({device.blocks, device.threads / rounded,
                         kRegisters / (rounded * kRegistersOfThread)});
  const size_t of_block = shared_bytes + device.reserved_shared();
  if (of_block != 0)
    blocks = std::min(blocks, static_cast<int>(device.shared_of_multiprocessor() / of_block));
  return blocks;
}

cudaError_t check_cooperative(const Device& device, const cudaLaunchConfig_t& config,
                              const Limits& limits) {
  if (!device.cooperative) return cudaErrorNotSupported;
  const int blocks =
      resident_blocks(device, config.blockDim, config.dynamicSmemBytes, limits);
  const size_t at_once = static_cast<size_t>(blocks) * static_cast<size_t>(device.multiprocessors);
  return count_of(config.gridDim) <= at_once ? cudaSuccess : cudaErrorCooperativeLaunchTooLarge;
}

}  // namespace

cudaError_t record(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, Call call,
                   const void* arguments) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (failed.error != cudaSuccess) return record(failed.error);
  Device device;
  Order order;
  if (!read_device(&device) || !read_order(&order)) return record(cudaErrorInitializationError);
  dim3 cluster;
  bool cooperative = false;
  cudaError_t status = read_attributes(config, &cluster, &cooperative);
  if (status == cudaSuccess) status = check(device, config, cluster, limits_of[kernel]);
  if (status == cudaSuccess && cooperative)
    status = check_cooperative(device, config, limits_of[kernel]);
  if (status != cudaSuccess) return record(status);
  failed = run({config.gridDim, config.blockDim, cluster, config.dynamicSmemBytes, cooperative, call,
                arguments},
               order);
  return record(failed.error);
}

cudaError_t set_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const std::lock_guard<std::mutex> lock(mutex);
  Device device;
  if (!read_device(&device)) return record(cudaErrorInitializationError);
  Limits& limits = limits_of[kernel];
  switch (attribute) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize:
      if (value < 0 || static_cast<size_t>(value) > device.shared)
        return record(cudaErrorInvalidValue);
      limits.dynamic_shared = static_cast<size_t>(value);
      return cudaSuccess;
    case cudaFuncAttributeNonPortableClusterSizeAllowed:
      limits.large_clusters = value != 0;
      return cudaSuccess;
    case cudaFuncAttributePreferredSharedMemoryCarveout:
      return value < -1 || value > 100 ? record(cudaErrorInvalidValue) : cudaSuccess;
  }
  return record(cudaErrorInvalidValue);
}

cudaError_t get_attributes(cudaFuncAttributes* attributes, const void* kernel) {
  const std::lock_guard<std::mutex> lock(mutex);
  Device device;
  if (!read_device(&device)) return record(cudaErrorInitializationError);
  const int capability = device.major * 10 + device.minor;
  *attributes = {0, 0, 0, 1024, kRegistersOfThread, device.ptx, capability,
                 static_cast<int>(limits_of[kernel].dynamic_shared)};
  return cudaSuccess;
}

cudaError_t active_blocks(int* blocks, const void* kernel, int threads, size_t shared_bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  Device device;
  if (!read_device(&device)) return record(cudaErrorInitializationError);
  if (threads < 1) return record(cudaErrorInvalidValue);
  *blocks = resident_blocks(device, dim3(static_cast<unsigned>(threads)), shared_bytes,
                            limits_of[kernel]);
  return cudaSuccess;
}

cudaError_t active_clusters(int* clusters, const void* kernel, const cudaLaunchConfig_t& config) {
  Device device;
  dim3 cluster;
  if (!read_device(&device)) return record(cudaErrorInitializationError);
  bool cooperative = false;
  cudaError_t status = read_attributes(config, &cluster, &cooperative);
  if (status == cudaSuccess) {
    const std::lock_guard<std::mutex> lock(mutex);
    status = check(device, config, cluster, limits_of[kernel]);
  }
  if (status != cudaSuccess) return record(status);
  int blocks = 0;
  status = active_blocks(&blocks, kernel, static_cast<int>(count_of(config.blockDim)),
                         config.dynamicSmemBytes);
  *clusters = blocks * device.multiprocessors / static_cast<int>(count_of(cluster));
  return status;
}

}  // namespace cuda_standin

using namespace cuda_standin;

cudaError_t cudaDeviceReset() {
  const std::lock_guard<std::mutex> lock(mutex);
  failed = {cudaSuccess, ""};
  last_error = cudaSuccess;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return record(failure_of_kernel()); }

cudaError_t cudaStreamSynchronize(cudaStream_t) { return record(failure_of_kernel()); }

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  const cudaError_t status = failure_of_kernel();
  if (status == cudaSuccess) memset(to, value, bytes);
  return record(status);
}

cudaError_t cudaPeekAtLastError() {
  const cudaError_t status = failure_of_kernel();
  return status != cudaSuccess ? status : last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t status = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return status;
}

const char* cudaGetErrorName(cudaError_t error) { return text_of(error).name; }

const char* cudaGetErrorString(cudaError_t error) {
  static thread_local std::string text;
  const std::lock_guard<std::mutex> lock(mutex);
  text = text_of(error).text;
  if (error != cudaSuccess && error == failed.error) text += ": " + failed.message;
  return text.c_str();
}
