#include "device.h"

#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <sstream>
#include <string>

namespace cuda_standin {
namespace {

constexpr int kVersion = 13000;

struct Kind {
  int capability, threads, blocks;
  size_t shared_kib;
};
constexpr Kind kKinds[] = {{75, 1024, 16, 64},  {80, 2048, 32, 163},  {86, 1536, 16, 99},
                           {89, 1536, 24, 99},  {90, 2048, 32, 227},  {100, 2048, 32, 227},
                           {120, 1536, 24, 99}};

}  // namespace

bool read_device(Device* device) {
  const char* const text = getenv("CXRGAN_STANDIN_DEVICE");
  std::istringstream settings(text == nullptr ? "" : text);
  std::string setting;
  size_t shared = 0;
  int ptx = 0;
  while (std::getline(settings, setting, ',')) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) return false;
    const std::string name = setting.substr(0, equals);
    char* end = nullptr;
    const long value = strtol(setting.c_str() + equals + 1, &end, 10);
    if (value < 0 || *end != '\0' || (value == 0 && name != "cooperative")) return false;
    if (name == "sms") {
      device->multiprocessors = static_cast<int>(value);
    } else if (name == "shared") {
      shared = static_cast<size_t>(value);
    } else if (name == "l2") {
      device->l2 = static_cast<int>(value);
    } else if (name == "ptx") {
      ptx = static_cast<int>(value);
    } else if (name == "cooperative") {
      device->cooperative = value != 0;
    } else if (name == "cc") {
      const auto* const kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                            [&](const Kind& k) { return k.capability == value; });
      if (kind == std::end(kKinds)) return false;
      device->major = kind->capability / 10;
      device->minor = kind->capability % 10;
      device->threads = kind->threads;
      device->blocks = kind->blocks;
      device->shared = kind->shared_kib * 1024;
    } else {
      return false;
    }
  }
  if (shared != 0) device->shared = shared;
  device->ptx = ptx != 0 ? ptx : device->major * 10 + device->minor;
  return true;
}

}  // namespace cuda_standin

using namespace cuda_standin;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return record(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  Device device;
  if (!read_device(&device)) return record(cudaErrorInitializationError);
  if (index != 0) return record(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = 0x7fffffff;
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = 65535;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(kSharedByDefault);
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = kRegisters;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = device.multiprocessors;
      break;
    case cudaDevAttrL2CacheSize:
      *value = device.l2;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = device.threads;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = device.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = device.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(device.shared_of_multiprocessor());
      break;
    case cudaDevAttrCooperativeLaunch:
      *value = device.cooperative;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(device.shared);
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = device.blocks;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = static_cast<int>(device.reserved_shared());
      break;
    case cudaDevAttrClusterLaunch:
      *value = device.major >= 9;
      break;
    default:
      return record(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  Device device;
  if (!read_device(&device)) return record(cudaErrorInitializationError);
  if (index != 0) return record(cudaErrorInvalidDevice);
  *properties = {};
  snprintf(properties->name, sizeof(properties->name), "CPU in the place of a GPU");
  properties->totalGlobalMem = size_t{8} << 30;
  properties->sharedMemPerBlock = kSharedByDefault;
  properties->sharedMemPerBlockOptin = device.shared;
  properties->sharedMemPerMultiprocessor = device.shared_of_multiprocessor();
  properties->major = device.major;
  properties->minor = device.minor;
  properties->multiProcessorCount = device.multiprocessors;
  properties->l2CacheSize = device.l2;
  properties->warpSize = 32;
  properties->regsPerBlock = kRegisters;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = device.threads;
  properties->maxBlocksPerMultiProcessor = device.blocks;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}
