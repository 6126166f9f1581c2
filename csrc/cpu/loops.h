// Parallel loops, scratch memory and integers for the kernel files (simd.h says what they may use).
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#include "parallel.h"

namespace cxrgan::CXRGAN_SIMD {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The largest divisor of `count` that is at most `most`; both at least 1.
inline int64_t largest_divisor(int64_t count, int64_t most) {
  int64_t divisor = smaller(count, most);
  while (count % divisor != 0) --divisor;
  return divisor;
}

// Whether an image of that many bytes is better written past the caches: it will not be there any
// more when it is read again, and a store past them does not read the line first.
inline bool worth_streaming(const ImageShape& shape, int64_t element_bytes) {
  constexpr int64_t kLarge = 16 << 20;
  return shape.elements() * element_bytes >= kLarge;
}

// Uninitialized scratch memory.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size)
      : data_(static_cast<T*>(std::malloc(sizeof(T) * static_cast<size_t>(larger(size, 1))))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T& operator[](int64_t i) const { return data_[i]; }
  T* at(int64_t i) const { return data_ + i; }

 private:
  T* data_;
};

// An integer that a loop over it can be unrolled by.
template <int value>
struct Constant {
  constexpr operator int() const { return value; }
};

using cpu::Order;

template <class Body>
void parallel_for(int64_t count, int threads, const Body& body, Order order = Order::kForwards) {
  cpu::run_tasks(
      count, threads, order,
      [](const void* context, int64_t i) { (*static_cast<const Body*>(context))(i); }, &body);
}

}  // namespace cxrgan::CXRGAN_SIMD
