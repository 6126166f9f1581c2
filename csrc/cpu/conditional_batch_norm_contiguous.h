// Contiguous images (N, C, H·W) of large planes: a channel is N planes, and every step is local to
// it. Vectors run along a plane, with sums and parameters in registers.
#pragma once

#include "conditional_batch_norm_element.h"

namespace cxrgan::CXRGAN_SIMD {

template <class T>
class ContiguousNorm {
 public:
  ContiguousNorm(const ConditionalBatchNorm& op, int threads)
      : op_(op),
        samples_(op.shape.samples),
        channels_(op.shape.channels),
        pixels_(op.shape.pixels),
        pieces_(divide_up(pixels_, kTile)),
        tiles_(samples_ * pieces_),
        threads_(threads),
        // A channel is taken through reduce and apply while it is in the cache, unless there are so
        // few that threads would idle.
        by_channel_(threads_ == 1 || channels_ >= 4 * threads_),
        streaming_(worth_streaming(op.shape, sizeof(T)) && pixels_ * sizeof(T) % 64 == 0) {}

  void statistics(const T* x, float* mean, float* var, float* rstd) const {
    const Buffer<Moments> parts(channels_ * tiles_);
    for_all_tiles([&](int64_t c, int64_t t) { parts[c * tiles_ + t] = measure(x, tile(c, t)); });
    for (int64_t c = 0; c < channels_; ++c) {
      Moments all;
      for (int64_t t = 0; t < tiles_; ++t) all.merge(parts[c * tiles_ + t]);
      all.write(op_, mean + c, var + c, rstd + c);
    }
  }

  void apply(const T* x, const float* mean, const float* rstd, T* y) const {
    for_all_tiles([&](int64_t c, int64_t t) { activate(c, t, x, mean, rstd, y); },
                  Order::kBackwards);
  }

  void forward(const T* x, T* y, float* mean, float* var, float* rstd) const {
    if (!by_channel_) {
      statistics(x, mean, var, rstd);
      apply(x, mean, rstd, y);
      return;
    }
    for_channels([&](int64_t c) {
      Moments all;
      for (int64_t t = 0; t < tiles_; ++t) all.merge(measure(x, tile(c, t)));
      all.write(op_, mean + c, var + c, rstd + c);
      for (int64_t t = tiles_ - 1; t >= 0; --t) activate(c, t, x, mean, rstd, y);
    });
  }

  void backward_reduce(const T* dy, const T* x, const float* mean, const float* rstd,
                       float* dweight, float* dbias) const {
    const Buffer<Sums> parts(channels_ * tiles_), sums(channels_ * op_.classes);
    for_all_tiles([&](int64_t c, int64_t t) {
      parts[c * tiles_ + t] = reduce(c, t, dy, x, mean, rstd);
    });
    for (int64_t c = 0; c < channels_; ++c) {
      Sums* const classes = zeroed(sums, c);
      for (int64_t t = 0; t < tiles_; ++t) classes[label(t)].add(parts[c * tiles_ + t]);
      write_gradients(op_, c, classes, 1, rstd, dweight, dbias);
    }
  }

  void backward_apply(const T* dy, const T* x, const float* mean, const float* rstd,
                      const float* dweight, const float* dbias, int64_t count, T* dx) const {
    const Buffer<Correction<float>> corrections(channels_);
    for (int64_t c = 0; c < channels_; ++c)
      corrections[c] = correction_of(op_, c, rstd, dweight, dbias, count);
    for_all_tiles(
        [&](int64_t c, int64_t t) { propagate(c, t, dy, x, mean, rstd, corrections[c], dx); },
        Order::kBackwards);
  }

  void backward(const T* dy, const T* x, const float* mean, const float* rstd, int64_t count, T* dx,
                float* dweight, float* dbias) const {
    if (!by_channel_) {
      backward_reduce(dy, x, mean, rstd, dweight, dbias);
      backward_apply(dy, x, mean, rstd, dweight, dbias, count, dx);
      return;
    }
    const Buffer<Sums> sums(channels_ * op_.classes);
    for_channels([&](int64_t c) {
      Sums* const classes = zeroed(sums, c);
      for (int64_t t = 0; t < tiles_; ++t)
        classes[label(t)].add(reduce(c, t, dy, x, mean, rstd));
      write_gradients(op_, c, classes, 1, rstd, dweight, dbias);
      const Correction<float> correct = correction_of(op_, c, rstd, dweight, dbias, count);
      for (int64_t t = tiles_ - 1; t >= 0; --t) propagate(c, t, dy, x, mean, rstd, correct, dx);
    });
  }

 private:
  static constexpr int64_t kTile = 4096;  // elements: float sums stay short, and x stays in L1
  static constexpr int64_t kAhead = 1024 / sizeof(T);  // prefetched: hundreds of nanoseconds

  struct Span {
    int64_t offset, length;
  };

  // Mean and Σ(x−mean)² of a channel's tiles, merged as Chan, Golub & LeVeque 1979 do.
  struct Moments {
    double count = 0, mean = 0, m2 = 0;

    void merge(const Moments& part) {
      const double total = count + part.count, delta = part.mean - mean;
      mean += delta * (part.count / total);
      m2 += part.m2 + delta * delta * (count * (part.count / total));
      count = total;
    }

    void write(const ConditionalBatchNorm& op, float* mean_out, float* var_out,
               float* rstd_out) const {
      write_moments(op, mean, m2 / count, mean_out, var_out, rstd_out);
    }
  };

  // Tile t of channel c: piece t % pieces_ of the plane of sample t / pieces_.
  Span tile(int64_t c, int64_t t) const {
    const int64_t first = t % pieces_ * kTile;
    return {(t / pieces_ * channels_ + c) * pixels_ + first, smaller(kTile, pixels_ - first)};
  }

  // Sums about the mean of the first elements; where that turns out to be further than two
  // deviations from the tile's mean, which would cost precision, once more about the latter.
  Moments measure(const T* x, Span span) const {
    const T* const from = x + span.offset;
    const double count = static_cast<double>(span.length);
    const int64_t head = smaller(4 * kLanes, span.length);
    Sum first;
    for_each(head, [&](auto v, int64_t j, int slot) CXRGAN_INLINE {
      first.add(load<decltype(v)>(from + j), slot);
    });
    float origin = first.total() / static_cast<float>(head);
    for (bool again = false;; again = true) {
      Sum sum, squares;
      for_each(span.length, [&](auto v, int64_t j, int slot) CXRGAN_INLINE {
        prefetch(from + j + kAhead);
        const auto centered = load<decltype(v)>(from + j) - origin;
        sum.add(centered, slot);
        squares.add(centered * centered, slot);
      });
      const double shift = sum.total() / count;
      const double m2 = squares.total() - shift * shift * count;
      if (again || !(shift * shift * count > 4 * m2)) return {count, origin + shift, m2};
      origin = static_cast<float>(origin + shift);
    }
  }

  Affine<float> affine(int64_t c, int64_t t, const float* mean, const float* rstd) const {
    const int64_t row = label(t) * channels_ + c;
    return affine_of(op_, mean[c], op_.weight[row] * rstd[c], op_.bias[row]);
  }

  void activate(int64_t c, int64_t t, const T* x, const float* mean, const float* rstd,
                T* y) const {
    const Affine<float> a = affine(c, t, mean, rstd);
    const Span span = tile(c, t);
    const T* const from = x + span.offset;
    T* const to = y + span.offset;
    with_store(streaming_ && aligned(y), [&](auto put) CXRGAN_INLINE {
      for_each(span.length, [&](auto v, int64_t i, int) CXRGAN_INLINE {
        using V = decltype(v);
        put(to + i, spread<V>(a).activated(load<V>(from + i)));
      });
    });
  }

  Sums reduce(int64_t c, int64_t t, const T* dy, const T* x, const float* mean,
              const float* rstd) const {
    const Affine<float> a = affine(c, t, mean, rstd);
    const Span span = tile(c, t);
    const T* const from = x + span.offset;
    const T* const grad = dy + span.offset;
    Sum d_sum, d_centered_sum;
    for_each(span.length, [&](auto v, int64_t i, int slot) CXRGAN_INLINE {
      using V = decltype(v);
      prefetch(from + i + kAhead);
      prefetch(grad + i + kAhead);
      const V centered = load<V>(from + i) - a.mean;
      const V d = spread<V>(a).gradient(load<V>(grad + i), centered);
      d_sum.add(d, slot);
      d_centered_sum.add(d * centered, slot);
    });
    return {d_sum.total(), d_centered_sum.total()};
  }

  // The classes' sums of channel c: its row of (C, K).
  Sums* zeroed(const Buffer<Sums>& all, int64_t c) const {
    Sums* const classes = all.at(c * op_.classes);
    for (int64_t k = 0; k < op_.classes; ++k) classes[k] = {0, 0};
    return classes;
  }

  int64_t label(int64_t t) const { return op_.labels[t / pieces_]; }

  void propagate(int64_t c, int64_t t, const T* dy, const T* x, const float* mean,
                 const float* rstd, const Correction<float>& correct, T* dx) const {
    const Affine<float> a = affine(c, t, mean, rstd);
    const Span span = tile(c, t);
    const T* const from = x + span.offset;
    const T* const grad = dy + span.offset;
    T* const to = dx + span.offset;
    with_store(streaming_ && aligned(dx), [&](auto put) CXRGAN_INLINE {
      for_each(span.length, [&](auto v, int64_t i, int) CXRGAN_INLINE {
        using V = decltype(v);
        const V centered = load<V>(from + i) - a.mean;
        const V d = spread<V>(a).gradient(load<V>(grad + i), centered);
        const Correction<V> spread_correct{splat<V>(correct.offset), splat<V>(correct.factor)};
        put(to + i, spread_correct.corrected(d * a.scale, centered));
      });
    });
  }

  template <class Body>
  void for_channels(const Body& body) const {
    parallel_for(channels_, threads_, [&](int64_t c) {
      body(c);
      if (streaming_) finish_streaming();
    });
  }

  // In the order of memory.
  template <class Body>
  void for_all_tiles(const Body& body, Order order = Order::kForwards) const {
    const int64_t planes = samples_ * channels_;
    parallel_for(
        planes * pieces_, threads_,
        [&](int64_t i) {
          const int64_t plane = i / pieces_;
          body(plane % channels_, plane / channels_ * pieces_ + i % pieces_);
          if (streaming_) finish_streaming();
        },
        order);
  }

  const ConditionalBatchNorm& op_;
  const int64_t samples_, channels_, pixels_;
  const int64_t pieces_;  // tiles a plane
  const int64_t tiles_;   // a channel
  const int threads_;
  const bool by_channel_, streaming_;
};

}  // namespace cxrgan::CXRGAN_SIMD
