// The terms of adversarial_loss.h on the CPU: compiled once for each instruction-set level (simd.h).
#include "adversarial_loss_kernels.h"
#include "adversarial_loss_math.h"
#include "loops.h"
#include "simd.h"

namespace cxrgan::CXRGAN_SIMD {
namespace {

constexpr int64_t kBlock = 1024;  // elements: float sums over them, double from there
constexpr int64_t kTask = 8192;   // elements; the same whatever the number of threads

template <class V>
struct Point {
  V value;  // φ(x)
  V slope;  // φ'(x)
};

// The functions of LossFunction. NaN goes through every comparison here as it does in PyTorch's:
// relu and its derivative let it pass.

struct Softplus {
  static constexpr bool is_linear = false;
  float sign, weight;
  template <class V>
  CXRGAN_INLINE Point<V> operator()(V x) const {
    const SoftplusOf<V> at = softplus<V>(x * sign);
    return {at.value * weight, at.sigmoid * (sign * weight)};
  }
};

struct SmoothedSoftplus {
  static constexpr bool is_linear = false;
  Softplus plain;
  float offset;
  template <class V>
  CXRGAN_INLINE Point<V> operator()(V x) const {
    const Point<V> at = plain(x);
    return {at.value + x * offset, at.slope + offset};
  }
};

struct Hinge {
  static constexpr bool is_linear = false;
  float sign;
  template <class V>
  CXRGAN_INLINE Point<V> operator()(V x) const {
    const V margin = x * sign + 1.0f, zero = splat<V>(0.0f);
    return {margin <= zero ? zero : margin, margin <= zero ? zero : splat<V>(sign)};
  }
};

struct HalfSquare {
  static constexpr bool is_linear = false;
  float offset;
  template <class V>
  CXRGAN_INLINE Point<V> operator()(V x) const {
    const V distance = x - offset;
    return {distance * distance * 0.5f, distance};
  }
};

struct Linear {
  static constexpr bool is_linear = true;  // the gradient is one number
  float sign;
  template <class V>
  CXRGAN_INLINE Point<V> operator()(V x) const {
    return {x * sign, splat<V>(sign)};
  }
};

// `count` values from x on: Σ φ, and φ'·scale to the gradient.
template <class T, class Function>
double sum_of(const Function& function, const T* x, int64_t count, float scale, float* gradient) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    Sum sum;
    for_each(smaller(kBlock, count - begin), [&](auto v, int64_t i, int slot) CXRGAN_INLINE {
      using V = decltype(v);
      const Point<V> at = function(load<V>(x + begin + i));
      sum.add(at.value, slot);
      if constexpr (!Function::is_linear) store<V>(gradient + begin + i, at.slope * scale);
    });
    total += sum.total();
  }
  return total;
}

template <class T, class Function>
double mean_of(const Function& function, const Logits& logits, int threads) {
  const T* const x = static_cast<const T*>(logits.values);
  const double count = static_cast<double>(logits.count);
  const float scale = static_cast<float>(1.0 / count);
  if constexpr (Function::is_linear) *logits.gradient = function.sign * scale;
  if (logits.count <= kTask)
    return sum_of(function, x, logits.count, scale, logits.gradient) / count;

  const int64_t tasks = divide_up(logits.count, kTask);
  const Buffer<double> sums(tasks);
  parallel_for(tasks, threads, [&](int64_t task) {
    const int64_t begin = task * kTask;
    float* const gradient = Function::is_linear ? nullptr : logits.gradient + begin;
    sums[task] = sum_of(function, x + begin, smaller(kTask, logits.count - begin), scale, gradient);
  });
  double total = 0;
  for (int64_t task = 0; task < tasks; ++task) total += sums[task];
  return total / count;
}

template <class T>
double mean_of_term(const LossTerm& term, const Logits& logits, int threads) {
  const auto [function, sign, weight, offset] = term;
  switch (function) {
    case LossFunction::kSoftplus:
      return mean_of<T>(Softplus{sign, weight}, logits, threads);
    case LossFunction::kSmoothedSoftplus:
      return mean_of<T>(SmoothedSoftplus{{sign, weight}, offset}, logits, threads);
    case LossFunction::kHinge:
      return mean_of<T>(Hinge{sign}, logits, threads);
    case LossFunction::kHalfSquare:
      return mean_of<T>(HalfSquare{offset}, logits, threads);
    case LossFunction::kLinear:
      return mean_of<T>(Linear{sign}, logits, threads);
  }
  return 0;
}

double mean(const LossTerm& term, const Logits& logits, int threads) {
  switch (logits.dtype) {
    case Dtype::kFloat32:
      return mean_of_term<float>(term, logits, threads);
    case Dtype::kBFloat16:
      return mean_of_term<BFloat16>(term, logits, threads);
    case Dtype::kFloat16:
      return mean_of_term<Float16>(term, logits, threads);
  }
  return 0;
}

}  // namespace

extern const AdversarialLossKernels adversarial_loss = {mean};

}  // namespace cxrgan::CXRGAN_SIMD
