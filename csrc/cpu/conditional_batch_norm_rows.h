// Channels-last images (N, H·W, C): a row is one pixel's channels, and a vector holds neighbouring
// channels. Steps go over chunks of rows; what they find is combined for each channel in between.
#pragma once

#include "conditional_batch_norm_element.h"

namespace cxrgan::CXRGAN_SIMD {

template <class T>
class Rows {
 public:
  Rows(const ConditionalBatchNorm& op, int threads)
      : op_(op),
        samples_(op.shape.samples),
        channels_(op.shape.channels),
        pixels_(op.shape.pixels),
        chunks_(divide_up(pixels_, kChunk)),
        blocks_(divide_up(samples_ * pixels_, kChunk)),
        threads_(threads) {}

  void statistics(float eps, const T* x, float* mean, float* var, float* rstd) const {
    const Parts parts(blocks_ * channels_);
    parallel_for(blocks_, threads_, [&](int64_t b) { measure(x, b, parts); });
    parallel_for(divide_up(channels_, kSlice), threads_, [&](int64_t slice) {
      combine(slice * kSlice, parts, eps, mean, var, rstd);
    });
  }

  void apply(const T* x, const float* mean, const float* rstd, T* y) const {
    for_chunks([&](int64_t n, int64_t chunk) { apply(n, chunk, x, mean, rstd, y); });
  }

  void forward(float eps, const T* x, T* y, float* mean, float* var, float* rstd) const {
    statistics(eps, x, mean, var, rstd);
    apply(x, mean, rstd, y);
  }

  void backward_reduce(const T* dy, const T* x, const float* mean, const float* rstd,
                       float* dweight, float* dbias) const {
    const int64_t size = samples_ * chunks_ * channels_;
    const Buffer<float> d_sums(size), d_centred_sums(size);
    parallel_for(samples_ * chunks_, threads_, [&](int64_t i) {
      reduce(i / chunks_, i % chunks_, dy, x, mean, rstd, d_sums, d_centred_sums);
    });
    const Buffer<double> totals(2 * op_.classes * channels_);
    parallel_for(divide_up(channels_, kSlice), threads_, [&](int64_t slice) {
      gather(slice * kSlice, d_sums, d_centred_sums, totals, rstd, dweight, dbias);
    });
  }

  void backward_apply(const T* dy, const T* x, const float* mean, const float* rstd,
                      const float* dweight, const float* dbias, int64_t count, T* dx) const {
    const Buffer<float> offset(channels_), factor(channels_);
    for (int64_t c = 0; c < channels_; ++c) {
      const Correction<float> correct = correction_of(op_, c, rstd, dweight, dbias, count);
      offset[c] = correct.offset;
      factor[c] = correct.factor;
    }
    for_chunks([&](int64_t n, int64_t chunk) {
      propagate(n, chunk, dy, x, mean, rstd, offset.at(0), factor.at(0), dx);
    });
  }

  void backward(const T* dy, const T* x, const float* mean, const float* rstd, int64_t count, T* dx,
                float* dweight, float* dbias) const {
    backward_reduce(dy, x, mean, rstd, dweight, dbias);
    backward_apply(dy, x, mean, rstd, dweight, dbias, count, dx);
  }

 private:
  static constexpr int64_t kChunk = 128;  // rows: float sums stay short, and a strip stays in cache
  static constexpr int64_t kSlice = 64;   // channels combined by one task
  // Vectors side by side in a strip, as the registers allow; backward needs five a vector.
  static constexpr int kForwardStrip = 4;
  static constexpr int kBackwardStrip = kLanes == 16 ? 4 : 2;

  // A block's sums about its own mean, as good as float gives it: what `rest` says it is off by is
  // put right in double.
  struct Parts {
    Buffer<float> mean, rest, squares;  // (blocks, C): m, Σ(x−m), Σ(x−m)²

    explicit Parts(int64_t size) : mean(size), rest(size), squares(size) {}
  };

  struct Span {
    int64_t first, rows;  // the first row of all N·H·W
  };

  Span chunk_of(int64_t n, int64_t chunk) const {
    const int64_t first = chunk * kChunk;
    return {n * pixels_ + first, smaller(kChunk, pixels_ - first)};
  }

  // body(V{}, width, c): strips of up to `strip` vectors (width of them, a constant), then one at a
  // time, then single channels.
  template <int strip, class Body>
  CXRGAN_INLINE void for_strips(const Body& body) const {
    int64_t c = 0;
    for (; c + strip * kLanes <= channels_; c += strip * kLanes)
      body(Vec{}, Constant<strip>{}, c);
    for (; c + kLanes <= channels_; c += kLanes) body(Vec{}, Constant<1>{}, c);
    for (; c < channels_; ++c) body(float{}, Constant<1>{}, c);
  }

  void measure(const T* x, int64_t b, const Parts& parts) const {
    const int64_t first = b * kChunk;
    const int64_t rows = smaller(kChunk, samples_ * pixels_ - first);
    const float reciprocal = 1.0f / static_cast<float>(rows);
    for_strips<kForwardStrip>([&](auto v, auto width, int64_t c) CXRGAN_INLINE {
      using V = decltype(v);
      const T* const from = x + first * channels_ + c;
      V sum[width] = {};
      for (int64_t row = 0; row < rows; ++row)
        for (int i = 0; i < width; ++i) sum[i] += load<V>(from + row * channels_ + i * kWidth<V>);
      V mean[width], rest[width] = {}, squares[width] = {};
      for (int i = 0; i < width; ++i) mean[i] = sum[i] * reciprocal;
      for (int64_t row = 0; row < rows; ++row)
        for (int i = 0; i < width; ++i) {
          const V centred = load<V>(from + row * channels_ + i * kWidth<V>) - mean[i];
          rest[i] += centred;
          squares[i] += centred * centred;
        }
      for (int i = 0; i < width; ++i) {
        const int64_t at = b * channels_ + c + i * kWidth<V>;
        store<V>(parts.mean.at(at), mean[i]);
        store<V>(parts.rest.at(at), rest[i]);
        store<V>(parts.squares.at(at), squares[i]);
      }
    });
  }

  void combine(int64_t first, const Parts& parts, float eps, float* mean, float* var,
               float* rstd) const {
    const int64_t width = smaller(kSlice, channels_ - first);
    Moments all[kSlice];
    for (int64_t b = 0; b < blocks_; ++b) {
      const int64_t rows = smaller(kChunk, samples_ * pixels_ - b * kChunk);
      const double total = all[0].count + rows;
      const double share = rows / total, reciprocal = 1.0 / rows;
      for (int64_t i = 0; i < width; ++i) {
        const int64_t at = b * channels_ + first + i;
        const double shift = parts.rest[at] * reciprocal;
        all[i].merge_share(share, total, parts.mean[at] + shift,
                           parts.squares[at] - parts.rest[at] * shift);
      }
    }
    for (int64_t i = 0; i < width; ++i)
      all[i].write(eps, mean + first + i, var + first + i, rstd + first + i);
  }

  // The affine maps of sample n for the vectors of a strip.
  template <class V, int width>
  CXRGAN_INLINE void affine(int64_t n, int64_t c, const float* mean, const float* rstd,
                            Affine<V> (&maps)[width]) const {
    const int64_t row = op_.labels[n] * channels_;
    for (int i = 0; i < width; ++i) {
      const int64_t at = c + i * kWidth<V>;
      maps[i] = {load<V>(mean + at), load<V>(op_.weight + row + at) * load<V>(rstd + at),
                 load<V>(op_.bias + row + at), splat<V>(op_.negative_slope)};
    }
  }

  void apply(int64_t n, int64_t chunk, const T* x, const float* mean, const float* rstd,
             T* y) const {
    const Span span = chunk_of(n, chunk);
    for_strips<kForwardStrip>([&](auto v, auto width, int64_t c) CXRGAN_INLINE {
      using V = decltype(v);
      Affine<V> a[width];
      affine(n, c, mean, rstd, a);
      const T* const from = x + span.first * channels_ + c;
      T* const to = y + span.first * channels_ + c;
      for (int64_t row = 0; row < span.rows; ++row)
        for (int i = 0; i < width; ++i) {
          const int64_t at = row * channels_ + i * kWidth<V>;
          store<V>(to + at, a[i].activated(load<V>(from + at)));
        }
    });
  }

  void reduce(int64_t n, int64_t chunk, const T* dy, const T* x, const float* mean,
              const float* rstd, const Buffer<float>& d_sums,
              const Buffer<float>& d_centred_sums) const {
    const Span span = chunk_of(n, chunk);
    for_strips<kBackwardStrip>([&](auto v, auto width, int64_t c) CXRGAN_INLINE {
      using V = decltype(v);
      Affine<V> a[width];
      affine(n, c, mean, rstd, a);
      const T* const from = x + span.first * channels_ + c;
      const T* const grad = dy + span.first * channels_ + c;
      V d_sum[width] = {}, d_centred_sum[width] = {};
      for (int64_t row = 0; row < span.rows; ++row)
        for (int i = 0; i < width; ++i) {
          const int64_t at = row * channels_ + i * kWidth<V>;
          const V centred = load<V>(from + at) - a[i].mean;
          const V d = a[i].gradient(load<V>(grad + at), centred);
          d_sum[i] += d;
          d_centred_sum[i] += d * centred;
        }
      for (int i = 0; i < width; ++i) {
        const int64_t at = (n * chunks_ + chunk) * channels_ + c + i * kWidth<V>;
        store<V>(d_sums.at(at), d_sum[i]);
        store<V>(d_centred_sums.at(at), d_centred_sum[i]);
      }
    });
  }

  void gather(int64_t first, const Buffer<float>& d_sums, const Buffer<float>& d_centred_sums,
              const Buffer<double>& totals, const float* rstd, float* dweight,
              float* dbias) const {
    const int64_t width = smaller(kSlice, channels_ - first);
    double* const d_totals = totals.at(0) + first;
    double* const d_centred_totals = totals.at(op_.classes * channels_) + first;
    for (int64_t k = 0; k < op_.classes; ++k)
      for (int64_t i = 0; i < width; ++i)
        d_totals[k * channels_ + i] = d_centred_totals[k * channels_ + i] = 0;
    for (int64_t n = 0; n < samples_; ++n) {
      const int64_t row = op_.labels[n] * channels_;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const int64_t at = (n * chunks_ + chunk) * channels_ + first;
        for (int64_t i = 0; i < width; ++i) {
          d_totals[row + i] += d_sums[at + i];
          d_centred_totals[row + i] += d_centred_sums[at + i];
        }
      }
    }
    for (int64_t k = 0; k < op_.classes; ++k)
      for (int64_t i = 0; i < width; ++i) {
        const int64_t at = k * channels_ + i;
        dbias[first + at] = static_cast<float>(d_totals[at]);
        dweight[first + at] = static_cast<float>(d_centred_totals[at] * rstd[first + i]);
      }
  }

  void propagate(int64_t n, int64_t chunk, const T* dy, const T* x, const float* mean,
                 const float* rstd, const float* offset, const float* factor, T* dx) const {
    const Span span = chunk_of(n, chunk);
    for_strips<kBackwardStrip>([&](auto v, auto width, int64_t c) CXRGAN_INLINE {
      using V = decltype(v);
      Affine<V> a[width];
      affine(n, c, mean, rstd, a);
      Correction<V> correct[width];
      for (int i = 0; i < width; ++i)
        correct[i] = {load<V>(offset + c + i * kWidth<V>), load<V>(factor + c + i * kWidth<V>)};
      const int64_t start = span.first * channels_ + c;
      for (int64_t row = 0; row < span.rows; ++row)
        for (int i = 0; i < width; ++i) {
          const int64_t at = start + row * channels_ + i * kWidth<V>;
          const V centred = load<V>(x + at) - a[i].mean;
          const V d = a[i].gradient(load<V>(dy + at), centred);
          store<V>(dx + at, correct[i].corrected(d * a[i].scale, centred));
        }
    });
  }

  // The last chunks read are the likeliest to be in the cache still.
  template <class Body>
  void for_chunks(const Body& body) const {
    const int64_t count = samples_ * chunks_;
    parallel_for(count, threads_, [&](int64_t i) {
      const int64_t chunk = count - 1 - i;
      body(chunk / chunks_, chunk % chunks_);
    });
  }

  const ConditionalBatchNorm& op_;
  const int64_t samples_, channels_, pixels_;
  const int64_t chunks_;  // chunks a sample: they have one label
  const int64_t blocks_;  // chunks of all rows, for the statistics
  const int threads_;
};

}  // namespace cxrgan::CXRGAN_SIMD
