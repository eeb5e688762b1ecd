// Expanding int4 panels to T16 on NEON, which multiplies bytes: |q·m| is at most 120.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__aarch64__)
#include <arm_neon.h>

void lathe_expand_qc4w_neon(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  // Four columns of a group: each multiplier four times.
  static const uint8_t spread[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  const size_t panel_bytes = lathe_qc4w_panel_bytes(weights->depth);
  const size_t group_bytes = weights->group_size * LATHE_PANEL_COLUMNS / 2;
  const uint8_t *nibbles = (const uint8_t *)weights->values + panel_begin * panel_bytes;
  const int8_t *multipliers = weights->multipliers + panel_begin * lathe_qc4w_panel_multipliers(weights);
  for (size_t panel = panel_begin; panel < panel_end; panel++, nibbles += panel_bytes) {
    for (size_t begin = 0; begin < panel_bytes; begin += group_bytes, multipliers += LATHE_PANEL_COLUMNS) {
      const size_t end = begin + group_bytes < panel_bytes ? begin + group_bytes : panel_bytes;
      const int8x16_t all = vld1q_s8(multipliers);
      int8x16_t m[4];
      for (uint8_t v = 0; v < 4; v++) m[v] = vqtbl1q_s8(all, vaddq_u8(vld1q_u8(spread), vdupq_n_u8(4 * v)));
      for (size_t at = begin; at < end; at += 64, panels += 128) {
#pragma clang loop unroll(full)
        for (size_t v = 0; v < 4; v++) {
          const int8x16_t both = vreinterpretq_s8_u8(vld1q_u8(nibbles + at + v * 16));
          vst1q_s8(panels + v * 16, vmulq_s8(vshrq_n_s8(vshlq_n_s8(both, 4), 4), m[v]));
          vst1q_s8(panels + 64 + v * 16, vmulq_s8(vshrq_n_s8(both, 4), m[v]));
        }
      }
    }
  }
}

#endif
