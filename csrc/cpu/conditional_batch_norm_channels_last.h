// Channels_last images, and contiguous ones of small planes: the steps over the rows of
// channels_last_view.h.
#pragma once

#include "channels_last_view.h"
#include "conditional_batch_norm_element.h"

namespace cxrgan::CXRGAN_SIMD {

template <class T>
class ChannelsLastNorm : private ChannelsLastView {
 public:
  using ChannelsLastView::kColumns;

  ChannelsLastNorm(const ConditionalBatchNorm& op, int threads)
      : ChannelsLastView(op, sizeof(T), threads),
        streaming_(worth_streaming(op.shape, sizeof(T)) && stride_ * sizeof(T) % 64 == 0) {}

  void statistics(const T* x, float* mean, float* var, float* rstd) const {
    const Buffer<double> means(blocks_ * channels_), m2s(blocks_ * channels_);
    for_panels(blocks_, Order::kForwards, [&](int64_t b, Panel panel) {
      const int64_t first = b * channels_ + panel.first;
      measure(x, b, panel, means.at(first), m2s.at(first));
    });
    parallel_for(divide_up(channels_, kColumns), threads_, [&](int64_t t) {
      const Panel panel = panel_at(t * kColumns, kColumns);
      Totals all;
      for (int64_t b = 0; b < blocks_; ++b) {
        const int64_t at = b * channels_ + panel.first;
        all.merge(rows_of(b) * width_, panel.channels, means.at(at), m2s.at(at));
      }
      all.write(op_, panel, mean, var, rstd);
    });
  }

  void apply(const T* x, const float* mean, const float* rstd, T* y) const {
    for_panels(n_units_, Order::kBackwards, [&](int64_t u, Panel panel) {
      Maps maps;
      set_means(maps, panel, mean);
      set_class(maps, panel, units_[u].label, rstd);
      activate(units_[u], panel, maps, x, y);
    });
  }

  void forward(const T* x, T* y, float* mean, float* var, float* rstd) const {
    if (slab_ == 0) {
      statistics(x, mean, var, rstd);
      apply(x, mean, rstd, y);
      return;
    }
    for_slabs([&](Panel panel) {
      Totals all;
      for (int64_t b = 0; b < blocks_; ++b) {
        double means[kColumns], m2s[kColumns];
        measure(x, b, panel, means, m2s);
        all.merge(rows_of(b) * width_, panel.channels, means, m2s);
      }
      all.write(op_, panel, mean, var, rstd);
      Maps maps;
      set_means(maps, panel, mean);
      for_units_backwards(panel, maps, rstd,
                          [&](const Unit& unit) { activate(unit, panel, maps, x, y); });
    });
  }

  void backward_reduce(const T* dy, const T* x, const float* mean, const float* rstd,
                       float* dweight, float* dbias) const {
    const Buffer<Sums> parts(n_units_ * channels_), sums(channels_ * op_.classes);
    for_panels(n_units_, Order::kForwards, [&](int64_t u, Panel panel) {
      Maps maps;
      set_means(maps, panel, mean);
      set_class(maps, panel, units_[u].label, rstd);
      reduce(units_[u], panel, maps, dy, x, parts.at(u * channels_ + panel.first));
    });
    parallel_for(divide_up(channels_, kColumns), threads_, [&](int64_t t) {
      const Panel panel = panel_at(t * kColumns, kColumns);
      Sums* const classes = zeroed(sums, panel);
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
      set_means(maps, panel, mean);
      set_class(maps, panel, units_[u].label, rstd);
      set_corrections(maps, panel, corrections.at(panel.first));
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
    const Buffer<Sums> sums(channels_ * op_.classes);
    for_slabs([&](Panel panel) {
      Sums* const classes = zeroed(sums, panel);
      Maps maps;
      set_means(maps, panel, mean);
      for (int64_t u = 0; u < n_units_; ++u) {
        if (u == 0 || units_[u].label != units_[u - 1].label)
          set_class(maps, panel, units_[u].label, rstd);
        Sums part[kColumns];
        reduce(units_[u], panel, maps, dy, x, part);
        add(units_[u], panel, part, classes);
      }
      write(panel, classes, rstd, dweight, dbias);
      Correction<float> corrections[kColumns];
      for (int64_t i = 0; i < panel.channels; ++i)
        corrections[i] = correction_of(op_, panel.first + i, rstd, dweight, dbias, count);
      set_corrections(maps, panel, corrections);
      for_units_backwards(panel, maps, rstd,
                          [&](const Unit& unit) { propagate(unit, panel, maps, dy, x, dx); });
    });
  }

 private:
  // What z and dx take, for every column of a panel.
  struct alignas(64) Maps {
    float mean[kColumns], scale[kColumns], shift[kColumns];
    float offset[kColumns], factor[kColumns];

    template <class V>
    CXRGAN_INLINE Affine<V> affine(const ConditionalBatchNorm& op, int64_t j) const {
      return affine_of(op, load<V>(mean + j), load<V>(scale + j), load<V>(shift + j));
    }
  };

  void set_means(Maps& maps, Panel panel, const float* means) const {
    spread(panel, maps.mean, [&](int64_t i) { return means[panel.first + i]; });
  }

  void set_class(Maps& maps, Panel panel, int64_t label, const float* rstd) const {
    const int64_t at = label * channels_ + panel.first;
    const float* const weight = op_.weight + at;
    const float* const bias = op_.bias + at;
    spread(panel, maps.scale, [&](int64_t i) { return weight[i] * rstd[panel.first + i]; });
    spread(panel, maps.shift, [&](int64_t i) { return bias[i]; });
  }

  void set_corrections(Maps& maps, Panel panel, const Correction<float>* of) const {
    spread(panel, maps.offset, [&](int64_t i) { return of[i].offset; });
    spread(panel, maps.factor, [&](int64_t i) { return of[i].factor; });
  }

  // Running moments of a panel's channels; each block has the same count for all.
  struct Totals {
    double count = 0;
    double mean[kColumns], m2[kColumns];

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

    void write(const ConditionalBatchNorm& op, Panel panel, float* mean_out, float* var_out,
               float* rstd_out) const {
      for (int64_t i = 0; i < panel.channels; ++i)
        write_moments(op, mean[i], m2[i] / count, mean_out + panel.first + i,
                      var_out + panel.first + i, rstd_out + panel.first + i);
    }
  };

  // The last rows read are the likeliest to be in the cache still.
  template <class Body>
  void for_units_backwards(Panel panel, Maps& maps, const float* rstd, const Body& body) const {
    for (int64_t u = n_units_ - 1; u >= 0; --u) {
      if (u == n_units_ - 1 || units_[u].label != units_[u + 1].label)
        set_class(maps, panel, units_[u].label, rstd);
      body(units_[u]);
    }
  }

  // Mean and Σ(x−mean)² of a block of rows, for every channel of a panel: from Σ(x−s) and Σ(x−s)²
  // about the mean s of a channel's first four rows. Where that turns out to be further than two
  // deviations from the block's mean, which would cost precision, once more about the latter.
  void measure(const T* x, int64_t block, Panel panel, double* means, double* m2s) const {
    alignas(64) float origin[kColumns], sum[kColumns], square[kColumns];
    int64_t at[kRows + 4];
    locate(block, panel, at);
    const int64_t rows = rows_of(block), heads = smaller(4, rows);
    for_columns(Constant<1>{}, at, panel.columns, [&](auto v, auto, auto, int64_t j) CXRGAN_INLINE {
      using V = decltype(v);
      V total{};
      for (int64_t r = 0; r < heads; ++r) total += load<V>(x + at[r] + j);
      store<V>(origin + j, total);
    });
    gather(panel, origin);
    for (int64_t i = 0; i < panel.channels; ++i) means[i] = origin[i] / (heads * width_);

    const double reciprocal = 1.0 / (rows * width_);
    for (bool again = false;; again = true) {
      spread(panel, origin, [&](int64_t i) { return static_cast<float>(means[i]); });
      sum_about(origin, x, at, rows, panel, sum, square);
      bool far = false;
      for (int64_t i = 0; i < panel.channels; ++i) {
        const double about = static_cast<float>(means[i]), shift = sum[i] * reciprocal;
        means[i] = about + shift;
        m2s[i] = square[i] - sum[i] * shift;
        far |= sum[i] * shift > 4 * m2s[i];
      }
      if (again || !far) return;
    }
  }

  // Σ(x−s) and Σ(x−s)² of each channel, in front.
  void sum_about(const float* origin, const T* x, const int64_t* at, int64_t rows, Panel panel,
                 float* sum, float* square) const {
    for (int64_t j = 0; j < panel.columns; ++j) sum[j] = square[j] = 0;
    for_rows(at, rows, panel.columns,
             [&](auto v, auto n, const int64_t* row, int64_t j) CXRGAN_INLINE {
               using V = decltype(v);
               const V s = load<V>(origin + j);
               V total{}, squares{};
               for (int i = 0; i < n; ++i) {
                 prefetch_next(x + row[i + n] + j);
                 const V centered = load<V>(x + row[i] + j) - s;
                 total += centered;
                 squares += centered * centered;
               }
               store<V>(sum + j, load<V>(sum + j) + total);
               store<V>(square + j, load<V>(square + j) + squares);
             });
    gather(panel, sum);
    gather(panel, square);
  }

  void activate(const Unit& unit, Panel panel, const Maps& maps, const T* x, T* y) const {
    int64_t at[kRows + 4];
    locate(unit, panel, at);
    with_store(streaming_ && panel.column % kLanes == 0 && aligned(y), [&](auto put) {
      for_rows(at, unit.rows, panel.columns,
               [&](auto v, auto n, const int64_t* row, int64_t j) CXRGAN_INLINE {
                 using V = decltype(v);
                 const Affine<V> a = maps.template affine<V>(op_, j);
                 for (int i = 0; i < n; ++i) {
                   prefetch_next(x + row[i + n] + j);
                   put(y + row[i] + j, a.activated(load<V>(x + row[i] + j)));
                 }
               });
    });
    if (streaming_) finish_streaming();
  }

  void reduce(const Unit& unit, Panel panel, const Maps& maps, const T* dy, const T* x,
              Sums* sums) const {
    alignas(64) float d_sum[kColumns], d_centered_sum[kColumns];
    int64_t at[kRows + 4];
    locate(unit, panel, at);
    for (int64_t j = 0; j < panel.columns; ++j) d_sum[j] = d_centered_sum[j] = 0;
    for_rows(at, unit.rows, panel.columns,
             [&](auto v, auto n, const int64_t* row, int64_t j) CXRGAN_INLINE {
               using V = decltype(v);
               const Affine<V> a = maps.template affine<V>(op_, j);
               V total{}, centered_total{};
               for (int i = 0; i < n; ++i) {
                 prefetch_next(x + row[i + n] + j);
                 prefetch_next(dy + row[i + n] + j);
                 const V centered = load<V>(x + row[i] + j) - a.mean;
                 const V d = a.gradient(load<V>(dy + row[i] + j), centered);
                 total += d;
                 centered_total += d * centered;
               }
               store<V>(d_sum + j, load<V>(d_sum + j) + total);
               store<V>(d_centered_sum + j, load<V>(d_centered_sum + j) + centered_total);
             });
    gather(panel, d_sum);
    gather(panel, d_centered_sum);
    for (int64_t i = 0; i < panel.channels; ++i) sums[i] = {d_sum[i], d_centered_sum[i]};
  }

  // The classes' sums of a panel: its part of (C·K), class after class.
  Sums* zeroed(const Buffer<Sums>& all, Panel panel) const {
    Sums* const classes = all.at(panel.first * op_.classes);
    for (int64_t i = 0; i < op_.classes * panel.channels; ++i) classes[i] = {0, 0};
    return classes;
  }

  void add(const Unit& unit, Panel panel, const Sums* part, Sums* classes) const {
    Sums* const of_class = classes + unit.label * panel.channels;
    for (int64_t i = 0; i < panel.channels; ++i) of_class[i].add(part[i]);
  }

  void write(Panel panel, const Sums* classes, const float* rstd, float* dweight,
             float* dbias) const {
    for (int64_t i = 0; i < panel.channels; ++i)
      write_gradients(op_, panel.first + i, classes + i, panel.channels, rstd, dweight, dbias);
  }

  void propagate(const Unit& unit, Panel panel, const Maps& maps, const T* dy, const T* x,
                 T* dx) const {
    int64_t at[kRows + 4];
    locate(unit, panel, at);
    with_store(streaming_ && panel.column % kLanes == 0 && aligned(dx), [&](auto put) {
      for_rows(at, unit.rows, panel.columns,
               [&](auto v, auto n, const int64_t* row, int64_t j) CXRGAN_INLINE {
                 using V = decltype(v);
                 const Affine<V> a = maps.template affine<V>(op_, j);
                 const Correction<V> correct{load<V>(maps.offset + j), load<V>(maps.factor + j)};
                 for (int i = 0; i < n; ++i) {
                   prefetch_next(x + row[i + n] + j);
                   prefetch_next(dy + row[i + n] + j);
                   const V centered = load<V>(x + row[i] + j) - a.mean;
                   const V d = a.gradient(load<V>(dy + row[i] + j), centered);
                   put(dx + row[i] + j, correct.corrected(d * a.scale, centered));
                 }
               });
    });
    if (streaming_) finish_streaming();
  }

  const bool streaming_;
};

}  // namespace cxrgan::CXRGAN_SIMD
