// Embedding out of sparse tables, on every instruction set: a row of the table is a few bytes here and there.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include <math.h>

#include "../linear_qd8/sparse.h"
#include "vector.h"

// A vector holds four consecutive elements of each of sixteen rows of the table. Of one row, there:
typedef struct {
  uint64_t bits;  // which of the four are not zero
  size_t before;  // non-zeros of the rows before it
} row_bits;

static inline row_bits bits_of_row(uint64_t mask, size_t n) {
  const unsigned first = n % LATHE_PANEL_COLUMNS * 4;
  const uint64_t below = ((uint64_t)1 << first) - 1;
  return (row_bits){mask >> first & 15, lathe_count_bits(mask & below)};
}

// output(k…) = fma(w8, scale, position); the last vector may be wider than the table.
static inline void write_four(
    const int32_t w[4], float scale, const float *position, size_t k, size_t width, float *output) {
  for (size_t i = 0; i < 4 && k + i < width; i++) {
    output[k + i] = fmaf((float)w[i], scale, position ? position[k + i] : 0.0f);
  }
}

static inline const float *position_row(const lathe_embedding *op, size_t i) {
  if (!op->position_table) return NULL;
  return lathe_row(op->position_table, (size_t)op->positions[i], op->position_stride_bytes);
}

void lathe_embed_qc8w_sparse_scalar(const lathe_embedding *operation) {
  const lathe_weights *weights = operation->weights;
  for (size_t i = 0; i < operation->rows; i++) {
    const size_t n = (size_t)operation->ids[i], panel = n / LATHE_PANEL_COLUMNS;
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    const int8_t *next = (const int8_t *)lathe_sparse_values(weights, panel);
    const float *position = position_row(operation, i);
    float *output = lathe_row_mutable(operation->output, i, operation->output_stride_bytes);
    for (size_t k = 0; k < operation->width; k += 4) {
      const uint64_t mask = masks[k / 4];
      row_bits row = bits_of_row(mask, n);
      int32_t w[4] = {0};
      for (const int8_t *value = next + row.before; row.bits;) w[lathe_take_lowest_bit(&row.bits)] = *value++;
      write_four(w, weights->scales[n], position, k, operation->width, output);
      next += lathe_count_bits(mask);
    }
  }
}

void lathe_embed_qc4w_sparse_scalar(const lathe_embedding *operation) {
  const lathe_weights *weights = operation->weights;
  for (size_t i = 0; i < operation->rows; i++) {
    const size_t n = (size_t)operation->ids[i], panel = n / LATHE_PANEL_COLUMNS;
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    const uint8_t *next = lathe_sparse_values(weights, panel);
    const int8_t *multipliers = weights->multipliers + panel * lathe_qc4w_panel_multipliers(weights) + n % LATHE_PANEL_COLUMNS;
    const float *position = position_row(operation, i);
    float *output = lathe_row_mutable(operation->output, i, operation->output_stride_bytes);
    for (size_t k = 0; k < operation->width; k += 4) {
      const bool second = k % 8 >= 4;
      const int32_t m = multipliers[k / weights->group_size * LATHE_PANEL_COLUMNS];
      row_bits row = bits_of_row(masks[k / 4], n);
      int32_t w[4] = {0};
      for (const uint8_t *value = next + row.before; row.bits; value++) {
        w[lathe_take_lowest_bit(&row.bits)] = lathe_nibble(second ? *value >> 4 : *value) * m;
      }
      write_four(w, weights->scales[n], position, k, operation->width, output);
      if (second) next += lathe_sparse_pair_bytes(masks[k / 4 - 1], masks[k / 4]);
    }
  }
}
