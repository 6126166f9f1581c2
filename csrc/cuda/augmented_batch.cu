// The launchers of cxrgan/augmented_batch.h on a GPU: one kernel, which writes what it reads.
//
// A line is a row of pixels as the output has it in memory: of all channels side by side
// (channels_last), or of one. A block has lines of one sample, and so one placement and one source;
// a group of lanes (a warp, or less where lines are short) takes a line, packets side by side.
#include "cxrgan/augmented_batch.h"

#include <stdexcept>

#include "cxrgan/augmented_batch_move.h"
#include "launch.h"
#include "packet.cuh"
#include "plan.h"

namespace cxrgan::cuda {
namespace {

constexpr int kThreads = 256;

// From an element of an image to its neighbors.
struct Strides {
  int64_t channel, pixel;
};

__host__ __device__ __forceinline__ Strides strides_of(const Move& move, Layout layout) {
  if (layout == Layout::kChannelsLast) return {1, move.channels};
  return {move.height * move.width, 1};
}

// How a launch is divided; the same for every block.
struct Lines {
  int depth;         // channels of a line
  int length;        // elements of a line
  int64_t planes;    // lines of a sample at the same height
  int64_t count;     // of a sample
  int64_t of_block;
  int64_t blocks;    // of a sample
  int group;         // lanes to a line, a power of two
  bool noise_is_line;  // whether the noise has a line's elements side by side too
};

// Of a pixel, in the first channel that a line of that plane has.
__device__ __forceinline__ int64_t offset_of(const Move& move, const Lines& lines, int64_t sample,
                                             int64_t plane, int64_t y, const Strides& strides) {
  return sample * move.channels * move.height * move.width +
         plane * lines.depth * strides.channel + y * move.width * strides.pixel;
}

// Where a sample comes from: an image of type T, and what a value of it stands for.
template <class T>
struct Source {
  const T* image;  // nullptr: nothing is read
  Strides strides;
  int64_t sample;
  bool mirrored;
  float scale, low;

  __device__ __forceinline__ float operator()(int64_t at) const {
    if constexpr (sizeof(T) == 1) return __fadd_rn(__fmul_rn(image[at], scale), low);
    if constexpr (sizeof(T) > 1) return to_float(image[at]);
  }
};

// body(source, fill) for a block's sample.
template <class Body>
__device__ __forceinline__ void with_source(const Move& move, int64_t sample, const Body& body) {
  if (sample < move.stored_samples) {
    Source<uint8_t> source{};
    if (move.rows == nullptr) return body(source, move.fill);
    const int64_t row = move.rows[sample];
    if (row < 0 || row >= move.stored_count) return body(source, nanf(""));
    return body(Source<uint8_t>{move.pixels, strides_of(move, Layout::kContiguous), row,
                                move.mirror != nullptr && move.mirror[sample], move.scale,
                                move.low},
                move.fill);
  }
  const Strides strides = strides_of(move, move.images.layout);
  const int64_t n = sample - move.stored_samples;
  switch (move.images.dtype) {
    case Dtype::kFloat32:
      return body(Source<float>{static_cast<const float*>(move.images.data), strides, n},
                  move.fill);
    case Dtype::kBFloat16:
      return body(Source<BFloat16>{static_cast<const BFloat16*>(move.images.data), strides, n},
                  move.fill);
    case Dtype::kFloat16:
      return body(Source<Float16>{static_cast<const Float16*>(move.images.data), strides, n},
                  move.fill);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) move_kernel(Move move, Lines lines) {
  const int64_t sample = blockIdx.x / lines.blocks;
  const int64_t first = blockIdx.x % lines.blocks * lines.of_block;
  const int64_t end = smaller(first + lines.of_block, lines.count);
  const int groups = blockDim.x / lines.group, lane = threadIdx.x % lines.group;
  const int width = static_cast<int>(move.width);
  const Placement p = placement_of(move, sample);
  // Across a line 32 bits suffice.
  const int shift = static_cast<int>(p.shift_x);
  const int hole_left = static_cast<int>(p.hole_left);
  const int hole_right = static_cast<int>(p.hole_right);
  const Strides noise_strides = strides_of(move, move.noise.layout);
  const float std = move.noise.values != nullptr ? *move.noise.std : 0.0f;
  with_source(move, sample, [&](const auto& source, float fill) {
    for (int64_t line = first + threadIdx.x / lines.group; line < end; line += groups) {
      const int64_t plane = lines.planes == 1 ? 0 : line / move.height;
      const int64_t y = line - plane * move.height, from_y = y + p.shift_y;
      const bool reads = source.image != nullptr && from_y >= 0 && from_y < move.height;
      const bool covered = y >= p.hole_top && y < p.hole_bottom;
      const int64_t from =
          offset_of(move, lines, source.sample, plane, from_y, source.strides);
      const int64_t to = (sample * lines.count + line) * lines.length;
      const int64_t noise_at = offset_of(move, lines, sample, plane, y, noise_strides);
#pragma unroll 1  // the packet's values are enough at once
      for (int at = lane * kWidth; at < lines.length; at += lines.group * kWidth) {
        int x = lines.depth == 1 ? at : at / lines.depth;
        int c = at - x * lines.depth;
        float values[kWidth], noise[kWidth];
        if (move.noise.values != nullptr && lines.noise_is_line)
          unpack(*reinterpret_cast<const Packet<float, kWidth>*>(move.noise.values + to + at),
                 noise);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          const int from_x = x + shift;
          const bool keeps = reads && from_x >= 0 && from_x < width &&
                             !(covered && x >= hole_left && x < hole_right);
          const int64_t column = source.mirrored ? width - 1 - from_x : from_x;
          values[i] = fill;
          if (keeps)
            values[i] = source(from + column * source.strides.pixel + c * source.strides.channel);
          if (move.noise.values != nullptr) {
            if (!lines.noise_is_line)
              noise[i] = move.noise.values[noise_at + x * noise_strides.pixel +
                                           c * noise_strides.channel];
            values[i] = __fadd_rn(values[i], __fmul_rn(std, noise[i]));
          }
          if (++c == lines.depth) {
            c = 0;
            ++x;
          }
        }
        *reinterpret_cast<Packet<T, kWidth>*>(static_cast<T*>(move.out.data) + to + at) =
            pack<T, kWidth>(values);
      }
    }
  });
}

Lines lines_of(const Move& move, int width, int device) {
  constexpr int64_t kMostBlocks = 0x7fffffff, kBlocksAMultiprocessor = 8;
  Lines lines{};
  const int64_t depth = move.out.layout == Layout::kChannelsLast ? move.channels : 1;
  if (move.samples > kMostBlocks || depth * move.width > kMostBlocks / 2)
    throw std::runtime_error("augmented_batch: more than 2^31 samples, or 2^30 values a row");
  lines.depth = static_cast<int>(depth);
  lines.length = static_cast<int>(depth * move.width);
  lines.planes = move.channels / depth;
  lines.count = lines.planes * move.height;
  lines.group = power_of_two(divide_up(lines.length, width), kWarp);
  const Strides noise = strides_of(move, move.noise.layout);
  lines.noise_is_line = noise.pixel == depth && (depth == 1 || noise.channel == 1);
  // Long blocks read the placement less often; short ones are enough for all multiprocessors.
  const int64_t wanted = kBlocksAMultiprocessor * limits_of(device).multiprocessors;
  const int64_t groups = kThreads / lines.group;
  lines.of_block = groups * 8;
  while (lines.of_block > groups &&
         move.samples * divide_up(lines.count, lines.of_block) < wanted)
    lines.of_block /= 2;
  while (move.samples * divide_up(lines.count, lines.of_block) > kMostBlocks) lines.of_block *= 2;
  lines.blocks = divide_up(lines.count, lines.of_block);
  return lines;
}

template <class T>
void run_as(const Move& move, const Launcher& launch, int device) {
  constexpr int kWidth = 4;
  const auto blocks = [&](const Lines& lines) { return move.samples * lines.blocks; };
  const Lines lines = lines_of(move, kWidth, device);
  const bool aligned = reinterpret_cast<uintptr_t>(move.out.data) % (kWidth * sizeof(T)) == 0 &&
                       (!lines.noise_is_line || all_aligned(move.noise.values));
  if (aligned && lines.length % kWidth == 0) {
    launch(move_kernel<T, kWidth>, {blocks(lines), kThreads}, move, lines);
  } else {
    const Lines single = lines_of(move, 1, device);
    launch(move_kernel<T, 1>, {blocks(single), kThreads}, move, single);
  }
}

void run(const char* name, const Move& move, const Launch& where) {
  const ImageShape shape{move.out.dtype, move.out.layout, move.samples, move.channels,
                         move.height * move.width};
  if (shape.elements() == 0) return;
  const Launcher launch({name, shape}, where);
  switch (move.out.dtype) {
    case Dtype::kFloat32:
      return run_as<float>(move, launch, where.device);
    case Dtype::kBFloat16:
      return run_as<BFloat16>(move, launch, where.device);
    case Dtype::kFloat16:
      return run_as<Float16>(move, launch, where.device);
  }
}

}  // namespace

void augmented_batch(const AugmentedBatch& batch, const StoredImages& stored,
                     const ImagesIn& fake, const Noise& noise, const ImagesOut& out,
                     const Launch& where) {
  run("augmented_batch", forward_move(batch, stored, fake, noise, out), where);
}

void augmented_batch_linear(const AugmentedBatch& batch, const ImagesIn& tangent,
                            const ImagesOut& out, const Launch& where) {
  run("augmented_batch_linear", linear_move(batch, tangent, out), where);
}

void augmented_batch_backward(const AugmentedBatch& batch, const ImagesIn& gradient,
                              const ImagesOut& out, const Launch& where) {
  run("augmented_batch_backward", backward_move(batch, gradient, out), where);
}

}  // namespace cxrgan::cuda
