// Memory nodes: the few calls of libnuma that placement needs. The library is loaded when it is first asked for, which the
// engine does on machines with several nodes alone, and stays loaded until the process ends.
#include "CKernels.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define LIBRARY "libnuma.so.1"

// Of linux/mempolicy.h. Preferred, not bound: where a node is full, pages come from another and nobody runs out of memory.
enum { POLICY_PREFERRED = 1, FLAG_MOVE = 1 << 1 };
enum { WORD_BITS = 8 * sizeof(unsigned long), MAXIMUM_NODES = 1024, LARGE_PAGE_BYTES = 1 << 21 };

// As numa.h (version 2) declares them; a bitmask is the library's own.
struct bitmask;
static struct {
  int (*available)(void);
  int (*max_node)(void);
  struct bitmask *(*allocate_cpumask)(void);
  void (*bitmask_free)(struct bitmask *);
  int (*bitmask_isbitset)(const struct bitmask *, unsigned int);
  struct bitmask *(*bitmask_setbit)(struct bitmask *, unsigned int);
  int (*node_to_cpus)(int node, struct bitmask *);
  int (*sched_getaffinity)(int thread, struct bitmask *);
  int (*sched_setaffinity)(int thread, struct bitmask *);
  struct bitmask *(*get_mems_allowed)(void);
  long (*mbind)(void *start, unsigned long bytes, int mode, const unsigned long *nodes, unsigned long bits, unsigned flags);
} numa;

static lathe_numa_state state;

static void load(void) {
  const struct {
    const char *name;
    void **function;
  } functions[] = {
      {"numa_available", (void **)&numa.available},
      {"numa_max_node", (void **)&numa.max_node},
      {"numa_allocate_cpumask", (void **)&numa.allocate_cpumask},
      {"numa_bitmask_free", (void **)&numa.bitmask_free},
      {"numa_bitmask_isbitset", (void **)&numa.bitmask_isbitset},
      {"numa_bitmask_setbit", (void **)&numa.bitmask_setbit},
      {"numa_node_to_cpus", (void **)&numa.node_to_cpus},
      {"numa_sched_getaffinity", (void **)&numa.sched_getaffinity},
      {"numa_sched_setaffinity", (void **)&numa.sched_setaffinity},
      {"numa_get_mems_allowed", (void **)&numa.get_mems_allowed},
      {"mbind", (void **)&numa.mbind},
  };
  state = LATHE_NUMA_NO_LIBRARY;
  void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    *functions[i].function = dlsym(library, functions[i].name);
    if (*functions[i].function == NULL) return;
  }
  // Before any other call, says its manual. A sandbox that forbids the system calls shows here too.
  state = numa.available() < 0 ? LATHE_NUMA_NOT_AVAILABLE : LATHE_NUMA_READY;
}

lathe_numa_state lathe_numa_load(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  return state;
}

int lathe_numa_max_node(void) { return numa.max_node(); }

lathe_cpu_set lathe_numa_cpus(int node) {
  lathe_cpu_set cpus = {{0}};
  struct bitmask *there = numa.allocate_cpumask(), *allowed = numa.allocate_cpumask();
  if (there != NULL && allowed != NULL && numa.node_to_cpus(node, there) == 0 && numa.sched_getaffinity(0, allowed) >= 0) {
    for (unsigned cpu = 0; cpu < LATHE_MAXIMUM_CPUS; cpu++) {
      if (numa.bitmask_isbitset(there, cpu) && numa.bitmask_isbitset(allowed, cpu)) {
        cpus = lathe_cpu_set_adding(cpus, cpu);
      }
    }
  }
  if (there != NULL) numa.bitmask_free(there);
  if (allowed != NULL) numa.bitmask_free(allowed);
  return cpus;
}

bool lathe_numa_may_allocate(int node) {
  struct bitmask *nodes = numa.get_mems_allowed();
  if (nodes == NULL) return false;
  const bool may = numa.bitmask_isbitset(nodes, (unsigned)node);
  numa.bitmask_free(nodes);
  return may;
}

int lathe_numa_bind_thread(lathe_cpu_set cpus) {
  struct bitmask *mask = numa.allocate_cpumask();
  if (mask == NULL) return ENOMEM;
  for (unsigned cpu = 0; cpu < LATHE_MAXIMUM_CPUS; cpu++) {
    if (lathe_cpu_set_contains(cpus, cpu)) numa.bitmask_setbit(mask, cpu);
  }
  const int error = numa.sched_setaffinity(0, mask) < 0 ? errno : 0;
  numa.bitmask_free(mask);
  return error;
}

// A large page moves as a whole, so one that lies across an end of a range would go where the last of its ranges goes. Linux
// (5.4 and later) takes one apart when a part of it is called cold, which changes nothing else; where there is none, nothing.
static void split_large_page(uintptr_t page, size_t page_bytes) {
#ifdef MADV_COLD
  madvise((void *)page, page_bytes, MADV_COLD);
#else
  (void)page;
  (void)page_bytes;
#endif
}

int lathe_numa_place(uintptr_t start, size_t bytes, int node) {
  if (node < 0 || node >= MAXIMUM_NODES) return EINVAL;
  unsigned long nodes[MAXIMUM_NODES / WORD_BITS] = {0};
  nodes[node / WORD_BITS] = 1ul << node % WORD_BITS;
  const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
  if (bytes >= page_bytes) {
    if (start % LARGE_PAGE_BYTES != 0) split_large_page(start, page_bytes);
    if ((start + bytes) % LARGE_PAGE_BYTES != 0) split_large_page(start + bytes - page_bytes, page_bytes);
  }
  // The kernel counts the bits and one more.
  return numa.mbind((void *)start, bytes, POLICY_PREFERRED, nodes, MAXIMUM_NODES + 1, FLAG_MOVE) != 0 ? errno : 0;
}
