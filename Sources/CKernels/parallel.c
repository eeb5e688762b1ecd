// The parallel-for: libomp where there is one (Linux), else inline on the calling thread.
//
// libomp is entered through its GNU entry point, so that no compiler flag is needed. It keeps one team for each thread
// that enters regions, which is why the engine enters from one thread only.
#include "CKernels.h"

#if defined(__linux__)
#define LATHE_HAS_OPENMP 1
void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
int omp_get_thread_num(void);
int omp_get_num_threads(void);
void kmp_set_blocktime(int milliseconds);
#else
#define LATHE_HAS_OPENMP 0
#endif

// libomp is not compiled for ThreadSanitizer, which therefore does not see that a region orders what its threads do.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define LATHE_ACQUIRE(address) __tsan_acquire(address)
#define LATHE_RELEASE(address) __tsan_release(address)
#endif
#endif
#ifndef LATHE_ACQUIRE
#define LATHE_ACQUIRE(address) ((void)(address))
#define LATHE_RELEASE(address) ((void)(address))
#endif

// The float environment that the results are defined in: round to nearest, denormals kept, no traps. A library built
// with -ffast-math changes it for the whole process, and threads inherit it.
#if defined(__x86_64__)
typedef uint32_t float_state;
static float_state get_float_state(void) { return __builtin_ia32_stmxcsr(); }
static void set_float_state(float_state state) { __builtin_ia32_ldmxcsr(state); }
static const float_state canonical_float_state = 0x1f80;
#elif defined(__aarch64__)
typedef uint64_t float_state;
static float_state get_float_state(void) {
  uint64_t state;
  __asm__ volatile("mrs %0, fpcr" : "=r"(state));
  return state;
}
static void set_float_state(float_state state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }
static const float_state canonical_float_state = 0;
#else
typedef int float_state;
static float_state get_float_state(void) { return 0; }
static void set_float_state(float_state state) { (void)state; }
static const float_state canonical_float_state = 0;
#endif

typedef struct {
  void (*body)(void *context, size_t thread, size_t threads);
  void *context;
} region;

static void run(const region *r, size_t thread, size_t threads) {
  const float_state inherited = get_float_state();
  set_float_state(canonical_float_state);
  r->body(r->context, thread, threads);
  set_float_state(inherited);
}

#if LATHE_HAS_OPENMP
// How long an idle thread of the team spins before it sleeps. A decode step enters regions every few microseconds and
// pauses for well under a millisecond while a token is sampled; after the last step the spin must end, so that an idle
// server uses no processor and two busy processes do not starve each other.
enum { SPIN_MILLISECONDS = 1 };

static void run_in_team(void *data) {
  region *r = data;
  LATHE_ACQUIRE(r);
  // A thread limit makes the team smaller than asked: its true size is known only in here.
  run(r, (size_t)omp_get_thread_num(), (size_t)omp_get_num_threads());
  LATHE_RELEASE(r);
}
#endif

void lathe_parallel(
    size_t threads, void (*body)(void *context, size_t thread, size_t threads), void *context) {
  region r = {body, context};
#if LATHE_HAS_OPENMP
  if (threads > 1) {
    static _Thread_local bool spin_is_bounded;
    if (!spin_is_bounded) {
      kmp_set_blocktime(SPIN_MILLISECONDS);
      spin_is_bounded = true;
    }
    LATHE_RELEASE(&r);
    GOMP_parallel(run_in_team, &r, (unsigned)threads, 0);
    LATHE_ACQUIRE(&r);
    return;
  }
#else
  (void)threads;
#endif
  run(&r, 0, 1);
}
