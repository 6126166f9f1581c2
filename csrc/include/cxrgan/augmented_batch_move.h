// The three functions of augmented_batch.h as one: images moved, covered and written.
#pragma once

#include "cxrgan/augmented_batch.h"

#if defined(__CUDACC__)
#define CXRGAN_HOST_DEVICE __host__ __device__
#else
#define CXRGAN_HOST_DEVICE
#endif

namespace cxrgan {

// Where a sample's pixels come from: (h, w) from (h, w) + shift, unless they are in the hole.
struct Placement {
  int64_t shift_y, shift_x;
  int64_t hole_top, hole_bottom, hole_left, hole_right;  // [top, bottom) × [left, right)
};

// Kernels see nothing but this.
struct Move {
  int64_t samples, channels, height, width;  // of what is written
  Uniforms translation, cutout;              // of those samples
  bool inverse;                              // to bring pixels back where they came from
  float fill;
  // The first of the samples are stored images, or empty ones if there are no rows.
  int64_t stored_samples;
  const uint8_t* pixels;
  int64_t stored_count;
  const int64_t* rows;
  const bool* mirror;
  float scale, low;  // a pixel stands for its value times scale, plus low
  ImagesIn images;   // the other samples
  Noise noise;
  ImagesOut out;
};

// An integer in [least, least + count), each as likely, from a number uniform in [0, 1).
CXRGAN_HOST_DEVICE inline int64_t uniform_integer(float uniform, int64_t least, int64_t count) {
  const float scaled = uniform * static_cast<float>(count);
  // In this order, so that what is no number is 0. 0.99999994·count may round up to count.
  if (!(scaled > 0)) return least;
  if (scaled >= static_cast<float>(count)) return least + count - 1;
  return least + static_cast<int64_t>(scaled);
}

// To nearest, ties to even.
CXRGAN_HOST_DEVICE inline int64_t half_of(int64_t size) { return (size + (size / 2) % 2) / 2; }
CXRGAN_HOST_DEVICE inline int64_t eighth_of(int64_t size) {
  return (size + 3 + (size / 8) % 2) / 8;
}

CXRGAN_HOST_DEVICE inline Placement placement_of(const Move& move, int64_t sample) {
  Placement p{};
  if (move.cutout.values != nullptr) {
    const float* const pair = move.cutout.values + sample * move.cutout.stride;
    const int64_t hole_height = half_of(move.height), hole_width = half_of(move.width);
    p.hole_top = uniform_integer(pair[0], -(hole_height / 2), move.height);
    p.hole_left = uniform_integer(pair[1], -(hole_width / 2), move.width);
    p.hole_bottom = p.hole_top + hole_height;
    p.hole_right = p.hole_left + hole_width;
  }
  if (move.translation.values != nullptr) {
    const float* const pair = move.translation.values + sample * move.translation.stride;
    const int64_t most_y = eighth_of(move.height), most_x = eighth_of(move.width);
    p.shift_y = uniform_integer(pair[0], -most_y, 2 * most_y + 1);
    p.shift_x = uniform_integer(pair[1], -most_x, 2 * most_x + 1);
  }
  if (move.inverse) {
    // What was covered came from here; where nothing went, nothing comes back from either.
    p.hole_top += p.shift_y;
    p.hole_bottom += p.shift_y;
    p.hole_left += p.shift_x;
    p.hole_right += p.shift_x;
    p.shift_y = -p.shift_y;
    p.shift_x = -p.shift_x;
  }
  return p;
}

inline Move move_of(const AugmentedBatch& batch, const ImagesIn& images, const ImagesOut& out) {
  Move move{};
  move.samples = batch.samples();
  move.channels = batch.channels;
  move.height = batch.height;
  move.width = batch.width;
  move.translation = batch.translation;
  move.cutout = batch.cutout;
  move.stored_samples = batch.stored_samples;
  move.images = images;
  move.out = out;
  return move;
}

inline Move forward_move(const AugmentedBatch& batch, const StoredImages& stored,
                         const ImagesIn& fake, const Noise& noise, const ImagesOut& out) {
  Move move = move_of(batch, fake, out);
  move.fill = static_cast<float>((stored.low + stored.high) / 2);
  move.pixels = stored.pixels;
  move.stored_count = stored.count;
  move.rows = stored.rows;
  move.mirror = stored.mirror;
  move.scale = static_cast<float>((stored.high - stored.low) / 255);
  move.low = static_cast<float>(stored.low);
  move.noise = noise;
  return move;
}

inline Move linear_move(const AugmentedBatch& batch, const ImagesIn& tangent,
                        const ImagesOut& out) {
  return move_of(batch, tangent, out);
}

inline Move backward_move(const AugmentedBatch& batch, const ImagesIn& gradient,
                          const ImagesOut& out) {
  Move move = move_of(batch, gradient, out);
  const int64_t first = batch.stored_samples;
  const int64_t elements = first * batch.channels * batch.height * batch.width;
  const int64_t bytes = elements * (gradient.dtype == Dtype::kFloat32 ? 4 : 2);
  move.samples = batch.fake_samples;
  move.stored_samples = 0;
  move.inverse = true;
  move.images.data = static_cast<const char*>(gradient.data) + bytes;
  if (move.translation.values != nullptr)
    move.translation.values += first * move.translation.stride;
  if (move.cutout.values != nullptr) move.cutout.values += first * move.cutout.stride;
  return move;
}

}  // namespace cxrgan
