// augmented_batch.h on the CPU: compiled once for each instruction-set level (simd.h).
//
// A line is a row of pixels as the output has it in memory: of all channels side by side
// (channels_last), or of one. It is put together as float32 in scratch memory that stays in L1, so
// that a step need not know what the others read and write.
#include "augmented_batch_kernels.h"

#include "loops.h"
#include "simd.h"

namespace cxrgan::CXRGAN_SIMD {
namespace {

constexpr int64_t kTask = 16384;  // elements

// Before this, products are rounded. A compiler would take them into the sums that follow, which
// rounds once; other backends do not.
CXRGAN_INLINE inline void finish_products() { __asm__ volatile("" ::: "memory"); }

// From an element of an image to its neighbors.
struct Strides {
  int64_t channel, pixel;
};

class Lines {
 public:
  Lines(const Move& move, const Placement* placements)
      : move_(move),
        placements_(placements),
        pixels_(move.height * move.width),
        depth_(move.out.layout == Layout::kChannelsLast ? move.channels : 1),
        length_(move.width * depth_),
        planes_(move.channels / depth_) {}

  template <class T>
  void write(int threads) const {
    const int64_t lines = move_.samples * planes_ * move_.height;
    const int64_t lines_of_task = larger(1, kTask / length_);
    parallel_for(divide_up(lines, lines_of_task), threads, [&](int64_t task) {
      const Buffer<float> scratch(2 * length_);
      const int64_t first = task * lines_of_task;
      for (int64_t line = first; line < smaller(first + lines_of_task, lines); ++line)
        write_line(line, scratch.at(0), scratch.at(length_),
                   static_cast<T*>(move_.out.data) + line * length_);
    });
  }

 private:
  template <class T>
  void write_line(int64_t line, float* values, float* products, T* out) const {
    const int64_t y = line % move_.height, plane = line / move_.height % planes_;
    const int64_t sample = line / (move_.height * planes_);
    gather(sample, plane, y, values);
    if (move_.noise.values == nullptr) {
      for_each(length_, [&](auto v, int64_t i, int) CXRGAN_INLINE {
        store<decltype(v)>(out + i, load<decltype(v)>(values + i));
      });
      return;
    }
    const float std = *move_.noise.std;
    const Strides strides = strides_of(move_.noise.layout);
    decode(move_.noise.values + offset(sample, plane, y, 0, strides), strides, move_.width,
           products);
    for_each(length_, [&](auto v, int64_t i, int) CXRGAN_INLINE {
      store<decltype(v)>(products + i, load<decltype(v)>(products + i) * std);
    });
    finish_products();
    for_each(length_, [&](auto v, int64_t i, int) CXRGAN_INLINE {
      using V = decltype(v);
      store<V>(out + i, load<V>(values + i) + load<V>(products + i));
    });
  }

  // What is moved here, and what fills the rest.
  void gather(int64_t sample, int64_t plane, int64_t y, float* values) const {
    const Placement& p = placements_[sample];
    const int64_t from_y = y + p.shift_y;
    const bool stored = sample < move_.stored_samples;
    const bool empty = from_y < 0 || from_y >= move_.height || (stored && move_.rows == nullptr);
    const int64_t begin = empty ? move_.width : larger(0, -p.shift_x);
    const int64_t end = smaller(move_.width, move_.width - p.shift_x);
    fill(values, 0, begin);
    if (begin < end) {
      float* const to = values + begin * depth_;
      if (stored) {
        decode_stored(sample, plane, from_y, begin + p.shift_x, end - begin, to);
      } else {
        decode_image(sample - move_.stored_samples, plane, from_y, begin + p.shift_x, end - begin,
                     to);
      }
    }
    fill(values, end, move_.width);
    if (y >= p.hole_top && y < p.hole_bottom)
      fill(values, larger(0, p.hole_left), smaller(p.hole_right, move_.width));
  }

  // Pixels [begin, end) of a line.
  void fill(float* values, int64_t begin, int64_t end) const {
    for (int64_t i = begin * depth_; i < end * depth_; ++i) values[i] = move_.fill;
  }

  void decode_stored(int64_t sample, int64_t plane, int64_t y, int64_t x, int64_t count,
                     float* to) const {
    const Strides strides = strides_of(Layout::kContiguous);
    const bool mirrored = move_.mirror != nullptr && move_.mirror[sample];
    const uint8_t* const from =
        move_.pixels +
        offset(move_.rows[sample], plane, y, mirrored ? move_.width - 1 - x : x, strides);
    const float scale = move_.scale, low = move_.low;
    const auto multiply = [&](auto step, auto depth) CXRGAN_INLINE {
      for (int64_t c = 0; c < depth; ++c)
        for (int64_t i = 0; i < count; ++i)
          to[i * depth + c] = static_cast<float>(from[c * strides.channel + i * step]) * scale;
    };
    if (depth_ == 1) {  // the compiler's vectors, either way
      if (mirrored) {
        multiply(Constant<-1>{}, Constant<1>{});
      } else {
        multiply(Constant<1>{}, Constant<1>{});
      }
    } else {
      multiply(int64_t{mirrored ? -1 : 1}, depth_);
    }
    finish_products();
    for (int64_t i = 0; i < count * depth_; ++i) to[i] += low;
  }

  void decode_image(int64_t sample, int64_t plane, int64_t y, int64_t x, int64_t count,
                    float* to) const {
    const Strides strides = strides_of(move_.images.layout);
    const int64_t at = offset(sample, plane, y, x, strides);
    switch (move_.images.dtype) {
      case Dtype::kFloat32:
        return decode(static_cast<const float*>(move_.images.data) + at, strides, count, to);
      case Dtype::kBFloat16:
        return decode(static_cast<const BFloat16*>(move_.images.data) + at, strides, count, to);
      case Dtype::kFloat16:
        return decode(static_cast<const Float16*>(move_.images.data) + at, strides, count, to);
    }
  }

  // So many pixels into a line.
  template <class T>
  void decode(const T* from, const Strides& strides, int64_t count, float* to) const {
    if (strides.pixel == depth_ && (depth_ == 1 || strides.channel == 1)) {
      for_each(count * depth_, [&](auto v, int64_t i, int) CXRGAN_INLINE {
        store<decltype(v)>(to + i, load<decltype(v)>(from + i));
      });
      return;
    }
    for (int64_t c = 0; c < depth_; ++c)
      for (int64_t i = 0; i < count; ++i)
        to[i * depth_ + c] = load<float>(from + c * strides.channel + i * strides.pixel);
  }

  Strides strides_of(Layout layout) const {
    if (layout == Layout::kChannelsLast) return {1, move_.channels};
    return {pixels_, 1};
  }

  // Of a pixel, in the first channel that a line of that plane has.
  int64_t offset(int64_t sample, int64_t plane, int64_t y, int64_t x,
                 const Strides& strides) const {
    return sample * move_.channels * pixels_ + plane * depth_ * strides.channel +
           (y * move_.width + x) * strides.pixel;
  }

  const Move& move_;
  const Placement* const placements_;
  const int64_t pixels_;
  const int64_t depth_;   // channels of a line
  const int64_t length_;  // of a line, in elements
  const int64_t planes_;  // lines of a sample at the same height
};

void move(const Move& move, const Placement* placements, int threads) {
  const Lines lines(move, placements);
  switch (move.out.dtype) {
    case Dtype::kFloat32:
      return lines.write<float>(threads);
    case Dtype::kBFloat16:
      return lines.write<BFloat16>(threads);
    case Dtype::kFloat16:
      return lines.write<Float16>(threads);
  }
}

}  // namespace

extern const AugmentedBatchKernels augmented_batch = {move};

}  // namespace cxrgan::CXRGAN_SIMD
