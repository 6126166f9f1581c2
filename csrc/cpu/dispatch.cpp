#include "dispatch.h"

#include <cstdlib>

#if defined(CXRGAN_X86_LEVELS)
#include <cpuid.h>
#endif

namespace cxrgan::cpu {
namespace {

struct Level {
  SimdLevel level;
  const char* name;
};

// Lowest first.
constexpr Level kLevels[] = {
    {SimdLevel::kBaseline, "baseline"},
#if defined(CXRGAN_X86_LEVELS)
    {SimdLevel::kAvx2, "avx2"},
    {SimdLevel::kAvx512, "avx512"},
    {SimdLevel::kAvx512Bf16, "avx512_bf16"},
#endif
};

#if defined(CXRGAN_X86_LEVELS)
// Features that not every compiler's __builtin_cpu_supports knows by name.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1) != 0;
}

bool has_avx512_bf16() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1) != 0;
}
#endif

// Whether the CPU and the operating system run it, given that they run the level below.
bool supported(SimdLevel level) {
#if defined(CXRGAN_X86_LEVELS)
  __builtin_cpu_init();
  switch (level) {
    case SimdLevel::kAvx512Bf16:
      return has_avx512_bf16();
    case SimdLevel::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case SimdLevel::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case SimdLevel::kBaseline:
      break;
  }
#endif
  return level == SimdLevel::kBaseline;
}

SimdLevel pick() {
  const char* wanted = std::getenv("CXRGAN_SIMD");
  const std::string ceiling = wanted == nullptr ? "" : wanted;
  SimdLevel best = SimdLevel::kBaseline;
  for (const Level& each : kLevels) {
    if (!supported(each.level)) break;
    best = each.level;
    if (ceiling == each.name) break;
  }
  return best;
}

}  // namespace

SimdLevel simd_level() {
  static const SimdLevel level = pick();
  return level;
}

std::string simd_level_name() {
  for (const Level& each : kLevels)
    if (each.level == simd_level()) return each.name;
  return "";
}

std::vector<std::string> built_simd_levels() {
  std::vector<std::string> names;
  for (const Level& each : kLevels) names.push_back(each.name);
  return names;
}

}  // namespace cxrgan::cpu
