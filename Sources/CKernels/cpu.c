// What the processor and the operating system offer, and the levels that LATHE_ISA names.
#include "CKernels.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

// XCR0: which register state the operating system saves. A processor's feature bit alone promises nothing.
static uint64_t enabled_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

// Linux gives tile registers only to a process that asked (Documentation/arch/x86/xstate.rst).
static bool tiles_permitted(void) {
#if defined(__linux__)
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return false;
#endif
}

static uint32_t detect(void) {
  enum { YMM_STATE = 0x6, ZMM_STATE = 0xe6, TILE_STATE = 0x60000 };
  enum { FMA = 1u << 12, OSXSAVE = 1u << 27, AVX = 1u << 28, F16C = 1u << 29 };            // leaf 1, ecx
  const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;                       // leaf 7, ebx: F DQ BW VL
  enum { AVX2 = 1u << 5 };                                                                 // leaf 7, ebx
  enum { VBMI2 = 1u << 6, GFNI = 1u << 8, AVX512VNNI = 1u << 11 };                         // leaf 7, ecx
  enum { AMX_TILE = 1u << 24, AMX_INT8 = 1u << 25 };                                       // leaf 7, edx
  enum { AVXVNNI = 1u << 4 };                                                              // leaf 7.1, eax

  uint32_t a, b, c, d, features = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  const uint32_t basis = FMA | OSXSAVE | AVX | F16C;
  if ((c & basis) != basis) return 0;
  const uint64_t state = enabled_state();
  if ((state & YMM_STATE) != YMM_STATE) return 0;
  uint32_t leaf7b, leaf7c, leaf7d;
  if (!__get_cpuid_count(7, 0, &a, &leaf7b, &leaf7c, &leaf7d) || !(leaf7b & AVX2)) return 0;
  const uint32_t subleaves = a;
  features |= LATHE_CPU_AVX2;
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVXVNNI)) features |= LATHE_CPU_AVXVNNI;
  if ((state & ZMM_STATE) != ZMM_STATE || (leaf7b & avx512) != avx512) return features;
  features |= LATHE_CPU_AVX512;
  if (leaf7c & AVX512VNNI) features |= LATHE_CPU_AVX512VNNI;
  if ((leaf7c & VBMI2) && (leaf7c & GFNI)) features |= LATHE_CPU_AVX512VBMI2;
  const uint32_t tiles = AMX_TILE | AMX_INT8;
  if ((leaf7d & tiles) == tiles && (state & TILE_STATE) == TILE_STATE && tiles_permitted()) {
    features |= LATHE_CPU_AMX_INT8;
  }
  return features;
}

#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>

// Documentation/arch/arm64/elf_hwcaps.rst; the kernel's numbers, since older C libraries do not name the second.
static bool has_dot(void) { return getauxval(AT_HWCAP) >> 20 & 1; }    // HWCAP_ASIMDDP
static bool has_i8mm(void) { return getauxval(AT_HWCAP2) >> 13 & 1; }  // HWCAP2_I8MM
#elif defined(__APPLE__)
#include <sys/sysctl.h>

static bool has(const char *name) {
  int value = 0;
  size_t bytes = sizeof value;
  return sysctlbyname(name, &value, &bytes, NULL, 0) == 0 && value != 0;
}
static bool has_dot(void) { return has("hw.optional.arm.FEAT_DotProd"); }
static bool has_i8mm(void) { return has("hw.optional.arm.FEAT_I8MM"); }
#else
static bool has_dot(void) { return false; }
static bool has_i8mm(void) { return false; }
#endif

static uint32_t detect(void) {
  uint32_t features = LATHE_CPU_NEON;
  if (has_dot()) features |= LATHE_CPU_NEON_DOT;
  if (has_i8mm()) features |= LATHE_CPU_NEON_I8MM;
  return features;
}
#else
static uint32_t detect(void) { return 0; }
#endif

uint32_t lathe_cpu_features(void) {
  enum { KNOWN = 1u << 31 };
  // Detection gives the same answer whoever asks, so that a race of first callers is harmless.
  static _Atomic uint32_t answer;
  uint32_t features = atomic_load_explicit(&answer, memory_order_relaxed);
  if (!features) {
    features = detect() | KNOWN;
    atomic_store_explicit(&answer, features, memory_order_relaxed);
  }
  return features & ~(uint32_t)KNOWN;
}

#define AVXVNNI_SET (LATHE_CPU_AVX2 | LATHE_CPU_AVXVNNI)
#define AVX512VNNI_SET (LATHE_CPU_AVX2 | LATHE_CPU_AVX512 | LATHE_CPU_AVX512VNNI)
#define AVX512VNNI_MAY (AVX512VNNI_SET | LATHE_CPU_AVXVNNI | LATHE_CPU_AVX512VBMI2)
#define NEONDOT_SET (LATHE_CPU_NEON | LATHE_CPU_NEON_DOT)

static const lathe_isa_level levels[] = {
    {"scalar", 0, 0},
    {"avx2", LATHE_CPU_AVX2, LATHE_CPU_AVX2},
    {"avxvnni", AVXVNNI_SET, AVXVNNI_SET},
    {"avx512vnni", AVX512VNNI_SET, AVX512VNNI_MAY},
    {"amx", AVX512VNNI_SET | LATHE_CPU_AMX_INT8, AVX512VNNI_MAY | LATHE_CPU_AMX_INT8},
    {"neon", LATHE_CPU_NEON, LATHE_CPU_NEON},
    {"neondot", NEONDOT_SET, NEONDOT_SET},
    {"neoni8mm", NEONDOT_SET | LATHE_CPU_NEON_I8MM, NEONDOT_SET | LATHE_CPU_NEON_I8MM},
};
enum { LEVELS = sizeof levels / sizeof levels[0] };

const lathe_isa_level *lathe_isa_levels(size_t *count) {
  *count = LEVELS;
  return levels;
}

const lathe_isa_level *lathe_isa_best(void) {
  const uint32_t features = lathe_cpu_features();
  const lathe_isa_level *best = levels;
  for (size_t i = 0; i < LEVELS; i++) {
    if ((levels[i].required & ~features) == 0) best = &levels[i];
  }
  return best;
}

const lathe_isa_level *lathe_isa_named(const char *name) {
  for (size_t i = 0; i < LEVELS; i++) {
    if (strcmp(levels[i].name, name) == 0) return &levels[i];
  }
  return NULL;
}
