// Which of the compiled instruction-set levels runs on this CPU.
#pragma once

#include <string>
#include <vector>

namespace cxrgan::cpu {

enum class SimdLevel { kBaseline, kAvx2, kAvx512, kAvx512Bf16 };

// The highest level that was built and that the CPU and the operating system support. The
// environment variable CXRGAN_SIMD (baseline, avx2, avx512 or avx512_bf16) can lower it.
SimdLevel simd_level();

std::string simd_level_name();

// The levels that were built, lowest first.
std::vector<std::string> built_simd_levels();

#if defined(CXRGAN_X86_LEVELS)
template <class Kernels>
const Kernels& of_level(const Kernels& baseline, const Kernels& avx2, const Kernels& avx512,
                        const Kernels& avx512_bf16) {
  switch (simd_level()) {
    case SimdLevel::kAvx512Bf16:
      return avx512_bf16;
    case SimdLevel::kAvx512:
      return avx512;
    case SimdLevel::kAvx2:
      return avx2;
    case SimdLevel::kBaseline:
      break;
  }
  return baseline;
}
#endif

}  // namespace cxrgan::cpu

// The object NAME of the level in use, out of those of all levels.
#if defined(CXRGAN_X86_LEVELS)
#define CXRGAN_OF_LEVEL(NAME)                                                          \
  ::cxrgan::cpu::of_level(::cxrgan::baseline::NAME, ::cxrgan::avx2::NAME,              \
                          ::cxrgan::avx512::NAME, ::cxrgan::avx512_bf16::NAME)
#else
#define CXRGAN_OF_LEVEL(NAME) (::cxrgan::baseline::NAME)
#endif
