#undef _FORTIFY_SOURCE  // its longjmp refuses to change stacks
#include "fibers.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

namespace cuda_standin {
namespace {

constexpr size_t kStackBytes = 64 * 1024;

struct Region {
  char* base;
  size_t stride;  // a page without access, then a stack
  int first, count;

  bool guards(uintptr_t address) const {
    const uintptr_t offset = address - reinterpret_cast<uintptr_t>(base);
    return offset < stride * static_cast<size_t>(count) && offset % stride < stride - kStackBytes;
  }
};

std::vector<Region> regions;
std::vector<char*> bottoms;  // the lowest address of each stack

}  // namespace

bool reserve_stacks(int count) {
  const int have = static_cast<int>(bottoms.size()), more = count - have;
  if (more <= 0) return true;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t stride = kStackBytes + page;
  void* const memory = mmap(nullptr, stride * static_cast<size_t>(more), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  char* const base = static_cast<char*>(memory);
  for (int i = 0; i < more; ++i) {
    char* const guard = base + stride * static_cast<size_t>(i);
    if (mprotect(guard, page, PROT_NONE) != 0) return false;
    bottoms.push_back(guard + page);
  }
  regions.push_back({base, stride, have, more});
  return true;
}

// ---- Contexts

#if defined(CXRGAN_STANDIN_UCONTEXT)

void set_up(Context& context, int stack, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = bottoms[static_cast<size_t>(stack)];
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }

#else

// Without the system call with which swapcontext keeps the signal mask: ten times as fast. What a
// function must preserve goes on the stack that is left, and comes from the one that is entered.
extern "C" __attribute__((visibility("hidden"))) void cuda_standin_switch(void** from, void* to);

#if defined(__x86_64__)
constexpr int kSaved = 6;  // words
constexpr int kReturn = 6;  // which word the switch returns to
asm(R"(
.text
.globl cuda_standin_switch
.hidden cuda_standin_switch
.type cuda_standin_switch, @function
cuda_standin_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_standin_switch, . - cuda_standin_switch
)");
#else
constexpr int kSaved = 20;
constexpr int kReturn = 11;  // x30
asm(R"(
.text
.globl cuda_standin_switch
.hidden cuda_standin_switch
.type cuda_standin_switch, %function
cuda_standin_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size cuda_standin_switch, . - cuda_standin_switch
)");
#endif

void set_up(Context& context, int stack, void (*entry)()) {
  // Stacks start at different places within a page, or they would compete for the same few sets of
  // the caches.
  const size_t color = static_cast<size_t>(stack) * 192 % 4096;
  char* const top = bottoms[static_cast<size_t>(stack)] + kStackBytes - color;
  // Two more words: entry's return address, if the stack holds it, and what aligns to 16 bytes.
  uintptr_t* const frame = reinterpret_cast<uintptr_t*>(top) - (kSaved + 2);
  memset(frame, 0, (kSaved + 2) * sizeof(uintptr_t));
  frame[kReturn] = reinterpret_cast<uintptr_t>(entry);
  context = frame;
}

void switch_context(Context& from, Context& to) { cuda_standin_switch(&from, to); }

#endif

// ---- Faults

namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
constexpr int kSignalCount = sizeof(kSignals) / sizeof(kSignals[0]);

struct sigaction previous[kSignalCount];
pthread_t guarded_thread;
sigjmp_buf way_out;
Fault fault;
uintptr_t fault_address;
alignas(16) char signal_stack[64 * 1024];  // the fiber's own may be what is full

void on_signal(int signal, siginfo_t* info, void*) {
  if (pthread_equal(pthread_self(), guarded_thread) == 0) {
    // Another thread's affair: undo, and let it meet its fault again.
    for (int i = 0; i < kSignalCount; ++i)
      if (kSignals[i] == signal) sigaction(signal, &previous[i], nullptr);
    return;
  }
  fault_address = reinterpret_cast<uintptr_t>(info->si_addr);
  // Instructions that trap are those with which the compiler checks alignment (build.py).
  if (signal == SIGILL || signal == SIGTRAP) fault = Fault::kMisaligned;
  else if (signal == SIGFPE) fault = Fault::kArithmetic;
  else fault = Fault::kIllegalAddress;
  for (const Region& region : regions)
    if (signal != SIGFPE && region.guards(fault_address)) fault = Fault::kStackOverflow;
  siglongjmp(way_out, 1);
}

}  // namespace

Fault guarded(void (*body)(), uintptr_t* address) {
  stack_t own = {}, before = {};
  own.ss_sp = signal_stack;
  own.ss_size = sizeof(signal_stack);
  sigaltstack(&own, &before);
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  guarded_thread = pthread_self();
  fault = Fault::kNone;
  for (int i = 0; i < kSignalCount; ++i) sigaction(kSignals[i], &action, &previous[i]);
  if (sigsetjmp(way_out, 1) == 0) body();
  for (int i = 0; i < kSignalCount; ++i) sigaction(kSignals[i], &previous[i], nullptr);
  sigaltstack(&before, nullptr);
  *address = fault_address;
  return fault;
}

}  // namespace cuda_standin
