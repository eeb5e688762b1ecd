// The scalar definitions of the float functions that the kernels share (math_scalar.c). The same bits come from every
// vector header of this folder.
#ifndef LATHE_SIMD_MATH_SCALAR_H
#define LATHE_SIMD_MATH_SCALAR_H

#include "CKernels.h"

// x > y ? x : y and x < y ? x : y with the operands in this order, as the canonical minimum and maximum are:
// where one is not a number, the second is the result.
static inline float lathe_max(float x, float y) { return x > y ? x : y; }
static inline float lathe_min(float x, float y) { return x < y ? x : y; }

// The nearest integer, ties to even; x must be within ±2³¹ (anything else gives some integer, without a trap).
int32_t lathe_round_to_int(float x);

float lathe_gelu_tanh(float x);
float lathe_gelu_erf(float x);
float lathe_activate(lathe_epilogue activation, float x);

// IEEE half, nearest-even after clamping to ±65504; a NaN stays a NaN.
uint16_t lathe_half_from_float(float x);
float lathe_float_from_half(uint16_t h);

// The sum of 16 lanes in the order of the canonical tree: i+8, i+4, i+2, i+1. Destroys the lanes.
float lathe_sum_lanes(float lanes[16]);

#endif
