#include "parallel.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>

namespace cxrgan::cpu {
namespace {

// What a compiler calls for `#pragma omp parallel`; libgomp, libomp and libiomp5 all have it.
using ParallelRegion = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

using ThreadNumber = int (*)();

std::atomic<ParallelRegion> parallel_region{nullptr};
std::atomic<ThreadNumber> thread_number{nullptr};

constexpr int64_t kMaxShares = 64;

struct alignas(64) Share {  // a cache line each
  std::atomic<int64_t> taken{0};
  int64_t first = 0, count = 0;
};

struct Loop {
  Task task;
  const void* context;
  Order order;
  int64_t shares;
  Share share[kMaxShares];

  Loop(Task task_, const void* context_, Order order_, int64_t count, int64_t shares_)
      : task(task_), context(context_), order(order_), shares(shares_) {
    for (int64_t s = 0; s < shares; ++s) {
      share[s].first = count * s / shares;
      share[s].count = count * (s + 1) / shares - share[s].first;
    }
  }

  void empty(Share& s) const {
    for (int64_t i = s.taken++; i < s.count; i = s.taken++)
      task(context, s.first + (order == Order::kForwards ? i : s.count - 1 - i));
  }
};

void work(void* data) {
  Loop& loop = *static_cast<Loop*>(data);
  const int64_t own = thread_number.load()();
  for (int64_t s = 0; s < loop.shares; ++s) loop.empty(loop.share[(own + s) % loop.shares]);
}

}  // namespace

bool borrow_openmp_of(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  // The search goes through the library's own dependencies, so it finds its runtime even where
  // another package has loaded a second one.
  void* region = dlsym(library, "GOMP_parallel");
  void* number = dlsym(library, "omp_get_thread_num");
  dlclose(library);
  if (region == nullptr || number == nullptr) return false;
  thread_number = reinterpret_cast<ThreadNumber>(number);
  parallel_region = reinterpret_cast<ParallelRegion>(region);
  return true;
}

std::string openmp_runtime() {
  Dl_info info;
  void* symbol = reinterpret_cast<void*>(parallel_region.load());
  if (symbol == nullptr || dladdr(symbol, &info) == 0) return "";
  return info.dli_fname;
}

void run_tasks(int64_t count, int threads, Order order, Task task, const void* context) {
  const ParallelRegion region = parallel_region.load();
  if (threads <= 1 || count <= 1 || region == nullptr) {
    for (int64_t i = 0; i < count; ++i)
      task(context, order == Order::kForwards ? i : count - 1 - i);
    return;
  }
  Loop loop(task, context, order, count, std::min<int64_t>(threads, kMaxShares));
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
