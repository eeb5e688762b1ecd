// The float32 linear layer on NEON.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_f32.h"

#if defined(__aarch64__)
#include "../simd/vf16_neon.h"

#include "linear_f32.inc"

static void run_block(const block *b) {
  _Alignas(64) float sums[MAXIMUM_ROWS * MAXIMUM_PANELS * LATHE_F32_PANEL_COLUMNS];
  switch (b->rows * 16 + b->panels) {
    SHAPE(1, 4)
    SHAPE(2, 2) SHAPE(3, 2)
    SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1)
    default: __builtin_trap();  // a shape that the function below does not ask for
  }
  finish_block(b, sums);
}

void lathe_linear_f32_neon(const lathe_linear_f32 *operation, size_t panel_begin, size_t panel_end) {
  // A chain of 16 lanes takes four of the 32 registers.
  if (operation->rows == 1) {
    for_each_block(operation, panel_begin, panel_end, 1, 4, run_block);
  } else if (operation->rows <= 3) {
    for_each_block(operation, panel_begin, panel_end, 3, 2, run_block);
  } else {
    for_each_block(operation, panel_begin, panel_end, 6, 1, run_block);
  }
}

#endif
