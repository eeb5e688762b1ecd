// The arithmetic peaks: loops on registers alone, with as many independent sums as hide the instruction's latency.
//
// A peak is that of the widest exact way an instruction set has, not of one kernel: the percent of it says what loads,
// the epilogue and the shape cost. Plain C is compiled for the baseline of the architecture, which on x86-64 is SSE2,
// so that the scalar definitions are measured against what a compiler could at best make of them.
#pragma clang fp contract(off)
#include "peak.h"

static volatile uint64_t sink;  // what nobody reads, a compiler may leave out
void keep(uint64_t value) { sink += value; }

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

// Twelve sums for the instructions that add by themselves: two a cycle with four cycles of latency want eight.
// Where a product is added by a second instruction, six products and six sums: the products differ, and the factor they
// share is new in each step, or a compiler would make them once.
enum { SUMS = 12, PRODUCTS = 6 };

#define UNROLLED _Pragma("clang loop unroll(full)")
#define OPAQUE(x) __asm__ volatile("" : "+v"(x))
#define OPAQUE_X(x) __asm__ volatile("" : "+x"(x))

#define PEAK_OF_FUSED(name, isa, vector, zero, opaque, instruction)        \
  __attribute__((target(isa))) static void name(uint64_t steps) {          \
    vector sum[SUMS], a = zero, b = zero;                                  \
    opaque(a);                                                             \
    opaque(b);                                                             \
    UNROLLED for (int i = 0; i < SUMS; i++) {                              \
      sum[i] = zero;                                                       \
      opaque(sum[i]);                                                      \
    }                                                                      \
    for (uint64_t step = 0; step < steps; step++) {                        \
      UNROLLED for (int i = 0; i < SUMS; i++) { sum[i] = instruction; }    \
    }                                                                      \
    UNROLLED for (int i = 0; i < SUMS; i++) { opaque(sum[i]); }            \
  }

#define PEAK_OF_PAIRS(name, isa, vector, zero, multiply, add)              \
  __attribute__((target(isa))) static void name(uint64_t steps) {          \
    vector sum[PRODUCTS], a[PRODUCTS], b = zero;                           \
    UNROLLED for (int i = 0; i < PRODUCTS; i++) {                          \
      sum[i] = a[i] = zero;                                                \
      OPAQUE_X(sum[i]);                                                    \
      OPAQUE_X(a[i]);                                                      \
    }                                                                      \
    for (uint64_t step = 0; step < steps; step++) {                        \
      OPAQUE_X(b);                                                         \
      UNROLLED for (int i = 0; i < PRODUCTS; i++) {                        \
        sum[i] = add(sum[i], multiply(a[i], b));                           \
      }                                                                    \
    }                                                                      \
    UNROLLED for (int i = 0; i < PRODUCTS; i++) { OPAQUE_X(sum[i]); }      \
  }

PEAK_OF_FUSED(run_vpdpbusd_zmm, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), OPAQUE,
              _mm512_dpbusd_epi32(sum[i], a, b))
PEAK_OF_FUSED(run_vpdpbusd_ymm, "avx2,avxvnni", __m256i, _mm256_setzero_si256(), OPAQUE_X,
              _mm256_dpbusd_avx_epi32(sum[i], a, b))
PEAK_OF_FUSED(run_fma_zmm, "avx512f", __m512, _mm512_setzero_ps(), OPAQUE, _mm512_fmadd_ps(a, b, sum[i]))
PEAK_OF_FUSED(run_fma_ymm, "avx2,fma", __m256, _mm256_setzero_ps(), OPAQUE_X, _mm256_fmadd_ps(a, b, sum[i]))
PEAK_OF_PAIRS(run_pmaddwd_ymm, "avx2", __m256i, _mm256_setzero_si256(), _mm256_madd_epi16, _mm256_add_epi32)
PEAK_OF_PAIRS(run_pmaddubsw_ymm, "avx2", __m256i, _mm256_setzero_si256(), _mm256_maddubs_epi16, _mm256_add_epi16)
PEAK_OF_PAIRS(run_pmaddwd_xmm, "sse2", __m128i, _mm_setzero_si128(), _mm_madd_epi16, _mm_add_epi32)
PEAK_OF_PAIRS(run_mulps_xmm, "sse2", __m128, _mm_setzero_ps(), _mm_mul_ps, _mm_add_ps)

// Four sums of two by two tiles, as the kernel has them.
__attribute__((target("amx-tile,amx-int8"))) static void run_tdpbusd(uint64_t steps) {
  enum { ROWS = 16, ROW_BYTES = 64, TILES = 8 };
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } layout;
  memset(&layout, 0, sizeof layout);
  layout.palette = 1;
  for (int tile = 0; tile < TILES; tile++) {
    layout.row_bytes[tile] = ROW_BYTES;
    layout.rows[tile] = ROWS;
  }
  _tile_loadconfig(&layout);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (uint64_t step = 0; step < steps; step++) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_release();
}

static const peak peaks[] = {
    {"pmaddwd+paddd xmm", ARITHMETIC_DOT_INT8, 0, PRODUCTS * 8 * 2.0, run_pmaddwd_xmm},
    {"vpmaddwd+vpaddd ymm", ARITHMETIC_DOT_INT8, LATHE_CPU_AVX2, PRODUCTS * 16 * 2.0, run_pmaddwd_ymm},
    {"vpdpbusd ymm", ARITHMETIC_DOT_INT8, LATHE_CPU_AVXVNNI, SUMS * 32 * 2.0, run_vpdpbusd_ymm},
    {"vpdpbusd zmm", ARITHMETIC_DOT_INT8, LATHE_CPU_AVX512VNNI, SUMS * 64 * 2.0, run_vpdpbusd_zmm},
    {"tdpbusd", ARITHMETIC_DOT_INT8, LATHE_CPU_AMX_INT8, 4 * 16 * 16 * 64 * 2.0, run_tdpbusd},
    {"pmaddwd+paddd xmm", ARITHMETIC_DOT_INT4, 0, PRODUCTS * 8 * 2.0, run_pmaddwd_xmm},
    // A few of these sums fit int16, so that the instruction that widens them counts for little.
    {"vpmaddubsw+vpaddw ymm", ARITHMETIC_DOT_INT4, LATHE_CPU_AVX2, PRODUCTS * 32 * 2.0, run_pmaddubsw_ymm},
    {"vpdpbusd ymm", ARITHMETIC_DOT_INT4, LATHE_CPU_AVXVNNI, SUMS * 32 * 2.0, run_vpdpbusd_ymm},
    {"vpdpbusd zmm", ARITHMETIC_DOT_INT4, LATHE_CPU_AVX512VNNI, SUMS * 64 * 2.0, run_vpdpbusd_zmm},
    {"mulps+addps xmm", ARITHMETIC_FLOAT32, 0, PRODUCTS * 4 * 2.0, run_mulps_xmm},
    {"vfmadd ymm", ARITHMETIC_FLOAT32, LATHE_CPU_AVX2, SUMS * 8 * 2.0, run_fma_ymm},
    {"vfmadd zmm", ARITHMETIC_FLOAT32, LATHE_CPU_AVX512, SUMS * 16 * 2.0, run_fma_zmm},
};

#elif defined(__aarch64__)
#include <arm_neon.h>

// NEON belongs to the baseline, so that the definitions have the same peaks. Twelve sums: four a cycle at a latency of
// three, or two at four.
enum { SUMS = 12 };
#define UNROLLED _Pragma("clang loop unroll(full)")
#define OPAQUE(x) __asm__ volatile("" : "+w"(x))

#define PEAK(name, vector, factor, zero, factor_zero, instruction)         \
  static void name(uint64_t steps) {                                       \
    vector sum[SUMS];                                                      \
    factor a = factor_zero, b = factor_zero;                               \
    OPAQUE(a);                                                             \
    OPAQUE(b);                                                             \
    UNROLLED for (int i = 0; i < SUMS; i++) {                              \
      sum[i] = zero;                                                       \
      OPAQUE(sum[i]);                                                      \
    }                                                                      \
    for (uint64_t step = 0; step < steps; step++) {                        \
      UNROLLED for (int i = 0; i < SUMS; i++) { sum[i] = instruction; }    \
    }                                                                      \
    UNROLLED for (int i = 0; i < SUMS; i++) { OPAQUE(sum[i]); }            \
  }

PEAK(run_smlal, int32x4_t, int16x4_t, vdupq_n_s32(0), vdup_n_s16(0), vmlal_s16(sum[i], a, b))
PEAK(run_fmla, float32x4_t, float32x4_t, vdupq_n_f32(0), vdupq_n_f32(0), vfmaq_f32(sum[i], a, b))

static const peak peaks[] = {
    {"smlal 4s", ARITHMETIC_DOT_INT8, 0, SUMS * 4 * 2.0, run_smlal},
    {"smlal 4s", ARITHMETIC_DOT_INT4, 0, SUMS * 4 * 2.0, run_smlal},
    {"fmla 4s", ARITHMETIC_FLOAT32, 0, SUMS * 4 * 2.0, run_fmla},
};

#else

static void run_products(uint64_t steps) {
  uint32_t sum = 0, a = 1;
  for (uint64_t step = 0; step < steps; step++) {
    __asm__ volatile("" : "+r"(a), "+r"(sum));
    sum += a * a;
  }
  keep(sum);
}

static const peak peaks[] = {
    {"plain C", ARITHMETIC_DOT_INT8, 0, 2, run_products},
    {"plain C", ARITHMETIC_DOT_INT4, 0, 2, run_products},
    {"plain C", ARITHMETIC_FLOAT32, 0, 2, run_products},
};
#endif

const peak *peak_of(arithmetic arithmetic, uint32_t features) {
  const peak *best = NULL;
  for (size_t i = 0; i < sizeof peaks / sizeof peaks[0]; i++) {
    if (peaks[i].arithmetic == arithmetic && (peaks[i].features & ~features) == 0) best = &peaks[i];
  }
  return best;
}
