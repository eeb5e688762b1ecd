// The int8 linear layer: the definition, in plain C.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8_scalar.h"

// sums[n] = Σ_k q(k)·w(n,k), wrapping like the int32 of every instruction set.
static void accumulate_panel(const uint8_t *q, const int8_t *panel, size_t padded_depth, uint32_t sums[16]) {
  for (size_t n = 0; n < LATHE_PANEL_COLUMNS; n++) sums[n] = 0;
  for (size_t k = 0; k < padded_depth; k += 4) {
    // Within a panel, k and its three successors of column n are at (k/4)·64 + n·4.
    const int8_t *group = panel + k * LATHE_PANEL_COLUMNS;
    for (size_t n = 0; n < LATHE_PANEL_COLUMNS; n++) {
      sums[n] += (uint32_t)(q[k] * group[n * 4] + q[k + 1] * group[n * 4 + 1] + q[k + 2] * group[n * 4 + 2] +
                            q[k + 3] * group[n * 4 + 3]);
    }
  }
}

void lathe_linear_qd8_qc8w_scalar(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const lathe_weights *weights = operation->weights;
  const size_t padded_depth = lathe_round_up(weights->depth, LATHE_DEPTH_BLOCK);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const int8_t *values = (const int8_t *)weights->values + panel * lathe_qc8w_panel_bytes(weights->depth);
    for (size_t row = 0; row < operation->rows; row++) {
      uint32_t sums[LATHE_PANEL_COLUMNS];
      accumulate_panel(
          (const uint8_t *)operation->activations + row * operation->activation_stride_bytes, values, padded_depth,
          sums);
      lathe_qd8_finish_row_scalar(operation, row, panel, sums);
    }
  }
}
