#include "dispatch.h"

#include <cstdlib>

namespace cxrgan::cpu {
namespace {

const char* name_of(SimdLevel level) {
  switch (level) {
    case SimdLevel::kAvx512:
      return "avx512";
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kBaseline:
      break;
  }
  return "baseline";
}

bool supported(SimdLevel level) {
#if defined(CXRGAN_X86_LEVELS)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (level == SimdLevel::kAvx512) return avx512;
  if (level == SimdLevel::kAvx2) return avx2;
#endif
  return level == SimdLevel::kBaseline;
}

SimdLevel pick() {
  const char* wanted = std::getenv("CXRGAN_SIMD");
  const std::string ceiling = wanted == nullptr ? "avx512" : wanted;
  if (ceiling != "baseline") {
    if (ceiling != "avx2" && supported(SimdLevel::kAvx512)) return SimdLevel::kAvx512;
    if (supported(SimdLevel::kAvx2)) return SimdLevel::kAvx2;
  }
  return SimdLevel::kBaseline;
}

}  // namespace

SimdLevel simd_level() {
  static const SimdLevel level = pick();
  return level;
}

std::string simd_level_name() { return name_of(simd_level()); }

std::vector<std::string> built_simd_levels() {
#if defined(CXRGAN_X86_LEVELS)
  return {name_of(SimdLevel::kBaseline), name_of(SimdLevel::kAvx2), name_of(SimdLevel::kAvx512)};
#else
  return {name_of(SimdLevel::kBaseline)};
#endif
}

}  // namespace cxrgan::cpu
