// bias_leaky_relu.h on the CPU: compiled once for each instruction-set level (simd.h).
//
// Both layouts are cut into tasks of a fixed size, whatever the number of threads, so that the sums
// over tasks come out the same: planes (N·C of H·W elements, one bias each) for contiguous images,
// rows (of one pixel, or of a few where channels are few; a bias for each element) for channels_last
// ones.
#include "bias_leaky_relu_kernels.h"

#include "loops.h"
#include "simd.h"

namespace cxrgan::CXRGAN_SIMD {
namespace {

constexpr int64_t kTask = 16384;  // elements: a few microseconds, three streams of it fit L2
constexpr int64_t kRows = 512;    // rows of a task at most
// What is added up in one go: chains of 32 float additions, so that equal terms, whose roundings all
// go one way, sum as exactly as others.
constexpr int64_t kSummedRows = 32;
constexpr int64_t kSummedPixels = 32 * 4 * kLanes;

// What a value is multiplied by: the gain, and gain·slope.
struct Slopes {
  explicit Slopes(const BiasLeakyRelu& op) : positive(op.gain), negative(op.gain * op.negative_slope) {}
  float positive, negative;
};

template <class V>
CXRGAN_INLINE inline V gated(V value, V y, Slopes slopes) {
  return y > 0.0f ? value * slopes.positive : value * slopes.negative;
}

template <class T>
class ContiguousBias {
 public:
  ContiguousBias(const BiasLeakyRelu& op, int threads)
      : channels_(op.shape.channels),
        pixels_(op.shape.pixels),
        planes_(op.shape.samples * op.shape.channels),
        slopes_(op),
        threads_(threads),
        streaming_(worth_streaming(op.shape, sizeof(T)) && pixels_ * sizeof(T) % 64 == 0),
        pieces_(divide_up(pixels_, kTask)),
        planes_per_task_(larger(1, kTask / pixels_)) {}

  void forward(const T* x, const float* bias, T* y) const {
    for_pieces([&](int64_t plane, int64_t at, int64_t count, int64_t) {
      const float b = bias == nullptr ? 0.0f : bias[plane % channels_];
      with_store(streaming_ && aligned(y), [&](auto put) CXRGAN_INLINE {
        for_each(count, [&](auto v, int64_t i, int) CXRGAN_INLINE {
          using V = decltype(v);
          const V z = load<V>(x + at + i) + b;
          put(y + at + i, gated(z, z, slopes_));
        });
      });
    });
  }

  void gate(const T* g, const float* bias, const T* y, T* out) const {
    for_pieces([&](int64_t plane, int64_t at, int64_t count, int64_t) {
      const float b = bias == nullptr ? 0.0f : bias[plane % channels_];
      with_store(streaming_ && aligned(out), [&](auto put) CXRGAN_INLINE {
        for_each(count, [&](auto v, int64_t i, int) CXRGAN_INLINE {
          using V = decltype(v);
          const V value = load<V>(g + at + i) + b;
          put(out + at + i, gated(value, load<V>(y + at + i), slopes_));
        });
      });
    });
  }

  void backward(const T* dy, const T* y, T* dx, float* dbias) const {
    const Buffer<float> sums(planes_ * pieces_);
    for_pieces([&](int64_t plane, int64_t at, int64_t count, int64_t piece) {
      float& total = sums[plane * pieces_ + piece];
      with_store(streaming_ && aligned(dx), [&](auto put) CXRGAN_INLINE {
        const auto summed = [&](int64_t first, int64_t length) CXRGAN_INLINE {
          Sum sum;
          for_each(length, [&](auto v, int64_t i, int slot) CXRGAN_INLINE {
            using V = decltype(v);
            const V d = gated(load<V>(dy + first + i), load<V>(y + first + i), slopes_);
            sum.add(d, slot);
            put(dx + first + i, d);
          });
          return sum.total();
        };
        total = summed(at, smaller(kSummedPixels, count));
        for (int64_t i = kSummedPixels; i < count; i += kSummedPixels)
          total += summed(at + i, smaller(kSummedPixels, count - i));
      });
    });
    for (int64_t c = 0; c < channels_; ++c) {
      double total = 0;
      for (int64_t plane = c; plane < planes_; plane += channels_)
        for (int64_t piece = 0; piece < pieces_; ++piece) total += sums[plane * pieces_ + piece];
      dbias[c] = static_cast<float>(total);
    }
  }

 private:
  // body(plane, first element, count, piece of the plane)
  template <class Body>
  void for_pieces(const Body& body) const {
    const int64_t tasks = divide_up(planes_, planes_per_task_) * pieces_;
    parallel_for(tasks, threads_, [&](int64_t task) {
      const int64_t piece = task % pieces_, first = piece * kTask;
      const int64_t begin = task / pieces_ * planes_per_task_;
      const int64_t end = smaller(begin + planes_per_task_, planes_);
      const int64_t count = smaller(pieces_ == 1 ? pixels_ : kTask, pixels_ - first);
      for (int64_t plane = begin; plane < end; ++plane)
        body(plane, plane * pixels_ + first, count, piece);
      if (streaming_) finish_streaming();
    });
  }

  const int64_t channels_, pixels_, planes_;
  const Slopes slopes_;
  const int threads_;
  const bool streaming_;
  const int64_t pieces_;           // of a plane
  const int64_t planes_per_task_;  // 1 where there are pieces
};

template <class T>
class ChannelsLastBias {
 public:
  ChannelsLastBias(const BiasLeakyRelu& op, int threads)
      : fold_(pixels_a_row(op.shape)),
        columns_(op.shape.channels * fold_),
        rows_(op.shape.samples * op.shape.pixels / fold_),
        slopes_(op),
        threads_(threads),
        streaming_(worth_streaming(op.shape, sizeof(T)) && columns_ % (4 * kLanes) == 0),
        rows_per_task_(larger(1, smaller(kRows, kTask / columns_))),
        tasks_(divide_up(rows_, rows_per_task_)) {}

  void forward(const T* x, const float* bias, T* y) const {
    with_store(streaming_ && aligned(y), [&](auto put) CXRGAN_INLINE {
      for_strips(bias, [&](auto biases, int64_t at, int64_t rows, int64_t) CXRGAN_INLINE {
        for (int64_t row = 0; row < rows; ++row)
          biases.each([&](auto v, int64_t i, auto b) CXRGAN_INLINE {
            using V = decltype(v);
            const int64_t here = at + row * columns_ + i;
            const V z = load<V>(x + here) + b;
            put(y + here, gated(z, z, slopes_));
          });
      });
    });
  }

  void gate(const T* g, const float* bias, const T* y, T* out) const {
    with_store(streaming_ && aligned(out), [&](auto put) CXRGAN_INLINE {
      for_strips(bias, [&](auto biases, int64_t at, int64_t rows, int64_t) CXRGAN_INLINE {
        for (int64_t row = 0; row < rows; ++row)
          biases.each([&](auto v, int64_t i, auto b) CXRGAN_INLINE {
            using V = decltype(v);
            const int64_t here = at + row * columns_ + i;
            put(out + here, gated(load<V>(g + here) + b, load<V>(y + here), slopes_));
          });
      });
    });
  }

  void backward(const T* dy, const T* y, T* dx, float* dbias) const {
    const Buffer<float> sums(tasks_ * columns_);
    with_store(streaming_ && aligned(dx), [&](auto put) CXRGAN_INLINE {
      for_strips(
          nullptr, [&](auto totals, int64_t at, int64_t rows, int64_t sums_at) CXRGAN_INLINE {
            for (int64_t first = 0; first < rows; first += kSummedRows) {
              decltype(totals) part{};
              for (int64_t row = first; row < smaller(first + kSummedRows, rows); ++row)
                part.each([&](auto v, int64_t i, auto& sum) CXRGAN_INLINE {
                  using V = decltype(v);
                  const int64_t here = at + row * columns_ + i;
                  const V d = gated(load<V>(dy + here), load<V>(y + here), slopes_);
                  sum += d;
                  put(dx + here, d);
                });
              totals.add(part);
            }
            totals.each([&](auto v, int64_t i, auto& total) CXRGAN_INLINE {
              store<decltype(v)>(sums.at(sums_at + i), total);
            });
          });
    });
    const int64_t channels = columns_ / fold_;
    const Buffer<double> totals(channels);
    for (int64_t c = 0; c < channels; ++c) totals[c] = 0;
    for (int64_t row = 0; row < tasks_ * fold_; ++row)  // in the order of memory
      for (int64_t c = 0; c < channels; ++c) totals[c] += sums[row * channels + c];
    for (int64_t c = 0; c < channels; ++c) dbias[c] = static_cast<float>(totals[c]);
  }

 private:
  // A strip of neighboring channels: `width` values of type V, in registers.
  template <class V, int width>
  struct Strip {
    V values[width];

    // body(V{}, offset from the strip's first channel, the value there)
    template <class Body>
    CXRGAN_INLINE void each(const Body& body) {
      for (int i = 0; i < width; ++i) body(V{}, i * kWidth<V>, values[i]);
    }

    CXRGAN_INLINE void add(const Strip& other) {
      for (int i = 0; i < width; ++i) values[i] += other.values[i];
    }
  };

  // Pixels of few channels go together, as many as fill a strip.
  static int64_t pixels_a_row(const ImageShape& shape) {
    return largest_divisor(shape.samples * shape.pixels, larger(1, 4 * kLanes / shape.channels));
  }

  // body(strip, first element, rows, the strip's place in (tasks, columns)): strips of four vectors,
  // then of one, then single columns, filled from `bias`, or with zeros if it is null.
  template <class Body>
  void for_strips(const float* bias, const Body& body) const {
    const Buffer<float> columns(columns_);
    if (bias != nullptr)
      for (int64_t c = 0; c < columns_; ++c) columns[c] = bias[c % (columns_ / fold_)];
    parallel_for(tasks_, threads_, [&](int64_t task) {
      const int64_t first = task * rows_per_task_;
      const int64_t rows = smaller(rows_per_task_, rows_ - first);
      const auto visit = [&](auto v, auto width, int64_t c) CXRGAN_INLINE {
        using V = decltype(v);
        Strip<V, width> strip{};
        if (bias != nullptr)
          for (int i = 0; i < width; ++i)
            strip.values[i] = load<V>(columns.at(c + i * kWidth<V>));
        body(strip, first * columns_ + c, rows, task * columns_ + c);
      };
      int64_t c = 0;
      for (; c + 4 * kLanes <= columns_; c += 4 * kLanes) visit(Vec{}, Constant<4>{}, c);
      for (; c + kLanes <= columns_; c += kLanes) visit(Vec{}, Constant<1>{}, c);
      for (; c < columns_; ++c) visit(float{}, Constant<1>{}, c);
      if (streaming_) finish_streaming();
    });
  }

  const int64_t fold_;             // pixels a row
  const int64_t columns_, rows_;   // columns of all pixels of a row
  const Slopes slopes_;
  const int threads_;
  const bool streaming_;
  const int64_t rows_per_task_, tasks_;
};

// steps(object, T{}): the shape's layout and dtype pick the class. One pixel a sample makes the two
// layouts the same, and rows the faster view of it.
template <class T, class Steps>
void with_layout(const BiasLeakyRelu& op, int threads, const Steps& steps) {
  if (op.shape.layout == Layout::kChannelsLast || op.shape.pixels == 1) {
    steps(ChannelsLastBias<T>(op, threads), T{});
  } else {
    steps(ContiguousBias<T>(op, threads), T{});
  }
}

template <class Steps>
void dispatch(const BiasLeakyRelu& op, int threads, const Steps& steps) {
  switch (op.shape.dtype) {
    case Dtype::kFloat32:
      return with_layout<float>(op, threads, steps);
    case Dtype::kBFloat16:
      return with_layout<BFloat16>(op, threads, steps);
    case Dtype::kFloat16:
      return with_layout<Float16>(op, threads, steps);
  }
}

void forward(const BiasLeakyRelu& op, const void* x, const float* bias, void* y, int threads) {
  dispatch(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.forward(static_cast<const T*>(x), bias, static_cast<T*>(y));
  });
}

void gate(const BiasLeakyRelu& op, const void* g, const float* bias, const void* y, void* out,
          int threads) {
  dispatch(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.gate(static_cast<const T*>(g), bias, static_cast<const T*>(y), static_cast<T*>(out));
  });
}

void backward(const BiasLeakyRelu& op, const void* dy, const void* y, void* dx, float* dbias,
              int threads) {
  dispatch(op, threads, [&](const auto& layout, auto t) {
    using T = decltype(t);
    layout.backward(static_cast<const T*>(dy), static_cast<const T*>(y), static_cast<T*>(dx),
                    dbias);
  });
}

}  // namespace

extern const BiasLeakyReluKernels bias_leaky_relu = {forward, gate, backward};

}  // namespace cxrgan::CXRGAN_SIMD
