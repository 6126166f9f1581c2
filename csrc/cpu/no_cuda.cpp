// Stands in for csrc/cuda in a build without a CUDA compiler.
#include <stdexcept>

#include "cxrgan/device.h"

namespace cxrgan::cuda {

std::vector<Device> devices() {
  throw std::runtime_error("this build has no CUDA in it: no CUDA compiler was found");
}

}  // namespace cxrgan::cuda
