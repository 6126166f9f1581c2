// Images seen as channels_last ones are: a matrix whose rows are runs of neighboring elements, and
// whose columns belong to one channel each.
//
//   channels_last          a row is one pixel, or a few: a channel is every C-th column
//   contiguous, small H·W  a row is one sample:          a channel is H·W neighboring columns
//
// Vectors run along a row, four rows go together, and a column's sums and parameters lie in small
// arrays that stay in L1: every access is contiguous, whatever the extents.
#pragma once

#include "cxrgan/conditional_batch_norm.h"
#include "loops.h"
#include "simd.h"

namespace cxrgan::CXRGAN_SIMD {

class ChannelsLastView {
 public:
  static constexpr int64_t kColumns = 1024;  // side by side at most: a channel must fit
  static constexpr int64_t kRows = 256;      // of a unit at most: float sums stay short

  ChannelsLastView(const ConditionalBatchNorm& op, int64_t element_bytes, int threads)
      : op_(op),
        channels_last_(op.shape.layout == Layout::kChannelsLast || op.shape.pixels == 1),
        samples_(op.shape.samples),
        channels_(op.shape.channels),
        width_(channels_last_ ? pixels_a_row(op.shape) : op.shape.pixels),
        rows_per_sample_(channels_last_ ? op.shape.pixels / width_ : 1),
        stride_(channels_ * width_),
        panel_(larger(1, smaller(channels_, kColumns / width_))),
        rows_a_unit_(larger(16, smaller(kRows, kUnit / (panel_ * width_)))),
        blocks_(divide_up(samples_ * rows_per_sample_, rows_a_unit_)),
        threads_(threads),
        slab_(slab_channels(element_bytes)),
        order_(samples_),
        units_(samples_ * divide_up(rows_per_sample_, rows_a_unit_)) {
    if (op.labels != nullptr) make_units();
  }

  // Neighboring channels, and so columns.
  struct Panel {
    int64_t first, channels;
    int64_t column, columns;
  };

  // Rows of one class, neighbors in the order of classes.
  struct Unit {
    int64_t first, rows, label;
  };

 protected:
  // value(i) to every column of channel i, from the last channel to the first.
  template <class Value>
  void spread(Panel panel, float* to, const Value& value) const {
    if (!channels_last_) {
      for (int64_t i = panel.channels - 1; i >= 0; --i) {
        const float of_channel = value(i);
        for (int64_t j = i * width_; j < (i + 1) * width_; ++j) to[j] = of_channel;
      }
      return;
    }
    for (int64_t i = panel.channels - 1; i >= 0; --i) to[i] = value(i);
    for (int64_t j = panel.channels; j < panel.columns; ++j) to[j] = to[j - panel.channels];
  }

  // The sums over each channel's columns, to the front.
  void gather(Panel panel, float* columns) const {
    if (width_ == 1) return;
    if (channels_last_) {
      // By halves: in a chain of equal terms all roundings would go the same way.
      for (int64_t width = width_; width > 1;) {
        const int64_t half = divide_up(width, 2), rest = (width - half) * panel.channels;
        for (int64_t j = 0; j < rest; ++j) columns[j] += columns[half * panel.channels + j];
        width = half;
      }
      return;
    }
    for (int64_t i = 0; i < panel.channels; ++i) {
      Sum sum;
      for_each(width_, [&](auto v, int64_t j, int slot) CXRGAN_INLINE {
        sum.add(load<decltype(v)>(columns + i * width_ + j), slot);
      });
      columns[i] = sum.total();
    }
  }

  int64_t rows_of(int64_t block) const {
    return smaller(rows_a_unit_, samples_ * rows_per_sample_ - block * rows_a_unit_);
  }

  // Offsets of a block's rows, from the panel's first column.
  void locate(int64_t block, Panel panel, int64_t* at) const {
    const int64_t rows = rows_of(block);
    for (int64_t r = 0; r < rows + 4; ++r)
      at[r] = (block * rows_a_unit_ + smaller(r, rows - 1)) * stride_ + panel.column;
  }

  // Offsets of a unit's rows, from the panel's first column.
  void locate(const Unit& unit, Panel panel, int64_t* at) const {
    int64_t position = unit.first / rows_per_sample_, row = unit.first % rows_per_sample_;
    for (int64_t r = 0; r < unit.rows;) {
      const int64_t first = order_[position] * rows_per_sample_ + row;
      const int64_t rows = smaller(unit.rows - r, rows_per_sample_ - row);
      for (int64_t i = 0; i < rows; ++i) at[r + i] = (first + i) * stride_ + panel.column;
      r += rows;
      ++position;
      row = 0;
    }
    for (int64_t i = 0; i < 4; ++i) at[unit.rows + i] = at[unit.rows - 1];
  }

  Panel panel_at(int64_t first, int64_t most) const {
    const int64_t channels = smaller(most, channels_ - first);
    return {first, channels, first * width_, channels * width_};
  }

  // body(i, panel) for every panel of each of `count` things.
  template <class Body>
  void for_panels(int64_t count, Order order, const Body& body) const {
    const int64_t panels = divide_up(channels_, panel_);
    parallel_for(
        count * panels, threads_,
        [&](int64_t task) { body(task / panels, panel_at(task % panels * panel_, panel_)); },
        order);
  }

  template <class Body>
  void for_slabs(const Body& body) const {
    parallel_for(divide_up(channels_, slab_), threads_,
                 [&](int64_t s) { body(panel_at(s * slab_, slab_)); });
  }

  // body(V{}, Constant<rows>, offsets of the rows, column): four rows at a time, then single ones.
  // The offsets go on for four more rows, to be prefetched.
  template <class Body>
  CXRGAN_INLINE static void for_rows(const int64_t* at, int64_t rows, int64_t columns,
                                     const Body& body) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) for_columns(Constant<4>{}, at + r, columns, body);
    for (; r < rows; ++r) for_columns(Constant<1>{}, at + r, columns, body);
  }

  template <class Rows, class Body>
  CXRGAN_INLINE static void for_columns(Rows rows, const int64_t* at, int64_t columns,
                                        const Body& body) {
    int64_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) body(Vec{}, rows, at, j);
    for (; j < columns; ++j) body(float{}, rows, at, j);
  }

  // What comes with the next rows. Those of channels_last images lie behind each other, and the
  // processor would fetch them only once they are asked for; slabs are in the cache.
  template <class T>
  CXRGAN_INLINE void prefetch_next(const T* address) const {
    if (channels_last_) prefetch(address);
  }

  const ConditionalBatchNorm& op_;
  const bool channels_last_;
  const int64_t samples_, channels_;
  const int64_t width_;  // columns a channel
  const int64_t rows_per_sample_;
  const int64_t stride_;  // columns in all
  const int64_t panel_;   // channels side by side
  const int64_t rows_a_unit_;
  const int64_t blocks_;  // of as many rows, for the statistics
  const int threads_;
  const int64_t slab_;           // channels that go through both steps together
  const Buffer<int64_t> order_;  // samples, class by class
  const Buffer<Unit> units_;
  int64_t n_units_ = 0;

 private:
  static constexpr int64_t kUnit = 64 << 10;        // elements, about: tens of microseconds
  static constexpr int64_t kPixelRow = 512;         // columns to which short pixels go together
  static constexpr int64_t kSlabBytes = 768 << 10;  // of one image, to be found in L2 again

  // Channels whose columns of all rows fit L2 together, so that one thread can take them through
  // both steps; 0 where there are none. (Pieces of channels_last rows so short read too slowly.)
  int64_t slab_channels(int64_t element_bytes) const {
    if (channels_last_ || channels_ < threads_) return 0;
    const int64_t most = kSlabBytes / (samples_ * width_ * element_bytes);
    const int64_t channels = larger(1, smaller(smaller(panel_, most), channels_ / threads_));
    // As many slabs for each thread as for the next.
    const int64_t slabs = divide_up(divide_up(channels_, channels), threads_) * threads_;
    return divide_up(channels_, slabs);
  }

  // How many pixels make a row: those that divide the image evenly and keep a row short.
  static int64_t pixels_a_row(const ImageShape& shape) {
    return largest_divisor(shape.pixels, larger(1, kPixelRow / shape.channels));
  }

  // Samples of a class go together where their rows are few; else every sample has its own units.
  void make_units() {
    if (rows_per_sample_ >= rows_a_unit_ / 4) {
      for (int64_t n = 0; n < samples_; ++n) {
        order_[n] = n;
        add_units(n * rows_per_sample_, rows_per_sample_, op_.labels[n]);
      }
      return;
    }
    const Buffer<int64_t> next(op_.classes + 1);  // a counting sort
    for (int64_t k = 0; k <= op_.classes; ++k) next[k] = 0;
    for (int64_t n = 0; n < samples_; ++n) ++next[op_.labels[n] + 1];
    for (int64_t k = 0; k < op_.classes; ++k) {
      if (next[k + 1] > 0) add_units(next[k] * rows_per_sample_, next[k + 1] * rows_per_sample_, k);
      next[k + 1] += next[k];
    }
    for (int64_t n = 0; n < samples_; ++n) order_[next[op_.labels[n]]++] = n;
  }

  void add_units(int64_t first, int64_t rows, int64_t label) {
    for (int64_t done = 0; done < rows; done += rows_a_unit_)
      units_[n_units_++] = {first + done, smaller(rows_a_unit_, rows - done), label};
  }
};

}  // namespace cxrgan::CXRGAN_SIMD
