// The int8 linear layer: the definition, in plain C.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include <math.h>

#include "../simd/math_scalar.h"
#include "linear_qd8.h"

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
  const lathe_linear_qd8 *op = operation;
  const size_t padded_depth = lathe_round_up(op->weights->depth, LATHE_DEPTH_BLOCK);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const int8_t *weights = (const int8_t *)op->weights->values + panel * lathe_qc8w_panel_bytes(op->weights->depth);
    const size_t first = panel * LATHE_PANEL_COLUMNS;
    const size_t rest = op->weights->columns - first;
    const size_t end = first + (rest < LATHE_PANEL_COLUMNS ? rest : LATHE_PANEL_COLUMNS);
    for (size_t row = 0; row < op->rows; row++) {
      const uint8_t *q = (const uint8_t *)op->activations + row * op->activation_stride_bytes;
      const lathe_row_quantization quantization = op->quantization[row];
      const float *residual =
          op->residual ? (const float *)((const char *)op->residual + row * op->residual_stride_bytes) : NULL;
      float *output = (float *)((char *)op->output + row * op->output_stride_bytes);
      uint32_t sums[LATHE_PANEL_COLUMNS];
      accumulate_panel(q, weights, padded_depth, sums);
      for (size_t column = first; column < end; column++) {
        uint32_t correction = (uint32_t)quantization.zero_point * (uint32_t)op->weights->column_sums[column];
        float sum = (float)(int32_t)(sums[column - first] - correction);
        float bias = op->bias ? op->bias[column] : 0.0f;
        float y = lathe_activate(op->epilogue, fmaf(sum * quantization.scale, op->weights->scales[column], bias));
        output[column] = residual ? y + residual[column] : y;
      }
    }
  }
}
