// The int8 linear layer by int4 weights on AVX-VNNI. A nibble moved to the upper half of its byte is 16·q: VPDPBUSD
// multiplies that as it is, and a group's sum, a multiple of 16, is divided before its multiplier is applied.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <string.h>

#include "../simd/vf16_avx2.h"
#include "linear_qd8_blocks.h"

#pragma clang attribute push(__attribute__((target("avxvnni,avx2,fma,f16c"))), apply_to = function)

#include "linear_qd8_epilogue.h"

enum { MAXIMUM_ROWS = 6, MAXIMUM_PANELS = 4 };

static inline __m256i broadcast_four(const uint8_t *q) {
  int32_t four;
  memcpy(&four, q, sizeof four);
  return _mm256_set1_epi32(four);
}

// The contract is in qc4w_groups.h. The halves of panel p are the vectors 2p and 2p + 1.
static inline __attribute__((always_inline)) void accumulate_group(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    const uint8_t *const *weights, const uint8_t *const *activations, const int8_t *const *m, size_t begin, size_t end,
    int32_t *restrict acc) {
  const __m256i upper = _mm256_set1_epi8((char)0xf0);
  __m256i sum[MAXIMUM_ROWS][2 * MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t v = 0; v < 2 * panels; v++) {
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r][v] = _mm256_setzero_si256();
  }
  size_t prefetch = lathe_qd8_prefetch_offset(block, begin);
  for (size_t at = begin; at < end; at += 64, prefetch += block->prefetch_step) {
#pragma clang loop unroll(full)
    for (size_t v = 0; v < 2 * panels; v++) {
      if (prefetches && v % 2 == 0) _mm_prefetch((const char *)weights[v / 2] + prefetch, _MM_HINT_T0);
      const __m256i nibbles = _mm256_load_si256((const __m256i *)(weights[v / 2] + at + v % 2 * 32));
      const __m256i low = _mm256_and_si256(_mm256_slli_epi16(nibbles, 4), upper);
      const __m256i high = _mm256_and_si256(nibbles, upper);
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        sum[r][v] = _mm256_dpbusd_avx_epi32(sum[r][v], broadcast_four(activations[r] + at / 8), low);
        sum[r][v] = _mm256_dpbusd_avx_epi32(sum[r][v], broadcast_four(activations[r] + at / 8 + 4), high);
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t v = 0; v < 2 * panels; v++) {
    const __m256i multipliers = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(m[v / 2] + v % 2 * 8)));
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      __m256i *total = (__m256i *)(acc + r * panels * LATHE_PANEL_COLUMNS + v * 8);
      const __m256i product = _mm256_mullo_epi32(_mm256_srai_epi32(sum[r][v], 4), multipliers);
      _mm256_store_si256(total, _mm256_add_epi32(_mm256_load_si256(total), product));
    }
  }
}

#include "qc4w_groups.h"

#define LATHE_SHAPES LATHE_SHAPES_OF_SIX
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc4w_avxvnni(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(operation->weights->depth);
  lathe_qd8_for_each_block_of_six(operation, panel_bytes, panel_begin, panel_end, run_block);
}

#pragma clang attribute pop
#endif
