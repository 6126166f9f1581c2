// How the compiled core sees an image tensor: a pointer, a dtype, a layout and three extents.
#pragma once

#include <cstdint>

namespace cxrgan {

enum class Dtype : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

enum class Layout : int {
  kContiguous = 0,    // (N, C, H·W): a channel's plane is contiguous
  kChannelsLast = 1,  // (N, H·W, C): a pixel's channels are contiguous
};

// Images (N, C, H, W) without gaps; offsets into them are 64-bit everywhere.
struct ImageShape {
  Dtype dtype;
  Layout layout;
  int64_t samples;   // N
  int64_t channels;  // C
  int64_t pixels;    // H·W

  int64_t elements() const { return samples * channels * pixels; }
  int64_t values_per_channel() const { return samples * pixels; }  // M
};

}  // namespace cxrgan
