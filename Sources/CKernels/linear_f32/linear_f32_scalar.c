// The float32 linear layer: the definition, in plain C.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include <math.h>

#include "../simd/math_scalar.h"
#include "linear_f32.h"

void lathe_linear_f32_scalar(const lathe_linear_f32 *operation, size_t panel_begin, size_t panel_end) {
  const lathe_linear_f32 *op = operation;
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const float *weights = op->weights + panel * op->depth * LATHE_F32_PANEL_COLUMNS;
    const size_t first = panel * LATHE_F32_PANEL_COLUMNS;
    const size_t left = op->columns - first;
    const size_t count = left < LATHE_F32_PANEL_COLUMNS ? left : LATHE_F32_PANEL_COLUMNS;
    for (size_t row = 0; row < op->rows; row++) {
      const float *x = (const float *)((const char *)op->activations + row * op->activation_stride_bytes);
      float *output = (float *)((char *)op->output + row * op->output_stride_bytes) + first;
      float sums[LATHE_F32_PANEL_COLUMNS] = {0};
      for (size_t k = 0; k < op->depth; k++) {
        for (size_t n = 0; n < count; n++) sums[n] = fmaf(x[k], weights[k * LATHE_F32_PANEL_COLUMNS + n], sums[n]);
      }
      for (size_t n = 0; n < count; n++) {
        float y = lathe_activate(op->epilogue, sums[n] + (op->bias ? op->bias[first + n] : 0.0f));
        if (op->residual) {
          y += ((const float *)((const char *)op->residual + row * op->residual_stride_bytes))[first + n];
        }
        output[n] = y;
      }
    }
  }
}
