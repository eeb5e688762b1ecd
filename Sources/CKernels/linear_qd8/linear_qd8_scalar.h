// What the scalar definitions of the int8 linear layer share: from the sums of a panel to its outputs.
#ifndef LATHE_LINEAR_QD8_SCALAR_H
#define LATHE_LINEAR_QD8_SCALAR_H

#include <math.h>

#include "../simd/math_scalar.h"
#include "linear_qd8.h"

static inline const uint8_t *lathe_qd8_activations(const lathe_linear_qd8 *op, size_t row) {
  return (const uint8_t *)op->activations + row * op->activation_stride_bytes;
}

// The outputs of one row and the columns of `panel`, from sums[n] = Σ_k q(k)·w8(n,k), wrapping.
static inline void lathe_qd8_finish_scalar(
    const lathe_linear_qd8 *op, size_t row, size_t panel, const uint32_t sums[LATHE_PANEL_COLUMNS]) {
  const size_t first = panel * LATHE_PANEL_COLUMNS;
  const size_t rest = op->weights->columns - first;
  const size_t end = first + (rest < LATHE_PANEL_COLUMNS ? rest : LATHE_PANEL_COLUMNS);
  const lathe_row_quantization quantization = op->quantization[row];
  const float *residual =
      op->residual ? (const float *)((const char *)op->residual + row * op->residual_stride_bytes) : NULL;
  float *output = (float *)((char *)op->output + row * op->output_stride_bytes);
  for (size_t column = first; column < end; column++) {
    const uint32_t correction = (uint32_t)quantization.zero_point * (uint32_t)op->weights->column_sums[column];
    const float sum = (float)(int32_t)(sums[column - first] - correction);
    const float bias = op->bias ? op->bias[column] : 0.0f;
    const float y = lathe_activate(op->epilogue, fmaf(sum * quantization.scale, op->weights->scales[column], bias));
    output[column] = residual ? y + residual[column] : y;
  }
}

#endif
