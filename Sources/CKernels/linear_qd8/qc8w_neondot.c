// The int8 linear layer on NEON with dot products: one SDOT adds four products into the int32 of each of 4 columns. Both
// factors are signed: activations become q − 128 by flipping their upper bit, and the zero point becomes zp − 128.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__aarch64__)
#include "../simd/vf16_neon.h"
#include "linear_qd8_blocks.h"

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

#include "linear_qd8_epilogue.h"

enum { MAXIMUM_ROWS = 6, MAXIMUM_PANELS = 4 };

// The products of vector `j` (a literal, as the instruction wants) of the four that sixteen activations meet.
#define ADD_PRODUCTS(j)                                                                                       \
  _Pragma("clang loop unroll(full)") for (size_t v = 0; v < 4 * panels; v++) {                                \
    const int8x16_t w = vld1q_s8(weights[v / 4] + at + 64 * j + v % 4 * 16);                                  \
    _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) {                                    \
      sum[r][v] = vdotq_laneq_s32(sum[r][v], w, q[r], j);                                                     \
    }                                                                                                         \
  }

// acc [rows][panels][16] = Σ_k q·w − zp·colsum. `rows` and `panels` are constants after inlining, so that every
// accumulator is a register; the quarters of panel p are the vectors 4p … 4p + 3.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const int8_t *values = op->weights->values;
  const int8_t *weights[MAXIMUM_PANELS];
  const uint8_t *activations[MAXIMUM_ROWS];
  int32x4_t sum[MAXIMUM_ROWS][4 * MAXIMUM_PANELS];
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
      const vi16 start = lathe_qd8_minus_zero_point(column_sums, op->quantization[block->row + r].zero_point - 128);
#pragma clang loop unroll(full)
      for (size_t v = 0; v < 4; v++) sum[r][4 * p + v] = start.q[v];
    }
  }
  size_t at = 0;
  for (int part = 0; part < 2; part++) {
    const size_t end = part == 0 ? block->turn : block->panel_bytes;
    size_t prefetch = block->prefetch_begin[part];
    for (; at < end; at += 256) {
      if (prefetches) {
#pragma clang loop unroll(full)
        for (size_t line = 0; line < 4; line++, prefetch += block->prefetch_step) {
#pragma clang loop unroll(full)
          for (size_t p = 0; p < panels; p++) __builtin_prefetch(weights[p] + prefetch);
        }
      }
      int8x16_t q[MAXIMUM_ROWS];
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        const uint8x16_t sixteen = vld1q_u8(activations[r] + at / LATHE_PANEL_COLUMNS);
        q[r] = vreinterpretq_s8_u8(veorq_u8(sixteen, vdupq_n_u8(0x80)));
      }
      ADD_PRODUCTS(0)
      ADD_PRODUCTS(1)
      ADD_PRODUCTS(2)
      ADD_PRODUCTS(3)
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
    for (size_t v = 0; v < 4 * panels; v++) {
      vst1q_s32(acc + r * panels * LATHE_PANEL_COLUMNS + v * 4, sum[r][v]);
    }
  }
}

#define LATHE_SHAPES LATHE_SHAPES_OF_SIX
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc8w_neondot(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc8w_panel_bytes(operation->weights->depth);
  // At most 24 of the 32 registers are accumulators, four to a row and panel.
  lathe_qd8_for_each_block_of_six(operation, panel_bytes, panel_begin, panel_end, run_block);
}

#pragma clang attribute pop
#endif
