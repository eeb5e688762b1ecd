// The end of the scalar definitions of the int8 linear layer, whatever the format of the weights.
#ifndef LATHE_LINEAR_QD8_SCALAR_H
#define LATHE_LINEAR_QD8_SCALAR_H

#include <math.h>

#include "../simd/math_scalar.h"
#include "linear_qd8.h"

// The outputs of one row and panel from sums[n] = Σ_k q(k)·w8(n,k), which wrap like the int32 of every instruction set.
static inline void lathe_qd8_finish_row_scalar(
    const lathe_linear_qd8 *op, size_t row, size_t panel, const uint32_t sums[LATHE_PANEL_COLUMNS]) {
  const size_t first = panel * LATHE_PANEL_COLUMNS;
  const size_t rest = op->weights->columns - first;
  const size_t end = first + (rest < LATHE_PANEL_COLUMNS ? rest : LATHE_PANEL_COLUMNS);
  const lathe_row_quantization quantization = op->quantization[row];
  const float *residual =
      op->residual ? (const float *)((const char *)op->residual + row * op->residual_stride_bytes) : NULL;
  float *output = (float *)((char *)op->output + row * op->output_stride_bytes);
  for (size_t column = first; column < end; column++) {
    uint32_t correction = (uint32_t)quantization.zero_point * (uint32_t)op->weights->column_sums[column];
    float sum = (float)(int32_t)(sums[column - first] - correction);
    float bias = op->bias ? op->bias[column] : 0.0f;
    float y = lathe_activate(op->epilogue, fmaf(sum * quantization.scale, op->weights->scales[column], bias));
    output[column] = residual ? y + residual[column] : y;
  }
}

#endif
