// The float32 linear layer on AVX-512.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_f32.h"

#if defined(__x86_64__)
#include "../simd/vf16_avx512.h"

#pragma clang attribute push(__attribute__((target(LATHE_VF16_TARGET))), apply_to = function)

#include "linear_f32.inc"

static void run_block(const block *b) {
  _Alignas(64) float sums[MAXIMUM_ROWS * MAXIMUM_PANELS * LATHE_F32_PANEL_COLUMNS];
  switch (b->rows * 16 + b->panels) {
    SHAPE(1, 8)
    SHAPE(2, 4) SHAPE(3, 4) SHAPE(4, 4) SHAPE(5, 4) SHAPE(6, 4)
    SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1)
    default: __builtin_trap();  // a shape that the function below does not ask for
  }
  finish_block(b, sums);
}

void lathe_linear_f32_avx512(const lathe_linear_f32 *operation, size_t panel_begin, size_t panel_end) {
  // Two multiply-adds a cycle of latency 4 want eight chains; 24, their weights and an activation fill the registers.
  if (operation->rows == 1) {
    for_each_block(operation, panel_begin, panel_end, 1, 8, run_block);
  } else {
    for_each_block(operation, panel_begin, panel_end, 6, 4, run_block);
  }
}

#pragma clang attribute pop
#endif
