// The int8 linear layer by int4 weights on NEON with dot products. A nibble moved to the upper half of its byte is 16·q:
// SDOT multiplies that as it is, and a group's sum, a multiple of 16, is divided before its multiplier is applied.
// Activations become q − 128 by flipping their upper bit, and the zero point becomes zp − 128.
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

// The products of vector `j` (a literal, as the instruction wants) of the two that sixteen activations meet.
#define ADD_PRODUCTS(j)                                                                                       \
  _Pragma("clang loop unroll(full)") for (size_t v = 0; v < 4 * panels; v++) {                                \
    const uint8x16_t nibbles = vld1q_u8(weights[v / 4] + at + 64 * j + v % 4 * 16);                           \
    const int8x16_t low = vreinterpretq_s8_u8(vshlq_n_u8(nibbles, 4));                                        \
    const int8x16_t high = vreinterpretq_s8_u8(vandq_u8(nibbles, vdupq_n_u8(0xf0)));                          \
    _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) {                                    \
      sum[r][v] = vdotq_laneq_s32(sum[r][v], low, q[r], 2 * j);                                               \
      sum[r][v] = vdotq_laneq_s32(sum[r][v], high, q[r], 2 * j + 1);                                          \
    }                                                                                                         \
  }

// The contract is in qc4w_groups.h. The quarters of panel p are the vectors 4p … 4p + 3.
static inline __attribute__((always_inline)) void accumulate_group(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    const uint8_t *const *weights, const uint8_t *const *activations, const int8_t *const *m, size_t begin, size_t end,
    int32_t *restrict acc) {
  int32x4_t sum[MAXIMUM_ROWS][4 * MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t v = 0; v < 4 * panels; v++) {
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r][v] = vdupq_n_s32(0);
  }
  size_t prefetch = lathe_qd8_prefetch_offset(block, begin);
  for (size_t at = begin; at < end; at += 128) {
    if (prefetches) {
#pragma clang loop unroll(full)
      for (size_t line = 0; line < 2; line++, prefetch += block->prefetch_step) {
#pragma clang loop unroll(full)
        for (size_t p = 0; p < panels; p++) __builtin_prefetch(weights[p] + prefetch);
      }
    }
    int8x16_t q[MAXIMUM_ROWS];
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      q[r] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(activations[r] + at / 8), vdupq_n_u8(0x80)));
    }
    ADD_PRODUCTS(0)
    ADD_PRODUCTS(1)
  }
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    const vi16 multipliers = vi16_load_s8(m[p]);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      int32_t *total = acc + (r * panels + p) * LATHE_PANEL_COLUMNS;
#pragma clang loop unroll(full)
      for (size_t v = 0; v < 4; v++) {
        const int32x4_t group = vshrq_n_s32(sum[r][4 * p + v], 4);
        vst1q_s32(total + 4 * v, vmlaq_s32(vld1q_s32(total + 4 * v), group, multipliers.q[v]));
      }
    }
  }
}

#define LATHE_ACTIVATION_OFFSET 128
#include "qc4w_groups.h"

#define LATHE_SHAPES LATHE_SHAPES_OF_SIX
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc4w_neondot(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(operation->weights->depth);
  lathe_qd8_for_each_block_of_six(operation, panel_bytes, panel_begin, panel_end, run_block);
}

#pragma clang attribute pop
#endif
