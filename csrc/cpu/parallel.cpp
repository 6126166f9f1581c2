#include "parallel.h"

#include <dlfcn.h>

#include <atomic>

namespace cxrgan::cpu {
namespace {

// What a compiler calls for `#pragma omp parallel`; libgomp, libomp and libiomp5 all have it.
using ParallelRegion = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

std::atomic<ParallelRegion> parallel_region{nullptr};

struct Loop {
  Task task;
  const void* context;
  int64_t count;
  std::atomic<int64_t> next{0};
};

void work(void* data) {
  Loop& loop = *static_cast<Loop*>(data);
  for (int64_t i = loop.next++; i < loop.count; i = loop.next++) loop.task(loop.context, i);
}

}  // namespace

bool borrow_openmp_of(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  // The search goes through the library's own dependencies, so it finds its runtime even where
  // another package has loaded a second one.
  void* symbol = dlsym(library, "GOMP_parallel");
  dlclose(library);
  parallel_region = reinterpret_cast<ParallelRegion>(symbol);
  return symbol != nullptr;
}

std::string openmp_runtime() {
  Dl_info info;
  void* symbol = reinterpret_cast<void*>(parallel_region.load());
  if (symbol == nullptr || dladdr(symbol, &info) == 0) return "";
  return info.dli_fname;
}

void run_tasks(int64_t count, int threads, Task task, const void* context) {
  const ParallelRegion region = parallel_region.load();
  if (threads <= 1 || count <= 1 || region == nullptr) {
    for (int64_t i = 0; i < count; ++i) task(context, i);
    return;
  }
  Loop loop{task, context, count};
  // 0: the size set by omp_set_num_threads, as PyTorch does it too. libgomp tears its pool down
  // and builds it again whenever two regions ask for different sizes.
  region(work, &loop, 0, 0);
}

int useful_threads(const ImageShape& shape, int threads) {
  constexpr int64_t kWorthAThread = 16384;
  const int64_t useful = shape.elements() / kWorthAThread;
  return useful < threads ? static_cast<int>(useful < 1 ? 1 : useful) : threads;
}

}  // namespace cxrgan::cpu
