// Parallel loops on a thread pool that the process already has.
#pragma once

#include <cstdint>
#include <string>

#include "cxrgan/tensor.h"

namespace cxrgan::cpu {

// Takes the OpenMP runtime that the loaded library at `path` is linked with. PyTorch has a pool of
// its own; a second runtime would put a second set of threads on the same cores. False, and loops
// stay serial, where that library is not loaded or was built without OpenMP.
bool borrow_openmp_of(const std::string& path);

// The file of the borrowed runtime, empty if there is none.
std::string openmp_runtime();

using Task = void (*)(const void* context, int64_t index);

enum class Order { kForwards, kBackwards };

// task(context, i) for every i in [0, count), each once, none of which may throw. Every thread has a
// share of neighboring indices, the same one in every loop, and goes through it in the given order;
// who is done early helps the others. So a loop backwards over data that a loop forwards has just
// gone over finds some of it in the caches.
// The pool's own size is used (omp_set_num_threads): threads <= 1 asks for a plain loop.
void run_tasks(int64_t count, int threads, Order order, Task task, const void* context);

// How many of `threads` are worth waking for an image: 1 where waking the pool costs more.
int useful_threads(const ImageShape& shape, int threads);

}  // namespace cxrgan::cpu
