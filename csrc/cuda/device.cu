// Device query, and a probe kernel that tells whether the architectures built can run here.
#include "cxrgan/device.h"

#include <cuda_runtime.h>

#include <stdexcept>

namespace cxrgan::cuda {
namespace {

// Never launched: the runtime is asked whether it has an image of it for a device.
__global__ void probe_kernel() {}

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next call of anyone in the process reports it again
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

// Of the current device.
std::string probe() {
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe_kernel);
  if (status == cudaSuccess) return "";
  cudaGetLastError();
  return cudaGetErrorString(status);
}

Device describe(int index, int driver_version, int runtime_version) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  check(cudaSetDevice(index), "cudaSetDevice");
  Device device;
  device.name = properties.name;
  device.major = properties.major;
  device.minor = properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  device.l2_bytes = properties.l2CacheSize;
  device.shared_bytes_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
  device.driver_version = driver_version;
  device.runtime_version = runtime_version;
  device.probe_error = probe();
  return device;
}

}  // namespace

std::vector<Device> devices() {
  int count = 0, driver_version = 0, runtime_version = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  check(cudaDriverGetVersion(&driver_version), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime_version), "cudaRuntimeGetVersion");
  int current = 0;
  check(cudaGetDevice(&current), "cudaGetDevice");
  std::vector<Device> found;
  for (int index = 0; index < count; ++index)
    found.push_back(describe(index, driver_version, runtime_version));
  check(cudaSetDevice(current), "cudaSetDevice");
  return found;
}

std::string probe_error(int device) {
  int current = 0;
  cudaError_t status = cudaGetDevice(&current);
  if (status == cudaSuccess) status = cudaSetDevice(device);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(status);
  }
  const std::string error = probe();
  check(cudaSetDevice(current), "cudaSetDevice");
  return error;
}

}  // namespace cxrgan::cuda
