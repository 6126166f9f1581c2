// Which of the compiled instruction-set levels runs on this CPU.
#pragma once

#include <string>
#include <vector>

namespace cxrgan::cpu {

enum class SimdLevel { kBaseline, kAvx2, kAvx512 };

// The highest level that was built and that the CPU and the operating system support. The
// environment variable CXRGAN_SIMD (baseline, avx2 or avx512) can lower it.
SimdLevel simd_level();

std::string simd_level_name();

// The levels that were built, lowest first.
std::vector<std::string> built_simd_levels();

}  // namespace cxrgan::cpu

// The object NAME of the level in use, out of those of all levels.
#if defined(CXRGAN_X86_LEVELS)
#define CXRGAN_OF_LEVEL(NAME)                                         \
  (::cxrgan::cpu::simd_level() == ::cxrgan::cpu::SimdLevel::kAvx512   \
       ? ::cxrgan::avx512::NAME                                       \
       : ::cxrgan::cpu::simd_level() == ::cxrgan::cpu::SimdLevel::kAvx2 \
             ? ::cxrgan::avx2::NAME                                   \
             : ::cxrgan::baseline::NAME)
#else
#define CXRGAN_OF_LEVEL(NAME) (::cxrgan::baseline::NAME)
#endif
