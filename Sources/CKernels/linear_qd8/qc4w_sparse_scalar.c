// The int8 linear layer over sparse int4 weights: the definition, in plain C.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include <string.h>

#include "linear_qd8_scalar.h"
#include "sparse.h"

// The q of two vectors, 0 where there is none; returns how many bytes hold them.
static size_t decode_pair(const uint64_t masks[2], const uint8_t *packed, int8_t q[2][64]) {
  memset(q, 0, 2 * 64);
  size_t j = 0;
  for (uint64_t mask = masks[0]; mask; j++) q[0][lathe_take_lowest_bit(&mask)] = (int8_t)lathe_nibble(packed[j]);
  j = 0;
  for (uint64_t mask = masks[1]; mask; j++) q[1][lathe_take_lowest_bit(&mask)] = (int8_t)lathe_nibble(packed[j] >> 4);
  return lathe_sparse_pair_bytes(masks[0], masks[1]);
}

// The multipliers of the sixteen columns of `panel` at vector v, which holds k = 4v ….
static const int8_t *multipliers_of(const lathe_weights *weights, size_t panel, size_t v) {
  const size_t group = v * 4 / weights->group_size;
  return weights->multipliers + panel * lathe_qc4w_panel_multipliers(weights) + group * LATHE_PANEL_COLUMNS;
}

void lathe_linear_qd8_qc4w_sparse_scalar(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const lathe_weights *weights = operation->weights;
  const size_t vectors = lathe_sparse_vectors(weights->depth);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    for (size_t row = 0; row < operation->rows; row++) {
      const uint8_t *activations = (const uint8_t *)operation->activations + row * operation->activation_stride_bytes;
      const uint8_t *next = lathe_sparse_values(weights, panel);
      uint32_t sums[LATHE_PANEL_COLUMNS] = {0};
      for (size_t v = 0; v < vectors; v += 2, activations += 8) {
        const int8_t *m = multipliers_of(weights, panel, v);
        int8_t q[2][64];
        next += decode_pair(masks + v, next, q);
        for (size_t b = 0; b < 64; b++) {  // b = n·4 + k%4
          const int32_t products = activations[b % 4] * q[0][b] + activations[4 + b % 4] * q[1][b];
          sums[b / 4] += (uint32_t)(products * m[b / 4]);
        }
      }
      lathe_qd8_finish_row_scalar(operation, row, panel, sums);
    }
  }
}

void lathe_expand_qc4w_sparse_scalar(
    const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t vectors = lathe_sparse_vectors(weights->depth);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    const uint8_t *next = lathe_sparse_values(weights, panel);
    for (size_t v = 0; v < vectors; v += 2, panels += 2 * 64) {
      const int8_t *m = multipliers_of(weights, panel, v);
      int8_t q[2][64];
      next += decode_pair(masks + v, next, q);
      for (size_t b = 0; b < 64; b++) {
        panels[b] = (int8_t)(q[0][b] * m[b / 4]);
        panels[64 + b] = (int8_t)(q[1][b] * m[b / 4]);
      }
    }
  }
}

void lathe_unpack_qc4w_sparse(const lathe_weights *weights, size_t panel_begin, size_t panel_end, uint8_t *nibbles) {
  const size_t vectors = lathe_sparse_vectors(weights->depth);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    const uint8_t *next = lathe_sparse_values(weights, panel);
    for (size_t v = 0; v < vectors; v += 2, nibbles += 64) {
      int8_t q[2][64];
      next += decode_pair(masks + v, next, q);
      for (size_t b = 0; b < 64; b++) nibbles[b] = (uint8_t)((q[0][b] & 0x0f) | (q[1][b] & 0x0f) << 4);
    }
  }
}
