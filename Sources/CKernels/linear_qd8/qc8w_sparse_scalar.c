// The int8 linear layer over sparse weights: the definition, in plain C.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include <string.h>

#include "linear_qd8_scalar.h"
#include "sparse.h"

void lathe_linear_qd8_qc8w_sparse_scalar(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const lathe_weights *weights = operation->weights;
  const size_t vectors = lathe_sparse_vectors(weights->depth);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    for (size_t row = 0; row < operation->rows; row++) {
      const uint8_t *q = (const uint8_t *)operation->activations + row * operation->activation_stride_bytes;
      const int8_t *next = (const int8_t *)lathe_sparse_values(weights, panel);
      uint32_t sums[LATHE_PANEL_COLUMNS] = {0};
      for (size_t v = 0; v < vectors; v++) {
        for (uint64_t mask = masks[v]; mask;) {
          const size_t bit = lathe_take_lowest_bit(&mask);  // n·4 + k%4, and v = k/4
          sums[bit / 4] += (uint32_t)(q[v * 4 + bit % 4] * *next++);
        }
      }
      lathe_qd8_finish_row_scalar(operation, row, panel, sums);
    }
  }
}

void lathe_expand_qc8w_sparse_scalar(
    const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t vectors = lathe_sparse_vectors(weights->depth);
  memset(panels, 0, (panel_end - panel_begin) * vectors * 64);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    const int8_t *next = (const int8_t *)lathe_sparse_values(weights, panel);
    for (size_t v = 0; v < vectors; v++, panels += 64) {
      for (uint64_t mask = masks[v]; mask;) panels[lathe_take_lowest_bit(&mask)] = *next++;
    }
  }
}
