// The parallel-for: a team of threads for each thread that calls it, kept until that thread ends.
//
// Between calls the workers spin for a while, since a decode step enters some sixty regions a few microseconds apart,
// and then sleep, so that an idle process uses no processor. Where other processes want the processors too, a worker may
// not run for milliseconds: the caller then does its share. docs/DESIGN.md says why this is not OpenMP.
#include "CKernels.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// The float environment that the results are defined in: round to nearest, denormals kept, no traps. A library built
// with -ffast-math changes it for the whole process, and threads inherit it.
#if defined(__x86_64__)
typedef uint32_t float_state;
static float_state get_float_state(void) { return __builtin_ia32_stmxcsr(); }
static void set_float_state(float_state state) { __builtin_ia32_ldmxcsr(state); }
static const float_state canonical_float_state = 0x1f80;
static void relax(void) { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
typedef uint64_t float_state;
static float_state get_float_state(void) {
  uint64_t state;
  __asm__ volatile("mrs %0, fpcr" : "=r"(state));
  return state;
}
static void set_float_state(float_state state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }
static const float_state canonical_float_state = 0;
static void relax(void) { __asm__ volatile("isb"); }
#else
typedef int float_state;
static float_state get_float_state(void) { return 0; }
static void set_float_state(float_state state) { (void)state; }
static const float_state canonical_float_state = 0;
static void relax(void) {}
#endif

typedef void (*parallel_body)(void *context, size_t thread, size_t threads);

static void run(parallel_body body, void *context, size_t thread, size_t threads) {
  const float_state inherited = get_float_state();
  set_float_state(canonical_float_state);
  body(context, thread, threads);
  set_float_state(inherited);
}

enum {
  MAXIMUM_THREADS = 1024,
  WORKER_STACK_BYTES = 1 << 19,  // kernels keep their scratch elsewhere
  // Whom a thread waits for is mostly a few microseconds away. Where it is not, it may be waiting for this processor:
  // then the wait goes on in a loop that gives it away, and after a while in sleep. At once, where somebody else took it
  // meanwhile: who yields to busy processes waits for all their turns, and who sleeps is woken before them.
  SPIN_NANOSECONDS = 50000,
  YIELD_NANOSECONDS = 1000000,  // covers the pause in which a token is sampled
  TURN_NANOSECONDS = 100000,    // longer than any yield to nobody
  SPINS_PER_LOOK_AT_THE_CLOCK = 128,
  // A worker that runs begins sooner than this many spins; its share lies in its own caches.
  SPINS_BEFORE_CLAIMING = 64,
};

// The caller publishes a region by one store of `ticket`: a count of regions and the number of threads that take part.
// In one word, because a worker that sits a region out may look while the next one is being prepared.
// A share belongs to who claims it, its worker or the caller. Who claims one of a region reads body and context after it has
// seen the ticket; the caller writes them again only after `running` has come down to zero, which is after every such read. A
// worker that comes late finds its share claimed, for this region or a later one, and reads neither.
typedef struct team {
  _Alignas(64) _Atomic uint64_t ticket;   // regions << 16 | threads
  _Alignas(64) _Atomic uint32_t running;  // shares of workers that are not finished
  _Alignas(64) parallel_body body;
  void *context;
  _Atomic uint32_t sleepers;  // workers that wait for `wake`; changed under the lock
  _Atomic bool caller_sleeps;
  _Atomic bool stops;
  pthread_mutex_t lock;
  pthread_cond_t wake, done;
  size_t workers;
  struct worker {
    _Alignas(64) _Atomic uint64_t claimed;  // the last ticket of which this share was taken
    struct team *team;
    size_t thread;  // 1 …
    uint64_t ticket;  // the last one seen when it was started
    pthread_t handle;
  } worker[MAXIMUM_THREADS];
} team;

typedef struct {
  unsigned spins;
  int64_t since, last;  // the first look at the clock, and the last
  bool yields;
} spin;

static int64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Waits a moment; false when the wait has lasted long enough to sleep.
static bool keep_spinning(spin *s) {
  if (s->yields) {
    sched_yield();
  } else {
    relax();
    if (++s->spins % SPINS_PER_LOOK_AT_THE_CLOCK != 0) return true;
  }
  const int64_t now = nanoseconds();
  if (s->since == 0) s->since = now;
  const bool lost_a_turn = s->yields && now - s->last > TURN_NANOSECONDS;
  s->last = now;
  s->yields = now - s->since > SPIN_NANOSECONDS;
  return now - s->since < YIELD_NANOSECONDS && !lost_a_turn;
}

static uint64_t await_ticket(team *t, uint64_t seen) {
  spin s = {0};
  do {
    uint64_t ticket = atomic_load_explicit(&t->ticket, memory_order_acquire);
    if (ticket != seen) return ticket;
  } while (keep_spinning(&s));
  pthread_mutex_lock(&t->lock);
  // Counted before the last look, and published before the count is looked at: one of the two sees the other.
  atomic_fetch_add(&t->sleepers, 1);
  uint64_t ticket;
  while ((ticket = atomic_load(&t->ticket)) == seen) pthread_cond_wait(&t->wake, &t->lock);
  atomic_fetch_sub(&t->sleepers, 1);
  pthread_mutex_unlock(&t->lock);
  return ticket;
}

// Tickets only grow, so a claim that is not older than `ticket` means that the share is taken, or that its region is over.
static bool claim(struct worker *share, uint64_t ticket) {
  uint64_t last = atomic_load_explicit(&share->claimed, memory_order_relaxed);
  return last < ticket && atomic_compare_exchange_strong(&share->claimed, &last, ticket);
}

static void *work(void *argument) {
  struct worker *self = argument;
  team *t = self->team;
  uint64_t ticket = self->ticket;
  for (;;) {
    ticket = await_ticket(t, ticket);
    const size_t threads = ticket & 0xffff;
    if (atomic_load_explicit(&t->stops, memory_order_relaxed)) return NULL;
    if (self->thread >= threads || !claim(self, ticket)) continue;
    run(t->body, t->context, self->thread, threads);
    if (atomic_fetch_sub(&t->running, 1) == 1 && atomic_load(&t->caller_sleeps)) {
      pthread_mutex_lock(&t->lock);
      pthread_cond_signal(&t->done);
      pthread_mutex_unlock(&t->lock);
    }
  }
}

static uint64_t publish(team *t, size_t threads) {
  const uint64_t regions = atomic_load_explicit(&t->ticket, memory_order_relaxed) >> 16;
  const uint64_t ticket = (regions + 1) << 16 | threads;
  atomic_store(&t->ticket, ticket);
  if (atomic_load(&t->sleepers) > 0) {
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
  }
  return ticket;
}

static void await_workers(team *t) {
  spin s = {0};
  do {
    if (atomic_load_explicit(&t->running, memory_order_acquire) == 0) return;
  } while (keep_spinning(&s));
  pthread_mutex_lock(&t->lock);
  atomic_store(&t->caller_sleeps, true);
  while (atomic_load(&t->running) != 0) pthread_cond_wait(&t->done, &t->lock);
  atomic_store(&t->caller_sleeps, false);
  pthread_mutex_unlock(&t->lock);
}

// Starts workers until there are `workers` of them, or the system gives no more.
static void grow(team *t, size_t workers) {
  sigset_t all, before;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return;
  pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
  // Signals belong to the threads of the program, but for those that a thread brings on itself: a page of a mapped model
  // that is no longer there must reach the program's handler.
  sigfillset(&all);
  const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&all, own[i]);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (t->workers < workers) {
    struct worker *next = &t->worker[t->workers];
    *next = (struct worker){.team = t, .thread = t->workers + 1, .ticket = atomic_load(&t->ticket)};
    if (pthread_create(&next->handle, &attributes, work, next) != 0) break;
    t->workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
}

static void disband(void *argument) {
  team *t = argument;
  atomic_store(&t->stops, true);
  publish(t, 0);
  for (size_t i = 0; i < t->workers; i++) pthread_join(t->worker[i].handle, NULL);
  pthread_cond_destroy(&t->wake);
  pthread_cond_destroy(&t->done);
  pthread_mutex_destroy(&t->lock);
  free(t);
}

static pthread_key_t team_key;
static bool has_team_key;
static void make_team_key(void) { has_team_key = pthread_key_create(&team_key, disband) == 0; }

// The calling thread's team, made at its first region and disbanded when the thread ends; NULL without memory for one.
static team *own_team(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_team_key);
  if (!has_team_key) return NULL;
  team *t = pthread_getspecific(team_key);
  if (t != NULL) return t;
  if (posix_memalign((void **)&t, 64, sizeof *t) != 0) return NULL;
  memset(t, 0, sizeof *t);
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->wake, NULL);
  pthread_cond_init(&t->done, NULL);
  if (pthread_setspecific(team_key, t) != 0) {
    disband(t);
    return NULL;
  }
  return t;
}

static void parallel(size_t threads, parallel_body body, void *context, bool shares_move) {
  team *t = threads > 1 ? own_team() : NULL;
  if (t != NULL) {
    if (threads > MAXIMUM_THREADS) threads = MAXIMUM_THREADS;
    if (t->workers + 1 < threads) grow(t, threads - 1);
    if (t->workers + 1 < threads) threads = t->workers + 1;
  }
  if (t == NULL || threads == 1) {
    run(body, context, 0, 1);
    return;
  }
  t->body = body;
  t->context = context;
  atomic_store_explicit(&t->running, (uint32_t)threads - 1, memory_order_relaxed);
  const uint64_t ticket = publish(t, threads);
  run(body, context, 0, threads);
  for (int i = 0; i < SPINS_BEFORE_CLAIMING; i++) {
    if (atomic_load_explicit(&t->running, memory_order_acquire) == 0) return;
    relax();
  }
  for (size_t thread = 1; shares_move && thread < threads; thread++) {
    if (!claim(&t->worker[thread - 1], ticket)) continue;
    run(body, context, thread, threads);
    atomic_fetch_sub(&t->running, 1);
  }
  await_workers(t);
}

void lathe_parallel(size_t threads, parallel_body body, void *context) { parallel(threads, body, context, true); }

void lathe_on_each_thread(size_t threads, parallel_body body, void *context) {
  parallel(threads, body, context, false);
}
