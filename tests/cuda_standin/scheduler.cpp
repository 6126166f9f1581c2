#include "scheduler.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <vector>

#include "fibers.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_standin {
namespace {

constexpr int kWarp = 32;
constexpr size_t kMargin = 1024;  // bytes around shared memory that nobody may write to
constexpr unsigned char kPoison = 0xff;  // NaN in every format, and -1

enum class State { kReady, kAtWarp, kAtBlock, kAtCluster, kAtGrid, kExited };

struct Fiber {
  Context context;
  State state;
  int block;   // of the cluster
  int thread;  // of the block
  int warp;    // of the cluster
  uint3 index;
  WarpOp op;
  unsigned mask;
  int source;
  uint64_t bits;  // what it brings to a warp, then what it gets
  int arrivals;   // how often it has arrived at the cluster's barrier
};

struct Block {
  uint3 index;
  unsigned char* shared;
  int at_barrier;
  int live;  // threads
};

// Of the launch that runs. There is one at a time.
const Launch* running;
Order order;
std::vector<Fiber> fibers;  // block by block
std::vector<Block> blocks;
std::vector<unsigned> waiting;  // lanes of each warp at an exchange
std::vector<size_t> turns, block_turns;  // of fibers, and of the grid's clusters
std::vector<unsigned char> shared_memory;
Context scheduler;
Fiber* current;
int threads;  // of a block
int arrived_at_cluster, cluster_phases, at_grid_barrier, live;
bool released;  // a barrier, in this round; in eager order also a warp
char failure[512];

// ---- Failures

// The first failure of a launch is the one that is told.
__attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  if (failure[0] != '\0') return;
  va_list values;
  va_start(values, format);
  vsnprintf(failure, sizeof(failure), format, values);
  va_end(values);
}

void fail_at(const Fiber& fiber, const char* what) {
  const uint3 at = fiber.index, block = blocks[static_cast<size_t>(fiber.block)].index;
  fail("%s: thread (%u, %u, %u) of block (%u, %u, %u)", what, at.x, at.y, at.z, block.x, block.y,
       block.z);
}

const char* name_of(WarpOp op) {
  switch (op) {
    case WarpOp::kSync:
      return "__syncwarp";
    case WarpOp::kShuffle:
      return "a shuffle";
    case WarpOp::kBallot:
      break;
  }
  return "a vote";
}

const char* what_does(const Fiber* fiber) {
  if (fiber == nullptr) return "is no thread of the block";
  if (fiber->state == State::kExited) return "has exited";
  if (fiber->state == State::kAtWarp) return "waits at another operation or with another mask";
  return "waits at a barrier";
}

// Reports a lane that a waiting one waits for in vain; there is one if nobody can go on.
void report_lane(const Fiber& fiber) {
  const uint3 block = blocks[static_cast<size_t>(fiber.block)].index;
  const int warp = fiber.thread / kWarp;
  for (int lane = 0; lane < kWarp; ++lane) {
    const int thread = warp * kWarp + lane;
    const Fiber* const other = thread < threads ? &fiber + (thread - fiber.thread) : nullptr;
    const bool there = other != nullptr && other->state == State::kAtWarp &&
                       other->op == fiber.op && other->mask == fiber.mask;
    if ((fiber.mask >> lane & 1u) != 0 && !there)
      return fail(
          "lane %d of warp %d of block (%u, %u, %u) never arrived at %s with mask 0x%08x: it %s",
          lane, warp, block.x, block.y, block.z, name_of(fiber.op), fiber.mask, what_does(other));
  }
}

// Nobody can go on, and not all have exited.
void report_deadlock() {
  for (const Fiber& fiber : fibers)
    if (fiber.state == State::kAtWarp) return report_lane(fiber);
  for (const Fiber& fiber : fibers) {
    const Block& block = blocks[static_cast<size_t>(fiber.block)];
    if (fiber.state == State::kAtBlock)
      return fail("barrier not reached by all threads: %d of %d of block (%u, %u, %u)",
                  block.at_barrier, threads, block.index.x, block.index.y, block.index.z);
  }
  const int all = static_cast<int>(fibers.size());
  if (running->cooperative)
    return fail("grid barrier not reached by all threads: %d of %d", at_grid_barrier, all);
  const uint3 block = blocks[0].index;
  fail("cluster barrier not reached by all threads: %d of %d of the cluster of block (%u, %u, %u)",
       arrived_at_cluster, all, block.x, block.y, block.z);
}

// ---- Fibers

void leave() { switch_context(current->context, scheduler); }

void fiber_entry() {
  running->call(running->arguments);
  current->state = State::kExited;
  --live;
  Block& block = blocks[static_cast<size_t>(current->block)];
  // What an exited block had in shared memory, the rest of its cluster may no longer look at.
  if (--block.live == 0) memset(block.shared, kPoison, running->shared_bytes);
  leave();
  abort();  // an exited fiber is never gone on with
}

void wait_for_all(State state, int& arrived, int expected, size_t first) {
  current->state = state;
  if (++arrived == expected) {
    arrived = 0;
    released = true;
    for (size_t i = first; i < first + static_cast<size_t>(expected); ++i)
      fibers[i].state = State::kReady;
  }
  leave();
}

// Completes a warp's operation if `last` was the one that all others wait for.
void complete_warp(const Fiber& last) {
  unsigned& waiting_lanes = waiting[static_cast<size_t>(last.warp)];
  const unsigned mask = last.mask;
  if ((waiting_lanes & mask) != mask) return;
  Fiber* const warp = &fibers[static_cast<size_t>(&last - fibers.data() - last.thread % kWarp)];
  unsigned ballot = 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    if (warp[lane].op != last.op || warp[lane].mask != mask) return;
    if (warp[lane].bits != 0) ballot |= 1u << lane;
  }
  uint64_t results[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    const int source = warp[lane].source;
    results[lane] = (mask >> source & 1u) != 0 ? warp[source].bits : ~uint64_t{0};
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    warp[lane].bits = last.op == WarpOp::kBallot ? ballot : results[lane];
    warp[lane].state = State::kReady;
  }
  waiting_lanes &= ~mask;
  if (order.kind == Order::Kind::kEager) released = true;
}

// ---- Order

uint64_t next_random() {  // xorshift64*
  order.seed ^= order.seed >> 12;
  order.seed ^= order.seed << 25;
  order.seed ^= order.seed >> 27;
  return order.seed * 0x2545f4914f6cdd1dull;
}

void shuffle_if_asked(std::vector<size_t>& indices) {
  if (order.kind != Order::Kind::kShuffled) return;
  for (size_t i = indices.size(); i > 1; --i) std::swap(indices[i - 1], indices[next_random() % i]);
}

void set_turns(std::vector<size_t>& indices, size_t count) {
  indices.resize(count);
  const bool backwards = order.kind == Order::Kind::kBackwards || order.kind == Order::Kind::kEager;
  for (size_t i = 0; i < count; ++i) indices[i] = backwards ? count - 1 - i : i;
  shuffle_if_asked(indices);
}

// ---- Blocks

void check_margins() {
  for (const Block& block : blocks) {
    const auto touched = [](unsigned char byte) { return byte != kPoison; };
    if (std::any_of(block.shared - kMargin, block.shared, touched) ||
        std::any_of(block.shared + running->shared_bytes,
                    block.shared + running->shared_bytes + kMargin, touched))
      return fail("a write outside its %zu bytes of shared memory: block (%u, %u, %u)",
                  running->shared_bytes, block.index.x, block.index.y, block.index.z);
  }
}

void run_rounds() {
  while (live > 0) {
    bool progress = false;
    released = false;
    shuffle_if_asked(turns);
    for (const size_t turn : turns) {
      Fiber& fiber = fibers[turn];
      if (fiber.state != State::kReady) continue;
      current = &fiber;
      threadIdx = fiber.index;
      blockIdx = blocks[static_cast<size_t>(fiber.block)].index;
      progress = true;
      switch_context(scheduler, fiber.context);
      if (failure[0] != '\0') return;
      if (released) break;  // a new round, in which those at the front go first again
    }
    if (!progress) return report_deadlock();
  }
}

// The blocks that run together: a cluster, or a whole cooperative grid.
dim3 together() { return running->cooperative ? running->grid : running->cluster; }

// `base` is the first block of those that run together.
void run_cluster(uint3 base) {
  const dim3 cluster = together();
  int at = 0;
  for (unsigned z = 0; z < cluster.z; ++z)
    for (unsigned y = 0; y < cluster.y; ++y)
      for (unsigned x = 0; x < cluster.x; ++x, ++at) {
        Block& block = blocks[static_cast<size_t>(at)];
        block.index = {base.x + x, base.y + y, base.z + z};
        block.at_barrier = 0;
        block.live = threads;
        memset(block.shared - kMargin, kPoison, running->shared_bytes + 2 * kMargin);
      }
  for (size_t i = 0; i < fibers.size(); ++i) {
    fibers[i].state = State::kReady;
    fibers[i].arrivals = 0;
    set_up(fibers[i].context, static_cast<int>(i), fiber_entry);
  }
  std::fill(waiting.begin(), waiting.end(), 0u);
  live = static_cast<int>(fibers.size());
  arrived_at_cluster = cluster_phases = at_grid_barrier = 0;
  run_rounds();
  if (failure[0] == '\0') check_margins();
}

void run_grid() {
  const dim3 grid = running->grid, cluster = together();
  const size_t across = grid.x / cluster.x, down = grid.y / cluster.y;
  set_turns(block_turns, across * down * (grid.z / cluster.z));
  for (const size_t i : block_turns) {
    run_cluster({static_cast<unsigned>(i % across) * cluster.x,
                 static_cast<unsigned>(i / across % down) * cluster.y,
                 static_cast<unsigned>(i / across / down) * cluster.z});
    if (failure[0] != '\0') return;
  }
}

}  // namespace

bool read_order(Order* out) {
  const char* const text = getenv("CXRGAN_STANDIN_ORDER");
  const std::string name = text == nullptr || *text == '\0' ? "forwards" : text;
  if (name == "forwards" || name == "backwards") {
    *out = {name == "forwards" ? Order::Kind::kForwards : Order::Kind::kBackwards, 0};
    return true;
  }
  if (name == "eager") {
    *out = {Order::Kind::kEager, 0};
    return true;
  }
  // Odd and spread, because the generator must not start from 0, nor alike for 1 and 2.
  *out = {Order::Kind::kShuffled, strtoull(name.c_str(), nullptr, 10) * 0x9e3779b97f4a7c15ull | 1};
  return name.find_first_not_of("0123456789") == std::string::npos;
}

Outcome run(const Launch& what, const Order& in_order) {
  running = &what;
  order = in_order;
  threads = static_cast<int>(what.block.x * what.block.y * what.block.z);
  const dim3 set = together();
  const size_t size = static_cast<size_t>(set.x) * set.y * set.z;
  const int count = static_cast<int>(size) * threads;
  if (!reserve_stacks(count)) return {cudaErrorMemoryAllocation, "no memory for stacks"};
  fibers.resize(static_cast<size_t>(count));
  const int warps = (threads + kWarp - 1) / kWarp;
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = fibers[static_cast<size_t>(i)];
    fiber.block = i / threads;
    fiber.thread = i % threads;
    fiber.warp = fiber.block * warps + fiber.thread / kWarp;
    const unsigned thread = static_cast<unsigned>(fiber.thread);
    fiber.index = {thread % what.block.x, thread / what.block.x % what.block.y,
                   thread / what.block.x / what.block.y};
  }
  waiting.resize(size * static_cast<size_t>(warps));
  set_turns(turns, fibers.size());
  blocks.resize(size);
  const size_t stride = (what.shared_bytes + 127) / 128 * 128 + 2 * kMargin;
  shared_memory.resize(stride * size + 128);
  const uintptr_t base = (reinterpret_cast<uintptr_t>(shared_memory.data()) + 127) / 128 * 128;
  for (size_t i = 0; i < size; ++i)
    blocks[i].shared = reinterpret_cast<unsigned char*>(base) + i * stride + kMargin;
  gridDim = what.grid;
  blockDim = what.block;
  failure[0] = '\0';
  uintptr_t address = 0;
  const Fault fault = guarded(run_grid, &address);
  char text[64];
  snprintf(text, sizeof(text), "access to 0x%llx", static_cast<unsigned long long>(address));
  switch (fault) {
    case Fault::kNone:
      return {failure[0] == '\0' ? cudaSuccess : cudaErrorLaunchFailure, failure};
    case Fault::kIllegalAddress:
      fail_at(*current, text);
      return {cudaErrorIllegalAddress, failure};
    case Fault::kMisaligned:
      fail_at(*current, "misaligned access, or a trap");
      return {cudaErrorMisalignedAddress, failure};
    case Fault::kStackOverflow:
      fail_at(*current, "stack overflow");
      break;
    case Fault::kArithmetic:
      fail_at(*current, "integer division by zero");
      break;
  }
  return {cudaErrorLaunchFailure, failure};
}

// ---- What kernels call

int lane() { return current->thread % kWarp; }

void block_barrier() {
  wait_for_all(State::kAtBlock, blocks[static_cast<size_t>(current->block)].at_barrier, threads,
               static_cast<size_t>(current->block * threads));
}

void cluster_arrive() {
  ++current->arrivals;
  // A block of a cooperative launch is a cluster of its own, whose arrivals nobody waits for but it.
  if (running->cooperative || ++arrived_at_cluster < static_cast<int>(fibers.size())) return;
  arrived_at_cluster = 0;
  ++cluster_phases;
  released = true;
  for (Fiber& fiber : fibers)
    if (fiber.state == State::kAtCluster) fiber.state = State::kReady;
}

void cluster_wait() {
  if (running->cooperative) return block_barrier();
  if (current->arrivals <= cluster_phases) return;
  current->state = State::kAtCluster;
  leave();
}

void grid_sync() {
  if (!running->cooperative) trap("a grid barrier in a launch that is not cooperative");
  wait_for_all(State::kAtGrid, at_grid_barrier, static_cast<int>(fibers.size()), 0);
}

uint64_t exchange(WarpOp op, unsigned mask, uint64_t bits, int source) {
  Fiber& self = *current;
  if ((mask >> lane() & 1u) == 0) {
    char text[80];
    snprintf(text, sizeof(text), "%s with mask 0x%08x, which does not hold the caller", name_of(op),
             mask);
    trap(text);
  }
  self.state = State::kAtWarp;
  waiting[static_cast<size_t>(self.warp)] |= 1u << lane();
  self.op = op;
  self.mask = mask;
  self.bits = bits;
  self.source = source;
  complete_warp(self);
  leave();
  return self.bits;
}

void trap(const char* why) {
  fail_at(*current, why);
  leave();
  abort();  // after a failure nobody goes on
}

void* dynamic_shared() { return blocks[static_cast<size_t>(current->block)].shared; }

unsigned cluster_rank() {
  return running->cooperative ? 0 : static_cast<unsigned>(current->block);
}

unsigned cluster_size() {
  return running->cooperative ? 1 : static_cast<unsigned>(blocks.size());
}

void* map_shared(void* shared, int rank) {
  if (rank < 0 || rank >= static_cast<int>(cluster_size())) trap("a rank outside the cluster");
  unsigned char* const own = blocks[static_cast<size_t>(current->block)].shared;
  return blocks[static_cast<size_t>(running->cooperative ? current->block : rank)].shared +
         (static_cast<unsigned char*>(shared) - own);
}

}  // namespace cuda_standin
