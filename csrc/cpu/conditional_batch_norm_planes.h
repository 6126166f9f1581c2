// Contiguous images (N, C, H·W): a channel is N planes, and every step is local to it.
#pragma once

#include "conditional_batch_norm_element.h"

namespace cxrgan::CXRGAN_SIMD {

template <class T>
class Planes {
 public:
  Planes(const ConditionalBatchNorm& op, int threads)
      : op_(op),
        samples_(op.shape.samples),
        channels_(op.shape.channels),
        pixels_(op.shape.pixels),
        pieces_(divide_up(pixels_, kTile)),
        samples_per_block_(larger(1, kTile / pixels_)),
        blocks_(pieces_ > 1 ? samples_ * pieces_ : divide_up(samples_, samples_per_block_)),
        threads_(threads) {
    // Neighbouring channels go together up to a page, for the prefetcher and the TLB.
    const int64_t page = divide_up(4096, pixels_ * static_cast<int64_t>(sizeof(T)));
    group_ = larger(1, smaller(page, channels_ / (4 * threads_)));
    // A channel is taken through reduce and apply while it is in the cache, unless there are so few
    // that threads would idle.
    by_channel_ = threads_ == 1 || channels_ >= 4 * threads_;
  }

  void statistics(float eps, const T* x, float* mean, float* var, float* rstd) const {
    const Buffer<Moments> parts(channels_ * blocks_);
    for_channel_blocks([&](int64_t c, int64_t b) { measure(x, c, b, parts); });
    for (int64_t c = 0; c < channels_; ++c) combine(c, parts, eps, mean, var, rstd);
  }

  void apply(const T* x, const float* mean, const float* rstd, T* y) const {
    for_channel_tiles([&](int64_t n, int64_t c, int64_t p) { apply(n, c, p, x, mean, rstd, y); });
  }

  void forward(float eps, const T* x, T* y, float* mean, float* var, float* rstd) const {
    if (!by_channel_) {
      statistics(eps, x, mean, var, rstd);
      apply(x, mean, rstd, y);
      return;
    }
    const Buffer<Moments> parts(channels_ * blocks_);
    for_groups([&](int64_t first, int64_t last) {
      for (int64_t b = 0; b < blocks_; ++b)
        for (int64_t c = first; c < last; ++c) measure(x, c, b, parts);
      for (int64_t c = first; c < last; ++c) combine(c, parts, eps, mean, var, rstd);
      for_tiles_backwards(first, last, [&](int64_t n, int64_t c, int64_t p) {
        apply(n, c, p, x, mean, rstd, y);
      });
    });
  }

  void backward_reduce(const T* dy, const T* x, const float* mean, const float* rstd,
                       float* dweight, float* dbias) const {
    const Buffer<Sums> parts(channels_ * samples_ * pieces_);
    const Buffer<Sums> classes(channels_ * op_.classes);
    for_channel_tiles(
        [&](int64_t n, int64_t c, int64_t p) { reduce(n, c, p, dy, x, mean, rstd, parts); });
    for (int64_t c = 0; c < channels_; ++c) gather(c, parts, classes, rstd, dweight, dbias);
  }

  void backward_apply(const T* dy, const T* x, const float* mean, const float* rstd,
                      const float* dweight, const float* dbias, int64_t count, T* dx) const {
    const Buffer<Correction<float>> corrections(channels_);
    for (int64_t c = 0; c < channels_; ++c)
      corrections[c] = correction_of(op_, c, rstd, dweight, dbias, count);
    for_channel_tiles([&](int64_t n, int64_t c, int64_t p) {
      propagate(n, c, p, dy, x, mean, rstd, corrections[c], dx);
    });
  }

  void backward(const T* dy, const T* x, const float* mean, const float* rstd, int64_t count, T* dx,
                float* dweight, float* dbias) const {
    if (!by_channel_) {
      backward_reduce(dy, x, mean, rstd, dweight, dbias);
      backward_apply(dy, x, mean, rstd, dweight, dbias, count, dx);
      return;
    }
    const Buffer<Sums> parts(channels_ * samples_ * pieces_);
    const Buffer<Sums> classes(channels_ * op_.classes);
    const Buffer<Correction<float>> corrections(channels_);
    for_groups([&](int64_t first, int64_t last) {
      for (int64_t n = 0; n < samples_; ++n)
        for (int64_t c = first; c < last; ++c)
          for (int64_t p = 0; p < pieces_; ++p) reduce(n, c, p, dy, x, mean, rstd, parts);
      for (int64_t c = first; c < last; ++c) {
        gather(c, parts, classes, rstd, dweight, dbias);
        corrections[c] = correction_of(op_, c, rstd, dweight, dbias, count);
      }
      for_tiles_backwards(first, last, [&](int64_t n, int64_t c, int64_t p) {
        propagate(n, c, p, dy, x, mean, rstd, corrections[c], dx);
      });
    });
  }

 private:
  static constexpr int64_t kTile = 4096;  // elements: float sums stay short, and x stays in L1

  struct Sums {
    double d, d_centred;  // Σd, Σd·(x−μ)
  };

  struct Span {
    int64_t offset, length;
  };

  // Piece p of the plane of sample n and channel c.
  Span tile(int64_t n, int64_t c, int64_t p) const {
    const int64_t first = p * kTile;
    return {(n * channels_ + c) * pixels_ + first, smaller(kTile, pixels_ - first)};
  }

  // A block is what a channel's statistics are summed over in float: a tile of a large plane, or
  // the planes of several samples.
  void measure(const T* x, int64_t c, int64_t b, const Buffer<Moments>& parts) const {
    const int64_t n = pieces_ > 1 ? b / pieces_ : b * samples_per_block_;
    const int64_t p = pieces_ > 1 ? b % pieces_ : 0;
    const int64_t planes = pieces_ > 1 ? 1 : smaller(samples_per_block_, samples_ - n);
    const int64_t stride = channels_ * pixels_;
    const Span span = tile(n, c, p);
    const T* from = x + span.offset;

    Sum sum;
    for (int64_t i = 0; i < planes; ++i)
      for_each(span.length, [&](auto v, int64_t j, int slot) CXRGAN_INLINE {
        sum.add(load<decltype(v)>(from + i * stride + j), slot);
      });
    const double count = static_cast<double>(planes * span.length);
    const float mean = static_cast<float>(sum.total() / count);

    // The float mean is a little off: Σ(x−mean) says by how much, and m2 is corrected for it.
    Sum rest, squares;
    for (int64_t i = 0; i < planes; ++i)
      for_each(span.length, [&](auto v, int64_t j, int slot) CXRGAN_INLINE {
        const auto centred = load<decltype(v)>(from + i * stride + j) - mean;
        rest.add(centred, slot);
        squares.add(centred * centred, slot);
      });
    const double residual = rest.total();
    parts[c * blocks_ + b] = {count, mean + residual / count,
                              squares.total() - residual * residual / count};
  }

  void combine(int64_t c, const Buffer<Moments>& parts, float eps, float* mean, float* var,
               float* rstd) const {
    Moments all;
    for (int64_t b = 0; b < blocks_; ++b) {
      const Moments& part = parts[c * blocks_ + b];
      all.merge(part.count, part.mean, part.m2);
    }
    all.write(eps, mean + c, var + c, rstd + c);
  }

  Affine<float> affine(int64_t n, int64_t c, const float* mean, const float* rstd) const {
    const int64_t row = op_.labels[n] * channels_ + c;
    return {mean[c], op_.weight[row] * rstd[c], op_.bias[row], op_.negative_slope};
  }

  template <class V>
  CXRGAN_INLINE static Affine<V> spread(const Affine<float>& a) {
    return {splat<V>(a.mean), splat<V>(a.scale), splat<V>(a.shift), splat<V>(a.slope)};
  }

  void apply(int64_t n, int64_t c, int64_t p, const T* x, const float* mean, const float* rstd,
             T* y) const {
    const Affine<float> a = affine(n, c, mean, rstd);
    const Span span = tile(n, c, p);
    const T* from = x + span.offset;
    T* to = y + span.offset;
    for_each(span.length, [&](auto v, int64_t i, int) CXRGAN_INLINE {
      using V = decltype(v);
      store<V>(to + i, spread<V>(a).activated(load<V>(from + i)));
    });
  }

  void reduce(int64_t n, int64_t c, int64_t p, const T* dy, const T* x, const float* mean,
              const float* rstd, const Buffer<Sums>& parts) const {
    const Affine<float> a = affine(n, c, mean, rstd);
    const Span span = tile(n, c, p);
    const T* from = x + span.offset;
    const T* grad = dy + span.offset;
    Sum d_sum, d_centred_sum;
    for_each(span.length, [&](auto v, int64_t i, int slot) CXRGAN_INLINE {
      using V = decltype(v);
      const V centred = load<V>(from + i) - a.mean;
      const V d = spread<V>(a).gradient(load<V>(grad + i), centred);
      d_sum.add(d, slot);
      d_centred_sum.add(d * centred, slot);
    });
    parts[(c * samples_ + n) * pieces_ + p] = {d_sum.total(), d_centred_sum.total()};
  }

  void gather(int64_t c, const Buffer<Sums>& parts, const Buffer<Sums>& classes, const float* rstd,
              float* dweight, float* dbias) const {
    Sums* const of_class = classes.at(c * op_.classes);
    for (int64_t k = 0; k < op_.classes; ++k) of_class[k] = {0, 0};
    for (int64_t n = 0; n < samples_; ++n) {
      Sums& sums = of_class[op_.labels[n]];
      for (int64_t p = 0; p < pieces_; ++p) {
        const Sums& part = parts[(c * samples_ + n) * pieces_ + p];
        sums.d += part.d;
        sums.d_centred += part.d_centred;
      }
    }
    for (int64_t k = 0; k < op_.classes; ++k) {
      dbias[k * channels_ + c] = static_cast<float>(of_class[k].d);
      dweight[k * channels_ + c] = static_cast<float>(of_class[k].d_centred * rstd[c]);
    }
  }

  void propagate(int64_t n, int64_t c, int64_t p, const T* dy, const T* x, const float* mean,
                 const float* rstd, const Correction<float>& correct, T* dx) const {
    const Affine<float> a = affine(n, c, mean, rstd);
    const Span span = tile(n, c, p);
    const T* from = x + span.offset;
    const T* grad = dy + span.offset;
    T* to = dx + span.offset;
    for_each(span.length, [&](auto v, int64_t i, int) CXRGAN_INLINE {
      using V = decltype(v);
      const V centred = load<V>(from + i) - a.mean;
      const V d = spread<V>(a).gradient(load<V>(grad + i), centred);
      const Correction<V> spread_correct{splat<V>(correct.offset), splat<V>(correct.factor)};
      store<V>(to + i, spread_correct.corrected(d * a.scale, centred));
    });
  }

  template <class Body>
  void for_groups(const Body& body) const {
    parallel_for(divide_up(channels_, group_), threads_, [&](int64_t g) {
      body(g * group_, smaller(channels_, (g + 1) * group_));
    });
  }

  template <class Body>
  void for_channel_blocks(const Body& body) const {
    parallel_for(channels_ * blocks_, threads_,
                 [&](int64_t i) { body(i % channels_, i / channels_); });
  }

  template <class Body>
  void for_channel_tiles(const Body& body) const {
    const int64_t tiles = samples_ * channels_ * pieces_;
    const int64_t grain = divide_up(4 * kTile, smaller(pixels_, kTile));  // tiles a task
    parallel_for(divide_up(tiles, grain), threads_, [&](int64_t task) {
      for (int64_t i = task * grain; i < smaller(tiles, (task + 1) * grain); ++i) {
        const int64_t plane = i / pieces_;
        body(plane / channels_, plane % channels_, i % pieces_);
      }
    });
  }

  // The last tiles read are the likeliest to be in the cache still.
  template <class Body>
  void for_tiles_backwards(int64_t first, int64_t last, const Body& body) const {
    for (int64_t n = samples_ - 1; n >= 0; --n)
      for (int64_t c = last - 1; c >= first; --c)
        for (int64_t p = pieces_ - 1; p >= 0; --p) body(n, c, p);
  }

  const ConditionalBatchNorm& op_;
  const int64_t samples_, channels_, pixels_;
  const int64_t pieces_;             // tiles a plane
  const int64_t samples_per_block_;  // where planes are smaller than a tile
  const int64_t blocks_;             // blocks a channel
  const int threads_;
  int64_t group_;
  bool by_channel_;
};

}  // namespace cxrgan::CXRGAN_SIMD
