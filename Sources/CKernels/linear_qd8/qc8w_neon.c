// The int8 linear layer on plain NEON. Both factors must be signed: activations become q − 128 by flipping their upper
// bit, and the zero point becomes zp − 128. With weights in −127…127 an int16 holds the sum of two products, from two
// vectors of weights of the same columns; a pairwise addition takes it to int32.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__aarch64__)
#include <string.h>

#include "../simd/vf16_neon.h"
#include "linear_qd8_blocks.h"
#include "linear_qd8_epilogue.h"

enum { MAXIMUM_ROWS = 2, MAXIMUM_PANELS = 2 };

// Four activations in each quarter, less 128.
static inline __attribute__((always_inline)) int8x16_t broadcast_four(const uint8_t *q) {
  uint32_t four;
  memcpy(&four, q, sizeof four);
  return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080));
}

// acc [rows][panels][16] = Σ_k q·w − zp·colsum. `rows` and `panels` are constants after inlining, so that every
// accumulator is a register. Those of columns 2c and 2c + 1 of panel p are the vector 8p + c, as pairs of adjacent lanes.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const int8_t *values = op->weights->values;
  const int8_t *weights[MAXIMUM_PANELS];
  const uint8_t *activations[MAXIMUM_ROWS];
  int32x4_t sum[MAXIMUM_ROWS][8 * MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) weights[p] = values + (block->panel + p) * block->panel_bytes;
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    activations[r] = (const uint8_t *)op->activations + (block->row + r) * op->activation_stride_bytes;
#pragma clang loop unroll(full)
    for (size_t v = 0; v < 8 * panels; v++) sum[r][v] = vdupq_n_s32(0);
  }
  size_t at = 0;
  for (int part = 0; part < 2; part++) {
    const size_t end = part == 0 ? block->turn : block->panel_bytes;
    size_t prefetch = block->prefetch_begin[part];
    for (; at < end; at += 128, prefetch += 2 * block->prefetch_step) {
      int8x16_t first[MAXIMUM_ROWS], second[MAXIMUM_ROWS];
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        first[r] = broadcast_four(activations[r] + at / LATHE_PANEL_COLUMNS);
        second[r] = broadcast_four(activations[r] + at / LATHE_PANEL_COLUMNS + 4);
      }
#pragma clang loop unroll(full)
      for (size_t v = 0; v < 4 * panels; v++) {  // four columns each
        const int8_t *columns = weights[v / 4] + at + v % 4 * 16;
        if (prefetches && v % 4 == 0) {
          __builtin_prefetch(weights[v / 4] + prefetch);
          __builtin_prefetch(weights[v / 4] + prefetch + block->prefetch_step);
        }
        const int8x16_t w0 = vld1q_s8(columns), w1 = vld1q_s8(columns + 64);
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++) {
          int16x8_t low = vmull_s8(vget_low_s8(w0), vget_low_s8(first[r]));
          low = vmlal_s8(low, vget_low_s8(w1), vget_low_s8(second[r]));
          int16x8_t high = vmull_high_s8(w0, first[r]);
          high = vmlal_high_s8(high, w1, second[r]);
          sum[r][2 * v] = vpadalq_s16(sum[r][2 * v], low);
          sum[r][2 * v + 1] = vpadalq_s16(sum[r][2 * v + 1], high);
        }
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    const int32_t zero_point = op->quantization[block->row + r].zero_point - 128;
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      const vi16 start =
          lathe_qd8_minus_zero_point(op->weights->column_sums + (block->panel + p) * LATHE_PANEL_COLUMNS, zero_point);
      const int32x4_t *pairs = sum[r] + 8 * p;
      const vi16 sums = {{
          vpaddq_s32(pairs[0], pairs[1]), vpaddq_s32(pairs[2], pairs[3]), vpaddq_s32(pairs[4], pairs[5]),
          vpaddq_s32(pairs[6], pairs[7])}};
      vi16_store(acc + (r * panels + p) * LATHE_PANEL_COLUMNS, vi16_add(sums, start));
    }
  }
}

#define LATHE_SHAPES \
  SHAPE(1, 2) \
  SHAPE(1, 1) SHAPE(2, 1) \
  SHAPE_OF_MANY(1, 1) SHAPE_OF_MANY(2, 1)
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc8w_neon(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc8w_panel_bytes(operation->weights->depth);
  // 16 of the 32 registers are accumulators, eight to a row and panel; the others hold weights, activations of two depths
  // and products.
  const size_t tall = operation->rows == 1 ? 1 : 2, wide = operation->rows == 1 ? 2 : 1;
  lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, tall, wide, run_block);
}

#endif
