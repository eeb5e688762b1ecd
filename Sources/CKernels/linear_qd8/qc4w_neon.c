// The int8 linear layer by int4 weights on plain NEON. Activations become q − 128 by flipping their upper bit, the zero
// point becomes zp − 128; and with weights in −8…7, sixteen bits hold the sums of 32 inputs of each column, in four parts.
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

enum {
  MAXIMUM_ROWS = 2,
  MAXIMUM_PANELS = 2,
  // Of a panel, 32 weights of each column: an int16 adds eight products, at most 8·128·8 = 8192 from zero. Every group is a
  // multiple of it.
  CHUNK_BYTES = 256,
};

// Four activations in each quarter, less 128.
static inline __attribute__((always_inline)) int8x16_t broadcast_four(const uint8_t *q) {
  uint32_t four;
  memcpy(&four, q, sizeof four);
  return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080));
}

// The contract is in qc4w_groups.h. Columns 2c and 2c + 1 of panel p are the vector 8p + c, in four parts each.
static inline __attribute__((always_inline)) void accumulate_group(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    const uint8_t *const *weights, const uint8_t *const *activations, const int8_t *const *m, size_t begin, size_t end,
    int32_t *restrict acc) {
  for (size_t chunk = begin; chunk < end; chunk += CHUNK_BYTES) {
    int16x8_t sum[MAXIMUM_ROWS][8 * MAXIMUM_PANELS];
#pragma clang loop unroll(full)
    for (size_t v = 0; v < 8 * panels; v++) {
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) sum[r][v] = vdupq_n_s16(0);
    }
    size_t prefetch = lathe_qd8_prefetch_offset(block, chunk);
    for (size_t at = chunk; at < chunk + CHUNK_BYTES; at += 64, prefetch += block->prefetch_step) {
      int8x16_t first[MAXIMUM_ROWS], second[MAXIMUM_ROWS];
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        first[r] = broadcast_four(activations[r] + at / 8);
        second[r] = broadcast_four(activations[r] + at / 8 + 4);
      }
#pragma clang loop unroll(full)
      for (size_t v = 0; v < 4 * panels; v++) {  // four columns each
        if (prefetches && v % 4 == 0) __builtin_prefetch(weights[v / 4] + prefetch);
        const int8x16_t nibbles = vreinterpretq_s8_u8(vld1q_u8(weights[v / 4] + at + v % 4 * 16));
        const int8x16_t low = vshrq_n_s8(vshlq_n_s8(nibbles, 4), 4), high = vshrq_n_s8(nibbles, 4);
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++) {
          int16x8_t *two = &sum[r][2 * v];
          two[0] = vmlal_s8(two[0], vget_low_s8(low), vget_low_s8(first[r]));
          two[0] = vmlal_s8(two[0], vget_low_s8(high), vget_low_s8(second[r]));
          two[1] = vmlal_high_s8(two[1], low, first[r]);
          two[1] = vmlal_high_s8(two[1], high, second[r]);
        }
      }
    }
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      const vi16 multipliers = vi16_load_s8(m[p]);
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        int32_t *total = acc + (r * panels + p) * LATHE_PANEL_COLUMNS;
#pragma clang loop unroll(full)
        for (size_t v = 0; v < 4; v++) {
          const int16x8_t *two = &sum[r][8 * p + 2 * v];
          const int32x4_t columns = vpaddlq_s16(vpaddq_s16(two[0], two[1]));
          vst1q_s32(total + 4 * v, vmlaq_s32(vld1q_s32(total + 4 * v), columns, multipliers.q[v]));
        }
      }
    }
  }
}

#define LATHE_ACTIVATION_OFFSET 128
#include "qc4w_groups.h"

#define LATHE_SHAPES \
  SHAPE(1, 2) \
  SHAPE(1, 1) SHAPE(2, 1) \
  SHAPE_OF_MANY(1, 1) SHAPE_OF_MANY(2, 1)
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc4w_neon(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(operation->weights->depth);
  // 16 of the 32 registers are accumulators, eight to a row and panel; the others hold weights, activations of two depths
  // and products.
  const size_t tall = operation->rows == 1 ? 1 : 2, wide = operation->rows == 1 ? 2 : 1;
  lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, tall, wide, run_block);
}

#endif
