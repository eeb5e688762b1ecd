// The int8 linear layer by int4 weights: the definition, in plain C, and the expansion to T16.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8_scalar.h"

enum { VECTOR_DEPTH = 8, VECTOR_BYTES = 64 };  // of a vector of nibbles

// sums[n] = Σ_g m(n,g)·Σ_{k of g} q(k)·w(n,k)
static void accumulate_panel(
    const uint8_t *q, const uint8_t *panel, const int8_t *multipliers, size_t padded_depth, size_t group_size,
    uint32_t sums[LATHE_PANEL_COLUMNS]) {
  for (size_t n = 0; n < LATHE_PANEL_COLUMNS; n++) sums[n] = 0;
  for (size_t begin = 0; begin < padded_depth; begin += group_size, multipliers += LATHE_PANEL_COLUMNS) {
    const size_t end = begin + group_size < padded_depth ? begin + group_size : padded_depth;
    for (size_t n = 0; n < LATHE_PANEL_COLUMNS; n++) {
      int32_t group = 0;
      for (size_t k = begin; k < end; k += VECTOR_DEPTH) {
        const uint8_t *nibbles = panel + k / VECTOR_DEPTH * VECTOR_BYTES + n * 4;
        for (size_t i = 0; i < 4; i++) {
          group += q[k + i] * lathe_nibble(nibbles[i]) + q[k + 4 + i] * lathe_nibble(nibbles[i] >> 4);
        }
      }
      sums[n] += (uint32_t)(group * multipliers[n]);
    }
  }
}

void lathe_linear_qd8_qc4w_scalar(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const lathe_weights *weights = operation->weights;
  const size_t padded_depth = lathe_round_up(weights->depth, LATHE_DEPTH_BLOCK);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const uint8_t *values = (const uint8_t *)weights->values + panel * lathe_qc4w_panel_bytes(weights->depth);
    const int8_t *multipliers = weights->multipliers + panel * lathe_qc4w_panel_multipliers(weights);
    for (size_t row = 0; row < operation->rows; row++) {
      uint32_t sums[LATHE_PANEL_COLUMNS];
      accumulate_panel(
          (const uint8_t *)operation->activations + row * operation->activation_stride_bytes, values, multipliers,
          padded_depth, weights->group_size, sums);
      lathe_qd8_finish_row_scalar(operation, row, panel, sums);
    }
  }
}

void lathe_expand_qc4w_scalar(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t padded_depth = lathe_round_up(weights->depth, LATHE_DEPTH_BLOCK);
  const uint8_t *nibbles = (const uint8_t *)weights->values + panel_begin * lathe_qc4w_panel_bytes(weights->depth);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const int8_t *multipliers = weights->multipliers + panel * lathe_qc4w_panel_multipliers(weights);
    for (size_t k = 0; k < padded_depth; k += VECTOR_DEPTH, nibbles += VECTOR_BYTES, panels += 2 * VECTOR_BYTES) {
      const int8_t *m = multipliers + k / weights->group_size * LATHE_PANEL_COLUMNS;
      for (size_t byte = 0; byte < VECTOR_BYTES; byte++) {
        panels[byte] = (int8_t)(lathe_nibble(nibbles[byte]) * m[byte / 4]);
        panels[VECTOR_BYTES + byte] = (int8_t)(lathe_nibble(nibbles[byte] >> 4) * m[byte / 4]);
      }
    }
  }
}
