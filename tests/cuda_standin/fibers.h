// Fibers: many stacks on one host thread, and the faults that what runs on them may cause.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#define CXRGAN_STANDIN_UCONTEXT 1  // a test also defines it elsewhere
#endif

#if defined(CXRGAN_STANDIN_UCONTEXT)
#include <ucontext.h>
#endif

namespace cuda_standin {

#if defined(CXRGAN_STANDIN_UCONTEXT)
using Context = ucontext_t;
#else
using Context = void*;  // the stack pointer; everything else that must survive is on the stack
#endif

// Stacks 0 to count-1, kept for later launches; each ends in a page that cannot be touched.
bool reserve_stacks(int count);

// Makes a context that will call entry(), which must not return, on a stack from its start.
void set_up(Context& context, int stack, void (*entry)());

void switch_context(Context& from, Context& to);

enum class Fault { kNone, kIllegalAddress, kMisaligned, kStackOverflow, kArithmetic };

// Calls body(), which may be left half-way, from any fiber, by a fault: then its kind is returned
// and `address` is that of the access. Destructors on the way do not run.
Fault guarded(void (*body)(), uintptr_t* address);

}  // namespace cuda_standin
