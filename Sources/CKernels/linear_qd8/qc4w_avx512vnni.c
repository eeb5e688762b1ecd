// The int8 linear layer by int4 weights on AVX-512-VNNI. A nibble moved to the upper half of its byte is 16·q: VPDPBUSD
// multiplies that as it is, and a group's sum, a multiple of 16, is divided before its multiplier is applied.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <string.h>

#include "../simd/vf16_avx512.h"
#include "linear_qd8_blocks.h"

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"))), apply_to = function)

#include "linear_qd8_epilogue.h"

enum { MAXIMUM_ROWS = 8, MAXIMUM_PANELS = 4 };

static inline __m512i broadcast_four(const uint8_t *q) {
  int32_t four;
  memcpy(&four, q, sizeof four);
  return _mm512_set1_epi32(four);
}

// The contract is in qc4w_groups.h. Of one row, a panel has two sums, since one would wait for itself.
static inline __attribute__((always_inline)) void accumulate_group(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    const uint8_t *const *weights, const uint8_t *const *activations, const int8_t *const *m, size_t begin, size_t end,
    int32_t *restrict acc) {
  const __m512i upper = _mm512_set1_epi8((char)0xf0);
  __m512i sum[MAXIMUM_ROWS][MAXIMUM_PANELS], other[MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    other[p] = _mm512_setzero_si512();
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r][p] = _mm512_setzero_si512();
  }
  size_t prefetch = lathe_qd8_prefetch_offset(block, begin);
  for (size_t at = begin; at < end; at += 64, prefetch += block->prefetch_step) {
    __m512i low[MAXIMUM_PANELS], high[MAXIMUM_PANELS];
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      if (prefetches) _mm_prefetch((const char *)weights[p] + prefetch, _MM_HINT_T0);
      const __m512i nibbles = _mm512_load_si512(weights[p] + at);
      low[p] = _mm512_and_si512(_mm512_slli_epi16(nibbles, 4), upper);
      high[p] = _mm512_and_si512(nibbles, upper);
    }
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      const __m512i q = broadcast_four(activations[r] + at / 8), next_q = broadcast_four(activations[r] + at / 8 + 4);
#pragma clang loop unroll(full)
      for (size_t p = 0; p < panels; p++) {
        __m512i *second = rows == 1 ? &other[p] : &sum[r][p];
        sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], q, low[p]);
        *second = _mm512_dpbusd_epi32(*second, next_q, high[p]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    const __m512i multipliers = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)m[p]));
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      const __m512i all = rows == 1 ? _mm512_add_epi32(sum[r][p], other[p]) : sum[r][p];
      int32_t *total = acc + (r * panels + p) * LATHE_PANEL_COLUMNS;
      const __m512i product = _mm512_mullo_epi32(_mm512_srai_epi32(all, 4), multipliers);
      _mm512_store_si512(total, _mm512_add_epi32(_mm512_load_si512(total), product));
    }
  }
}

#include "qc4w_groups.h"

#define LATHE_SHAPES \
  SHAPE(1, 4) SHAPE(2, 4) SHAPE(3, 4) SHAPE(4, 4) SHAPE(5, 4) \
  SHAPE(6, 3) SHAPE(7, 3) SHAPE(8, 3) \
  SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1) SHAPE(7, 1) SHAPE(8, 1) \
  SHAPE_OF_MANY(4, 4) SHAPE_OF_MANY(5, 4) SHAPE_OF_MANY(4, 1) SHAPE_OF_MANY(5, 1)
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc4w_avx512vnni(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(operation->weights->depth);
  if (operation->rows >= 6 && operation->rows <= 8) {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 8, 3, run_block);
  } else {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 5, 4, run_block);
  }
}

#pragma clang attribute pop
#endif
