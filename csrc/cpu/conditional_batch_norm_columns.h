// Images as a matrix, whatever their layout: a row is a run of neighbouring elements, and a column
// belongs to one channel.
//
//   channels_last          a row is one pixel, or a few: a channel is every C-th column
//   contiguous, small H·W  a row is one sample:          a channel is H·W neighbouring columns
//
// Vectors run along a row, four rows go together, and a column's sums and parameters lie in small
// arrays that stay in L1: every access is contiguous, whatever the extents.
#pragma once

#include "conditional_batch_norm_element.h"

namespace cxrgan::CXRGAN_SIMD {

template <class T>
class Columns {
 public:
  static constexpr int64_t kColumns = 1024;  // side by side at most: a channel must fit

  Columns(const ConditionalBatchNorm& op, int threads)
      : op_(op),
        pixel_rows_(op.shape.layout == Layout::kChannelsLast || op.shape.pixels == 1),
        samples_(op.shape.samples),
        channels_(op.shape.channels),
        width_(pixel_rows_ ? pixels_a_row(op.shape) : op.shape.pixels),
        rows_per_sample_(pixel_rows_ ? op.shape.pixels / width_ : 1),
        stride_(channels_ * width_),
        panel_(larger(1, smaller(channels_, kColumns / width_))),
        rows_a_unit_(larger(16, smaller(kRows, kUnit / (panel_ * width_)))),
        blocks_(divide_up(samples_ * rows_per_sample_, rows_a_unit_)),
        threads_(threads),
        streaming_(worth_streaming(op.shape, sizeof(T)) && stride_ * sizeof(T) % 64 == 0),
        slab_(slab_channels()),
        order_(samples_),
        units_(samples_ * divide_up(rows_per_sample_, rows_a_unit_)) {
    if (op.labels != nullptr) make_units();
  }

  void statistics(float eps, const T* x, float* mean, float* var, float* rstd) const {
    const Buffer<double> means(blocks_ * channels_), m2s(blocks_ * channels_);
    for_panels(blocks_, Order::kForwards, [&](int64_t b, Panel panel) {
      const int64_t first = b * channels_ + panel.first;
      measure(x, b, panel, means.at(first), m2s.at(first));
    });
    parallel_for(divide_up(channels_, kTogether), threads_, [&](int64_t t) {
      const Panel panel = panel_at(t * kTogether, kTogether);
      Totals all;
      for (int64_t b = 0; b < blocks_; ++b) {
        const int64_t at = b * channels_ + panel.first;
        all.merge(rows_of(b) * width_, panel.channels, means.at(at), m2s.at(at));
      }
      all.write(panel, eps, mean, var, rstd);
    });
  }

  void apply(const T* x, const float* mean, const float* rstd, T* y) const {
    for_panels(n_units_, Order::kBackwards, [&](int64_t u, Panel panel) {
      Maps maps;
      maps.set_means(*this, panel, mean);
      maps.set_class(*this, panel, units_[u].label, rstd);
      activate(units_[u], panel, maps, x, y);
    });
  }

  void forward(float eps, const T* x, T* y, float* mean, float* var, float* rstd) const {
    if (slab_ == 0) {
      statistics(eps, x, mean, var, rstd);
      apply(x, mean, rstd, y);
      return;
    }
    for_slabs([&](Panel panel) {
      Totals all;
      for (int64_t b = 0; b < blocks_; ++b) {
        double means[kTogether], m2s[kTogether];
        measure(x, b, panel, means, m2s);
        all.merge(rows_of(b) * width_, panel.channels, means, m2s);
      }
      all.write(panel, eps, mean, var, rstd);
      Maps maps;
      maps.set_means(*this, panel, mean);
      for_units_backwards(panel, maps, rstd,
                          [&](const Unit& unit) { activate(unit, panel, maps, x, y); });
    });
  }

  void backward_reduce(const T* dy, const T* x, const float* mean, const float* rstd,
                       float* dweight, float* dbias) const {
    const Buffer<Sums> parts(n_units_ * channels_);
    for_panels(n_units_, Order::kForwards, [&](int64_t u, Panel panel) {
      Maps maps;
      maps.set_means(*this, panel, mean);
      maps.set_class(*this, panel, units_[u].label, rstd);
      reduce(units_[u], panel, maps, dy, x, parts.at(u * channels_ + panel.first));
    });
    parallel_for(divide_up(channels_, kTogether), threads_, [&](int64_t t) {
      const Panel panel = panel_at(t * kTogether, kTogether);
      const Buffer<Sums> classes(op_.classes * panel.channels);
      zero(classes, panel);
      for (int64_t u = 0; u < n_units_; ++u)
        add(units_[u], panel, parts.at(u * channels_ + panel.first), classes);
      write(panel, classes, rstd, dweight, dbias);
    });
  }

  void backward_apply(const T* dy, const T* x, const float* mean, const float* rstd,
                      const float* dweight, const float* dbias, int64_t count, T* dx) const {
    const Buffer<Correction<float>> corrections(channels_);
    for (int64_t c = 0; c < channels_; ++c)
      corrections[c] = correction_of(op_, c, rstd, dweight, dbias, count);
    for_panels(n_units_, Order::kBackwards, [&](int64_t u, Panel panel) {
      Maps maps;
      maps.set_means(*this, panel, mean);
      maps.set_class(*this, panel, units_[u].label, rstd);
      maps.set_corrections(*this, panel, corrections.at(panel.first));
      propagate(units_[u], panel, maps, dy, x, dx);
    });
  }

  void backward(const T* dy, const T* x, const float* mean, const float* rstd, int64_t count, T* dx,
                float* dweight, float* dbias) const {
    if (slab_ == 0) {
      backward_reduce(dy, x, mean, rstd, dweight, dbias);
      backward_apply(dy, x, mean, rstd, dweight, dbias, count, dx);
      return;
    }
    for_slabs([&](Panel panel) {
      const Buffer<Sums> classes(op_.classes * panel.channels);
      zero(classes, panel);
      Maps maps;
      maps.set_means(*this, panel, mean);
      for (int64_t u = 0; u < n_units_; ++u) {
        if (u == 0 || units_[u].label != units_[u - 1].label)
          maps.set_class(*this, panel, units_[u].label, rstd);
        Sums part[kTogether];
        reduce(units_[u], panel, maps, dy, x, part);
        add(units_[u], panel, part, classes);
      }
      write(panel, classes, rstd, dweight, dbias);
      Correction<float> corrections[kTogether];
      for (int64_t i = 0; i < panel.channels; ++i)
        corrections[i] = correction_of(op_, panel.first + i, rstd, dweight, dbias, count);
      maps.set_corrections(*this, panel, corrections);
      for_units_backwards(panel, maps, rstd,
                          [&](const Unit& unit) { propagate(unit, panel, maps, dy, x, dx); });
    });
  }

 private:
  static constexpr int64_t kRows = 256;        // summed in float at most
  static constexpr int64_t kUnit = 64 << 10;   // elements, about: some tens of microseconds
  static constexpr int64_t kPixelRow = 512;    // columns to which short pixels are put together
  static constexpr int64_t kTogether = kColumns;  // channels of a panel at most
  static constexpr int64_t kSlabBytes = 768 << 10;  // of one image, to be found in L2 again

  // Neighbouring channels, and so columns.
  struct Panel {
    int64_t first, channels;
    int64_t column, columns;
  };

  // Rows of one class, neighbours in the order of classes.
  struct Unit {
    int64_t first, rows, label;
  };

  struct Sums {
    double d, d_centred;  // Σd, Σd·(x−μ)
  };

  // What z and dx take, for every column of a panel.
  struct alignas(64) Maps {
    float mean[kColumns], scale[kColumns], shift[kColumns];
    float offset[kColumns], factor[kColumns];

    void set_means(const Columns& self, Panel panel, const float* means) {
      self.spread(panel, mean, [&](int64_t i) { return means[panel.first + i]; });
    }

    void set_class(const Columns& self, Panel panel, int64_t label, const float* rstd) {
      const int64_t at = label * self.channels_ + panel.first;
      const float* const weight = self.op_.weight + at;
      const float* const bias = self.op_.bias + at;
      self.spread(panel, scale, [&](int64_t i) { return weight[i] * rstd[panel.first + i]; });
      self.spread(panel, shift, [&](int64_t i) { return bias[i]; });
    }

    void set_corrections(const Columns& self, Panel panel, const Correction<float>* of) {
      self.spread(panel, offset, [&](int64_t i) { return of[i].offset; });
      self.spread(panel, factor, [&](int64_t i) { return of[i].factor; });
    }

    template <class V>
    CXRGAN_INLINE Affine<V> affine(int64_t j, float slope) const {
      return {load<V>(mean + j), load<V>(scale + j), load<V>(shift + j), splat<V>(slope)};
    }
  };

  // Running moments of a panel's channels; each block has the same count for all.
  struct Totals {
    double count = 0;
    double mean[kTogether], m2[kTogether];

    void merge(int64_t part_count, int64_t channels, const double* means, const double* m2s) {
      const double total = count + part_count;
      const double share = part_count / total;
      if (count == 0) {
        for (int64_t i = 0; i < channels; ++i) mean[i] = means[i], m2[i] = m2s[i];
      } else {
        for (int64_t i = 0; i < channels; ++i) {
          const double delta = means[i] - mean[i];
          mean[i] += delta * share;
          m2[i] += m2s[i] + delta * delta * (count * share);
        }
      }
      count = total;
    }

    void write(Panel panel, float eps, float* mean_out, float* var_out, float* rstd_out) const {
      for (int64_t i = 0; i < panel.channels; ++i)
        write_moments(mean[i], m2[i] / count, eps, mean_out + panel.first + i,
                      var_out + panel.first + i, rstd_out + panel.first + i);
    }
  };

  // Channels whose columns of all rows fit L2 together, so that one thread can take them through
  // both steps; 0 where there are none. (Pieces of channels_last rows so short read too slowly.)
  int64_t slab_channels() const {
    if (pixel_rows_ || channels_ < threads_) return 0;
    const int64_t most = kSlabBytes / (samples_ * width_ * static_cast<int64_t>(sizeof(T)));
    const int64_t channels = larger(1, smaller(smaller(panel_, most), channels_ / threads_));
    // As many slabs for each thread as for the next.
    const int64_t slabs = divide_up(divide_up(channels_, channels), threads_) * threads_;
    return divide_up(channels_, slabs);
  }

  // How many pixels make a row: those that divide the image evenly and keep a row short.
  static int64_t pixels_a_row(const ImageShape& shape) {
    int64_t pixels = smaller(shape.pixels, larger(1, kPixelRow / shape.channels));
    while (shape.pixels % pixels != 0) --pixels;
    return pixels;
  }

  // value(i) to every column of channel i, from the last channel to the first.
  template <class Value>
  void spread(Panel panel, float* to, const Value& value) const {
    if (!pixel_rows_) {
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
    if (pixel_rows_) {
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

  int64_t rows_of(int64_t block) const {
    return smaller(rows_a_unit_, samples_ * rows_per_sample_ - block * rows_a_unit_);
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
        [&](int64_t task) {
          body(task / panels, panel_at(task % panels * panel_, panel_));
          if (streaming_) finish_streaming();
        },
        order);
  }

  template <class Body>
  void for_slabs(const Body& body) const {
    parallel_for(divide_up(channels_, slab_), threads_, [&](int64_t s) {
      body(panel_at(s * slab_, slab_));
      if (streaming_) finish_streaming();
    });
  }

  // The last rows read are the likeliest to be in the cache still.
  template <class Body>
  void for_units_backwards(Panel panel, Maps& maps, const float* rstd, const Body& body) const {
    for (int64_t u = n_units_ - 1; u >= 0; --u) {
      if (u == n_units_ - 1 || units_[u].label != units_[u + 1].label)
        maps.set_class(*this, panel, units_[u].label, rstd);
      body(units_[u]);
    }
  }

  // body(V{}, Constant<rows>, offsets of the rows, column): four rows at a time, then single ones.
  // Offsets go on for four more rows, which the body may prefetch.
  // The four after them are at row[4..7], as long as there are as many.
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

  // Mean and Σ(x−mean)² of a block of rows, for every channel of a panel. The sums are taken about
  // the mean of a channel's first four rows, s: Σ(x−s)² − (Σ(x−s))²/n then loses at most a factor
  // kRows/4 of precision, and next to none where those rows are like the others.
  void measure(const T* x, int64_t block, Panel panel, double* means, double* m2s) const {
    alignas(64) float s[kColumns], sum[kColumns], square[kColumns];
    const int64_t rows = rows_of(block);
    int64_t at[kRows + 4];
    for (int64_t r = 0; r < rows + 4; ++r)
      at[r] = (block * rows_a_unit_ + smaller(r, rows - 1)) * stride_ + panel.column;

    const int64_t heads = smaller(4, rows);
    for_columns(Constant<1>{}, at, panel.columns, [&](auto v, auto, auto, int64_t j) CXRGAN_INLINE {
      using V = decltype(v);
      V total{};
      for (int64_t r = 0; r < heads; ++r) total += load<V>(x + at[r] + j);
      store<V>(s + j, total * (1.0f / heads));
      store<V>(sum + j, V{});
      store<V>(square + j, V{});
    });
    if (width_ > 1) {  // one origin a channel
      gather(panel, s);
      spread(panel, s, [&](int64_t i) { return s[i] / static_cast<float>(width_); });
    }
    for_rows(at, rows, panel.columns,
             [&](auto v, auto n, const int64_t* row, int64_t j) CXRGAN_INLINE {
               using V = decltype(v);
               const V origin = load<V>(s + j);
               V total{}, squares{};
               for (int i = 0; i < n; ++i) {
                 if (pixel_rows_) prefetch(x + row[i + n] + j);
                 const V centred = load<V>(x + row[i] + j) - origin;
                 total += centred;
                 squares += centred * centred;
               }
               store<V>(sum + j, load<V>(sum + j) + total);
               store<V>(square + j, load<V>(square + j) + squares);
             });

    gather(panel, sum);
    gather(panel, square);
    const double reciprocal = 1.0 / (rows * width_);
    const int64_t columns_apart = pixel_rows_ ? 1 : width_;
    for (int64_t i = 0; i < panel.channels; ++i) {
      const double total = sum[i];
      means[i] = s[i * columns_apart] + total * reciprocal;
      m2s[i] = square[i] - total * (total * reciprocal);
    }
  }

  void activate(const Unit& unit, Panel panel, const Maps& maps, const T* x, T* y) const {
    int64_t at[kRows + 4];
    locate(unit, panel, at);
    with_store(streaming_ && panel.column % kLanes == 0 && aligned(y), [&](auto put) {
      for_rows(at, unit.rows, panel.columns,
               [&](auto v, auto n, const int64_t* row, int64_t j) CXRGAN_INLINE {
                 using V = decltype(v);
                 const Affine<V> a = maps.template affine<V>(j, op_.negative_slope);
                 for (int i = 0; i < n; ++i) {
                   if (pixel_rows_) prefetch(x + row[i + n] + j);
                   put(y + row[i] + j, a.activated(load<V>(x + row[i] + j)));
                 }
               });
    });
  }

  void reduce(const Unit& unit, Panel panel, const Maps& maps, const T* dy, const T* x,
              Sums* sums) const {
    alignas(64) float d_sum[kColumns], d_centred_sum[kColumns];
    int64_t at[kRows + 4];
    locate(unit, panel, at);
    for (int64_t j = 0; j < panel.columns; ++j) d_sum[j] = d_centred_sum[j] = 0;
    for_rows(at, unit.rows, panel.columns,
             [&](auto v, auto n, const int64_t* row, int64_t j) CXRGAN_INLINE {
               using V = decltype(v);
               const Affine<V> a = maps.template affine<V>(j, op_.negative_slope);
               V total{}, centred_total{};
               for (int i = 0; i < n; ++i) {
                 if (pixel_rows_) prefetch(x + row[i + n] + j);
                 if (pixel_rows_) prefetch(dy + row[i + n] + j);
                 const V centred = load<V>(x + row[i] + j) - a.mean;
                 const V d = a.gradient(load<V>(dy + row[i] + j), centred);
                 total += d;
                 centred_total += d * centred;
               }
               store<V>(d_sum + j, load<V>(d_sum + j) + total);
               store<V>(d_centred_sum + j, load<V>(d_centred_sum + j) + centred_total);
             });
    gather(panel, d_sum);
    gather(panel, d_centred_sum);
    for (int64_t i = 0; i < panel.channels; ++i) sums[i] = {d_sum[i], d_centred_sum[i]};
  }

  void zero(const Buffer<Sums>& classes, Panel panel) const {
    for (int64_t i = 0; i < op_.classes * panel.channels; ++i) classes[i] = {0, 0};
  }

  void add(const Unit& unit, Panel panel, const Sums* part, const Buffer<Sums>& classes) const {
    Sums* const of_class = classes.at(unit.label * panel.channels);
    for (int64_t i = 0; i < panel.channels; ++i) {
      of_class[i].d += part[i].d;
      of_class[i].d_centred += part[i].d_centred;
    }
  }

  void write(Panel panel, const Buffer<Sums>& classes, const float* rstd, float* dweight,
             float* dbias) const {
    for (int64_t k = 0; k < op_.classes; ++k)
      for (int64_t i = 0; i < panel.channels; ++i) {
        const Sums& sums = classes[k * panel.channels + i];
        const int64_t at = k * channels_ + panel.first + i;
        dbias[at] = static_cast<float>(sums.d);
        dweight[at] = weight_gradient(sums.d_centred, rstd[panel.first + i]);
      }
  }

  void propagate(const Unit& unit, Panel panel, const Maps& maps, const T* dy, const T* x,
                 T* dx) const {
    int64_t at[kRows + 4];
    locate(unit, panel, at);
    with_store(streaming_ && panel.column % kLanes == 0 && aligned(dx), [&](auto put) {
      for_rows(at, unit.rows, panel.columns,
               [&](auto v, auto n, const int64_t* row, int64_t j) CXRGAN_INLINE {
                 using V = decltype(v);
                 const Affine<V> a = maps.template affine<V>(j, op_.negative_slope);
                 const Correction<V> correct{load<V>(maps.offset + j), load<V>(maps.factor + j)};
                 for (int i = 0; i < n; ++i) {
                   if (pixel_rows_) prefetch(x + row[i + n] + j);
                   if (pixel_rows_) prefetch(dy + row[i + n] + j);
                   const V centred = load<V>(x + row[i] + j) - a.mean;
                   const V d = a.gradient(load<V>(dy + row[i] + j), centred);
                   put(dx + row[i] + j, correct.corrected(d * a.scale, centred));
                 }
               });
    });
  }

  const ConditionalBatchNorm& op_;
  const bool pixel_rows_;
  const int64_t samples_, channels_;
  const int64_t width_;  // columns a channel
  const int64_t rows_per_sample_;
  const int64_t stride_;  // columns in all
  const int64_t panel_;   // channels side by side
  const int64_t rows_a_unit_;
  const int64_t blocks_;  // of as many rows, for the statistics
  const int threads_;
  const bool streaming_;
  const int64_t slab_;           // channels that go through both steps together
  const Buffer<int64_t> order_;  // samples, class by class
  const Buffer<Unit> units_;
  int64_t n_units_ = 0;
};

}  // namespace cxrgan::CXRGAN_SIMD
