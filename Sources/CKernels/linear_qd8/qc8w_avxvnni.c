// The int8 linear layer on AVX-VNNI: one VEX-encoded VPDPBUSD adds four u8·s8 products into the int32 of each of 8 columns.
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

// acc [rows][panels][16] = Σ_k q·w − zp·colsum. `rows` and `panels` are constants after inlining, so that every
// accumulator is a register; the halves of panel p are the vectors 2p and 2p + 1.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const int8_t *values = op->weights->values;
  const int8_t *weights[MAXIMUM_PANELS];
  const uint8_t *activations[MAXIMUM_ROWS];
  __m256i sum[MAXIMUM_ROWS][2 * MAXIMUM_PANELS];
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
      vi16 start = lathe_qd8_minus_zero_point(column_sums, op->quantization[block->row + r].zero_point);
      sum[r][2 * p] = start.low;
      sum[r][2 * p + 1] = start.high;
    }
  }
  size_t at = 0;
  for (int part = 0; part < 2; part++) {
    const size_t end = part == 0 ? block->turn : block->panel_bytes;
    size_t prefetch = block->prefetch_begin[part];
    for (; at < end; at += 64, prefetch += block->prefetch_step) {
      __m256i w[2 * MAXIMUM_PANELS];
#pragma clang loop unroll(full)
      for (size_t p = 0; p < panels; p++) {
        if (prefetches) _mm_prefetch((const char *)weights[p] + prefetch, _MM_HINT_T0);
        w[2 * p] = _mm256_load_si256((const __m256i *)(weights[p] + at));
        w[2 * p + 1] = _mm256_load_si256((const __m256i *)(weights[p] + at + 32));
      }
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        int32_t four;
        memcpy(&four, activations[r] + at / LATHE_PANEL_COLUMNS, sizeof four);
        __m256i q = _mm256_set1_epi32(four);
#pragma clang loop unroll(full)
        for (size_t v = 0; v < 2 * panels; v++) sum[r][v] = _mm256_dpbusd_avx_epi32(sum[r][v], q, w[v]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
    for (size_t v = 0; v < 2 * panels; v++) {
      _mm256_store_si256((__m256i *)(acc + r * panels * LATHE_PANEL_COLUMNS + v * 8), sum[r][v]);
    }
  }
}

#define LATHE_SHAPES LATHE_SHAPES_OF_SIX
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc8w_avxvnni(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc8w_panel_bytes(operation->weights->depth);
  // At most 12 of the 16 registers are accumulators: several panels for few rows, as memory likes several streams.
  lathe_qd8_for_each_block_of_six(operation, panel_bytes, panel_begin, panel_end, run_block);
}

#pragma clang attribute pop
#endif
