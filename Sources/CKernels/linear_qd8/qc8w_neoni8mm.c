// The int8 linear layer on NEON with matrix products: one USMMLA multiplies two rows of eight u8 activations by two columns
// of eight s8 weights. Those eight lie in two vectors of T16, four in each, and zipping the two makes the operands.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__aarch64__)
#include "../simd/vf16_neon.h"
#include "linear_qd8_blocks.h"

#pragma clang attribute push(__attribute__((target("i8mm,dotprod"))), apply_to = function)

#include "linear_qd8_epilogue.h"

enum { MAXIMUM_ROWS = 6, MAXIMUM_PAIRS = MAXIMUM_ROWS / 2, MAXIMUM_PANELS = 3 };

// Columns 4v … 4v + 3 of row `odd` of a pair, out of the products of two columns each: row 0 in the low halves, 1 in the
// high ones.
static inline __attribute__((always_inline)) int32x4_t columns_of_row(const int32x4_t *sum, size_t v, size_t odd) {
  const int64x2_t first = vreinterpretq_s64_s32(sum[2 * v]), second = vreinterpretq_s64_s32(sum[2 * v + 1]);
  return vreinterpretq_s32_s64(odd ? vzip2q_s64(first, second) : vzip1q_s64(first, second));
}

// acc [rows][panels][16] = Σ_k q·w − zp·colsum. `rows` and `panels` are constants after inlining, so that every
// accumulator is a register; columns 2c and 2c + 1 of panel p are the vector 8p + c. Where the number of rows is odd, the
// last one is its own neighbour, and what comes of that is dropped.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const int8_t *values = op->weights->values;
  const int8_t *weights[MAXIMUM_PANELS];
  const uint8_t *activations[MAXIMUM_ROWS];
  const size_t pairs = (rows + 1) / 2;
  int32x4_t sum[MAXIMUM_PAIRS][8 * MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) weights[p] = values + (block->panel + p) * block->panel_bytes;
#pragma clang loop unroll(full)
  for (size_t r = 0; r < 2 * pairs; r++) {
    const size_t row = block->row + (r < rows ? r : rows - 1);
    activations[r] = (const uint8_t *)op->activations + row * op->activation_stride_bytes;
  }
#pragma clang loop unroll(full)
  for (size_t i = 0; i < pairs; i++) {
#pragma clang loop unroll(full)
    for (size_t v = 0; v < 8 * panels; v++) sum[i][v] = vdupq_n_s32(0);
  }
  size_t at = 0;
  for (int part = 0; part < 2; part++) {
    const size_t end = part == 0 ? block->turn : block->panel_bytes;
    size_t prefetch = block->prefetch_begin[part];
    for (; at < end; at += 128, prefetch += 2 * block->prefetch_step) {
      uint8x16_t q[MAXIMUM_PAIRS];
#pragma clang loop unroll(full)
      for (size_t i = 0; i < pairs; i++) {
        q[i] = vcombine_u8(
            vld1_u8(activations[2 * i] + at / LATHE_PANEL_COLUMNS),
            vld1_u8(activations[2 * i + 1] + at / LATHE_PANEL_COLUMNS));
      }
#pragma clang loop unroll(full)
      for (size_t v = 0; v < 4 * panels; v++) {  // four columns each
        const int8_t *columns = weights[v / 4] + at + v % 4 * 16;
        if (prefetches && v % 4 == 0) {
          __builtin_prefetch(weights[v / 4] + prefetch);
          __builtin_prefetch(weights[v / 4] + prefetch + block->prefetch_step);
        }
        const int32x4_t k0123 = vreinterpretq_s32_s8(vld1q_s8(columns));
        const int32x4_t k4567 = vreinterpretq_s32_s8(vld1q_s8(columns + 64));
        const int8x16_t first = vreinterpretq_s8_s32(vzip1q_s32(k0123, k4567));
        const int8x16_t second = vreinterpretq_s8_s32(vzip2q_s32(k0123, k4567));
#pragma clang loop unroll(full)
        for (size_t i = 0; i < pairs; i++) {
          sum[i][2 * v] = vusmmlaq_s32(sum[i][2 * v], q[i], first);
          sum[i][2 * v + 1] = vusmmlaq_s32(sum[i][2 * v + 1], q[i], second);
        }
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      const vi16 start = lathe_qd8_minus_zero_point(
          op->weights->column_sums + (block->panel + p) * LATHE_PANEL_COLUMNS,
          op->quantization[block->row + r].zero_point);
      const int32x4_t *own = sum[r / 2] + 8 * p;
      const vi16 sums = {{
          columns_of_row(own, 0, r % 2), columns_of_row(own, 1, r % 2), columns_of_row(own, 2, r % 2),
          columns_of_row(own, 3, r % 2)}};
      vi16_store(acc + (r * panels + p) * LATHE_PANEL_COLUMNS, vi16_add(sums, start));
    }
  }
}

#define LATHE_SHAPES \
  SHAPE(1, 3) SHAPE(2, 3) \
  SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1) \
  SHAPE_OF_MANY(5, 1) SHAPE_OF_MANY(6, 1)
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc8w_neoni8mm(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc8w_panel_bytes(operation->weights->depth);
  // At most 24 of the 32 registers are accumulators, eight to two rows and a panel.
  if (operation->rows <= 2) {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 2, 3, run_block);
  } else {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 6, 1, run_block);
  }
}

#pragma clang attribute pop
#endif
