// The int8 linear layer on AVX-512-VNNI: one VPDPBUSD adds four u8·s8 products into the int32 of each of 16 columns.
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

// acc [rows][panels][16] = Σ_k q·w − zp·colsum. `rows` and `panels` are constants after inlining, so that every
// accumulator is a register.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const int8_t *values = op->weights->values;
  const int8_t *weights[MAXIMUM_PANELS];
  const uint8_t *activations[MAXIMUM_ROWS];
  __m512i sum[MAXIMUM_ROWS][MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    activations[r] = (const uint8_t *)op->activations + (block->row + r) * op->activation_stride_bytes;
  }
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    weights[p] = values + (block->panel + p) * block->panel_bytes;
    const int32_t *column_sums = op->weights->column_sums + (block->panel + p) * LATHE_PANEL_COLUMNS;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      sum[r][p] = lathe_qd8_minus_zero_point(column_sums, op->quantization[block->row + r].zero_point);
    }
  }
  size_t at = 0;
  for (int part = 0; part < 2; part++) {
    const size_t end = part == 0 ? block->turn : block->panel_bytes;
    size_t prefetch = block->prefetch_begin[part];
    for (; at < end; at += 64, prefetch += block->prefetch_step) {
      __m512i w[MAXIMUM_PANELS];
#pragma clang loop unroll(full)
      for (size_t p = 0; p < panels; p++) {
        if (prefetches) _mm_prefetch((const char *)weights[p] + prefetch, _MM_HINT_T0);
        w[p] = _mm512_load_si512(weights[p] + at);
      }
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        int32_t four;
        memcpy(&four, activations[r] + at / LATHE_PANEL_COLUMNS, sizeof four);
        __m512i q = _mm512_set1_epi32(four);
#pragma clang loop unroll(full)
        for (size_t p = 0; p < panels; p++) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], q, w[p]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      _mm512_store_si512(acc + (r * panels + p) * LATHE_PANEL_COLUMNS, sum[r][p]);
    }
  }
}

#define LATHE_SHAPES \
  SHAPE(1, 4) SHAPE(2, 4) SHAPE(3, 4) SHAPE(4, 4) SHAPE(5, 4) SHAPE(6, 4) \
  SHAPE(7, 3) SHAPE(8, 3) \
  SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1) SHAPE(7, 1) SHAPE(8, 1) \
  SHAPE_OF_MANY(5, 4) SHAPE_OF_MANY(6, 4) SHAPE_OF_MANY(5, 1) SHAPE_OF_MANY(6, 1)
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc8w_avx512vnni(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc8w_panel_bytes(operation->weights->depth);
  // 24 accumulators, a vector of weights for each panel and one of activations fill the register file. Eight rows are
  // kept in one block, since they are as fast as memory gives weights.
  if (operation->rows == 7 || operation->rows == 8) {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 8, 3, run_block);
  } else {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 6, 4, run_block);
  }
}

#pragma clang attribute pop
#endif
