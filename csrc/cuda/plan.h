// How images are divided among blocks and warps on a device: the numbers of a Tiling (strips.cuh).
#pragma once

#include <cstdint>
#include <stdexcept>

#include "launch.h"
#include "strips.cuh"

namespace cxrgan::cuda {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

// The least power of two that is at least `value`, and at most `most`.
inline int power_of_two(int64_t value, int most) {
  int power = 1;
  while (power < value && power < most) power *= 2;
  return power;
}

inline int64_t size_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

// Which view of the images a launch takes: its template parameters.
struct Shape {
  ImageShape images;
  bool channels_last;
  int width;  // values a packet

  Shape(const ImageShape& shape, bool aligned)
      : images(shape),
        // An image of one pixel is the same in both layouts, and its planes would be too small.
        channels_last(shape.layout == Layout::kChannelsLast || shape.pixels == 1),
        width(static_cast<int>(16 / size_of(shape.dtype))) {
    const bool fits = channels_last ? shape.channels % width == 0
                                    : shape.pixels % width == 0 || shape.pixels >= 4 * width;
    if (!aligned || !fits) width = 1;
  }
};

// Whether 16 bytes can be accessed at once, from each of some addresses.
template <class... Pointers>
bool all_aligned(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

// The most lanes side by side across channels whose packets are `bytes` of a pixel.
inline int lanes_of(const Shape& shape, int bytes) {
  return static_cast<int>(
      clamp(bytes / (shape.width * size_of(shape.images.dtype)), 1, kWarp));
}

// packets: how many a lane takes of a unit at most. across: most lanes side by side across channels.
inline Tiling tiling_of(const Shape& shape, int packets, int across) {
  const ImageShape& images = shape.images;
  Tiling t{};
  t.samples = images.samples;
  t.channels = images.channels;
  t.pixels = images.pixels;
  int64_t pixels_a_turn;  // that a unit's lanes take with a packet each
  if (shape.channels_last) {
    t.across = power_of_two(divide_up(t.channels, shape.width), across);
    t.group = kWarp;
    t.tiles = divide_up(t.channels, t.across * shape.width);
    pixels_a_turn = kWarp / t.across;
  } else {
    t.across = 1;
    // Several packets to a lane, which go together, rather than a warp to a small plane.
    const int64_t of_lane = smaller(packets, 4);
    t.group = power_of_two(divide_up(t.pixels, of_lane * shape.width), kWarp);
    t.tiles = t.channels;
    pixels_a_turn = t.group * shape.width;
  }
  // Units are counted in 32 bits; where there would be too many, they are longer.
  constexpr int64_t kMostUnits = int64_t{1} << 30;
  if (t.samples > kMostUnits) throw std::runtime_error("more than 2^30 samples in a batch");
  int64_t turns = packets;
  while (t.samples * divide_up(t.pixels, pixels_a_turn * turns) > kMostUnits) turns *= 2;
  t.pieces = static_cast<int>(divide_up(t.pixels, pixels_a_turn * turns));
  // Pieces of equal length, of whole turns.
  t.piece = divide_up(divide_up(t.pixels, t.pieces), pixels_a_turn) * pixels_a_turn;
  t.pieces = static_cast<int>(divide_up(t.pixels, t.piece));
  t.units = static_cast<int>(t.samples * t.pieces);
  return t;
}

// Gives a tiling at most so many blocks, at least one to a tile, and none without work.
inline Tiling with_blocks(Tiling t, int threads, int64_t blocks) {
  t.round = threads / t.group;
  t.chunks = static_cast<int>(clamp(blocks / t.tiles, 1, t.rounds()));
  return t;
}

// The tiling of a launch of two-pass kernels: long units, whose sums are few, but enough of them.
inline Tiling pass_tiling(const Shape& shape, const Limits& limits) {
  constexpr int kWarpsAMultiprocessor = 16, kFewestPackets = 8;
  // In channels_last a lane's sums are of its own channels; those of a plane's lanes are one.
  int packets = shape.channels_last ? 64 : 16;
  const int across = lanes_of(shape, 128);  // a cache line
  Tiling t = tiling_of(shape, packets, across);
  const int64_t wanted = static_cast<int64_t>(limits.multiprocessors) * kWarpsAMultiprocessor;
  while (packets > kFewestPackets && t.units * t.tiles * t.group / kWarp < wanted)
    t = tiling_of(shape, packets /= 2, across);
  return t;
}

// The packets that a thread has of a tile shared by `chunks` blocks, at most.
inline int64_t packets_a_thread(const Shape& shape, const Tiling& t) {
  const int64_t units = divide_up(t.rounds(), t.chunks);
  if (shape.channels_last) return units * divide_up(t.piece, t.group / t.across);
  const bool whole = t.pixels % shape.width == 0;  // else a piece begins and ends within packets
  return units * divide_up(divide_up(t.piece, shape.width) + (whole ? 0 : 1), t.group);
}

// Calls body(View{}) with the shape's view.
template <class T, class Body>
void with_view_of(const Shape& shape, const Body& body) {
  constexpr int kWidth = 16 / sizeof(T);
  if (shape.channels_last) {
    if (shape.width == 1) return body(View<T, 1, true>{});
    return body(View<T, kWidth, true>{});
  }
  if (shape.width == 1) return body(View<T, 1, false>{});
  if (shape.images.pixels % kWidth != 0) return body(View<T, kWidth, false, true>{});
  return body(View<T, kWidth, false>{});
}

template <class Body>
void with_view(const Shape& shape, const Body& body) {
  switch (shape.images.dtype) {
    case Dtype::kFloat32:
      return with_view_of<float>(shape, body);
    case Dtype::kBFloat16:
      return with_view_of<BFloat16>(shape, body);
    case Dtype::kFloat16:
      return with_view_of<Float16>(shape, body);
  }
}

}  // namespace cxrgan::cuda
