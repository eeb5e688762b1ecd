// Counts what chosen threads take from the system and give back, in spans that they enter. For LD_PRELOAD: a program
// finds the functions below by dlsym and runs without them as well, so nothing that is counted links against this.
//
// A thread counts once it has entered a span; its later ones replace it. Threads that it makes in a span entered with
// `joins` belong to it from then on, and count in whatever span it is in: so do the workers of a parallel-for.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { SPANS = 8, TEAMS = 256, STACKS = 32, DEPTH = 32 };

typedef enum { ALLOCATED, RESIZED, FREED, MAPPED, UNMAPPED, KINDS } kind;
static const char *const kind_names[KINDS] = {"allocated", "resized", "freed", "mapped", "unmapped"};

typedef struct {
  _Atomic int span;  // 0: none
  _Atomic bool joins;
} team;

static team teams[TEAMS];
static _Atomic int team_count;
static _Atomic uint64_t counts[SPANS][KINDS], references[SPANS], entries[SPANS], joined;

// Kept when they happen, printed later: printing allocates.
static struct stack {
  _Atomic int depth;  // 0: not yet filled in
  int span;
  kind kind;
  void *frames[DEPTH];
} stacks[STACKS];
static _Atomic int stack_count;
static int stack_limit = 4;

// Of the calling thread. This model needs no memory at the first touch.
#define THREAD_LOCAL static __thread __attribute__((tls_model("initial-exec")))
THREAD_LOCAL team *mine;
THREAD_LOCAL bool counting;

#define NEXT(name, type, ...) static type (*next_##name)(__VA_ARGS__)
NEXT(malloc, void *, size_t);
NEXT(calloc, void *, size_t, size_t);
NEXT(realloc, void *, void *, size_t);
NEXT(free, void, void *);
NEXT(posix_memalign, int, void **, size_t, size_t);
NEXT(aligned_alloc, void *, size_t, size_t);
NEXT(memalign, void *, size_t, size_t);
NEXT(mmap, void *, void *, size_t, int, int, int, off_t);
NEXT(munmap, int, void *, size_t);
NEXT(swift_retain, void *, void *);
NEXT(swift_release, void, void *);
NEXT(pthread_create, int, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

// dlsym itself may ask for memory before there is a function to give it.
static _Alignas(16) char first_memory[1 << 14];
static size_t first_used;
static bool resolving;

static bool is_first(const void *p) {
  return (const char *)p >= first_memory && (const char *)p < first_memory + sizeof first_memory;
}

static void *take_first(size_t size) {
  void *p = first_memory + first_used;
  first_used += (size + 15) & ~(size_t)15;
  if (first_used > sizeof first_memory) abort();
  return p;
}

static void resolve(void) {
  resolving = true;
#define FIND(name) *(void **)&next_##name = dlsym(RTLD_NEXT, #name)
  FIND(malloc), FIND(calloc), FIND(realloc), FIND(free), FIND(posix_memalign), FIND(aligned_alloc), FIND(memalign);
  FIND(mmap), FIND(munmap), FIND(pthread_create), FIND(swift_retain), FIND(swift_release);
  resolving = false;
}

// By now all is loaded that a backtrace needs; its first one loads a library.
__attribute__((constructor)) static void prepare(void) {
  if (next_malloc == NULL) resolve();
  const char *limit = getenv("LATHE_ALLOCATION_STACKS");
  if (limit != NULL) stack_limit = atoi(limit);
  if (stack_limit > STACKS) stack_limit = STACKS;
  void *frames[4];
  backtrace(frames, 4);
}

__attribute__((noinline)) static void count(kind kind) {
  if (mine == NULL || counting) return;
  const int span = atomic_load_explicit(&mine->span, memory_order_relaxed);
  if (span == 0) return;
  counting = true;
  atomic_fetch_add_explicit(&counts[span][kind], 1, memory_order_relaxed);
  if (atomic_load_explicit(&stack_count, memory_order_relaxed) < stack_limit) {
    const int index = atomic_fetch_add(&stack_count, 1);
    if (index < stack_limit) {
      struct stack *s = &stacks[index];
      s->span = span;
      s->kind = kind;
      atomic_store(&s->depth, backtrace(s->frames, DEPTH));
    }
  }
  counting = false;
}

// MARK: What the program calls

#define EXPORT __attribute__((visibility("default")))

// span 1 … 7, or 0 for none. joins: threads made from now on join this one.
EXPORT void lathe_allocations_enter(int span, bool joins) {
  if (mine == NULL) {
    const int index = atomic_fetch_add(&team_count, 1);
    if (index >= TEAMS || span >= SPANS) abort();
    mine = &teams[index];
  }
  atomic_store(&mine->joins, joins);
  atomic_store(&mine->span, span);
  atomic_fetch_add_explicit(&entries[span], 1, memory_order_relaxed);
}

EXPORT void lathe_allocations_reset(void) {
  for (int span = 0; span < SPANS; span++) {
    entries[span] = references[span] = 0;
    for (int kind = 0; kind < KINDS; kind++) counts[span][kind] = 0;
  }
  for (int i = 0; i < STACKS; i++) stacks[i].depth = 0;
  stack_count = 0;
}

// kind: 0 malloc, calloc and their like; 1 realloc; 2 free; 3 mmap; 4 munmap.
EXPORT uint64_t lathe_allocations_count(int span, int kind) { return counts[span][kind]; }
// Calls of swift_retain and swift_release from outside the language's own libraries.
EXPORT uint64_t lathe_allocations_references(int span) { return references[span]; }
// How often a span was entered.
EXPORT uint64_t lathe_allocations_entries(int span) { return entries[span]; }
// Threads that joined another, since the process's start.
EXPORT uint64_t lathe_allocations_joined(void) { return joined; }

// The first few calls that were counted in `span`, innermost function first.
EXPORT void lathe_allocations_print(int span, int file) {
  for (int i = 0; i < stack_limit; i++) {
    const int depth = stacks[i].depth;
    if (depth == 0 || stacks[i].span != span) continue;
    dprintf(file, "%s:\n", kind_names[stacks[i].kind]);
    // Without `count`.
    if (depth > 1) backtrace_symbols_fd(stacks[i].frames + 1, depth - 1, file);
  }
}

// MARK: What it calls unknowingly

EXPORT void *malloc(size_t size) {
  if (next_malloc == NULL) {
    if (resolving) return take_first(size);
    resolve();
  }
  count(ALLOCATED);
  return next_malloc(size);
}

EXPORT void *calloc(size_t number, size_t size) {
  if (next_calloc == NULL) {
    if (resolving) return take_first(number * size);  // zero, as every static array
    resolve();
  }
  count(ALLOCATED);
  return next_calloc(number, size);
}

EXPORT void *realloc(void *old, size_t size) {
  if (next_realloc == NULL) {
    if (resolving) abort();
    resolve();
  }
  if (is_first(old)) {
    void *p = malloc(size);
    const size_t rest = (size_t)(first_memory + sizeof first_memory - (char *)old);
    if (p != NULL) memcpy(p, old, size < rest ? size : rest);
    return p;
  }
  count(RESIZED);
  return next_realloc(old, size);
}

EXPORT void free(void *p) {
  if (p == NULL || is_first(p)) return;
  if (next_free == NULL) resolve();
  count(FREED);
  next_free(p);
}

EXPORT int posix_memalign(void **result, size_t alignment, size_t size) {
  if (next_posix_memalign == NULL) resolve();
  count(ALLOCATED);
  return next_posix_memalign(result, alignment, size);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) {
  if (next_aligned_alloc == NULL) resolve();
  count(ALLOCATED);
  return next_aligned_alloc(alignment, size);
}

EXPORT void *memalign(size_t alignment, size_t size) {
  if (next_memalign == NULL) resolve();
  count(ALLOCATED);
  return next_memalign(alignment, size);
}

EXPORT void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  if (next_mmap == NULL) resolve();
  count(MAPPED);
  return next_mmap(address, size, protection, flags, file, offset);
}

EXPORT void *mmap64(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  return mmap(address, size, protection, flags, file, offset);
}

EXPORT int munmap(void *address, size_t size) {
  if (next_munmap == NULL) resolve();
  count(UNMAPPED);
  return next_munmap(address, size);
}

static void count_reference(void) {
  const int span = mine == NULL ? 0 : atomic_load_explicit(&mine->span, memory_order_relaxed);
  if (span != 0) atomic_fetch_add_explicit(&references[span], 1, memory_order_relaxed);
}

EXPORT void *swift_retain(void *object) {
  if (next_swift_retain == NULL) resolve();
  count_reference();
  return next_swift_retain(object);
}

EXPORT void swift_release(void *object) {
  if (next_swift_release == NULL) resolve();
  count_reference();
  next_swift_release(object);
}

struct start {
  void *(*body)(void *);
  void *argument;
  team *team;
};

static void *begin_thread(void *argument) {
  const struct start start = *(struct start *)argument;
  next_free(argument);
  mine = start.team;
  atomic_fetch_add(&joined, 1);
  return start.body(start.argument);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
  if (next_pthread_create == NULL) resolve();
  if (mine == NULL || !atomic_load(&mine->joins)) return next_pthread_create(thread, attributes, body, argument);
  struct start *start = next_malloc(sizeof *start);
  if (start == NULL) return EAGAIN;
  *start = (struct start){body, argument, mine};
  const int result = next_pthread_create(thread, attributes, begin_thread, start);
  if (result != 0) next_free(start);
  return result;
}
