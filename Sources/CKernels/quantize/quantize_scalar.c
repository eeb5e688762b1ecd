// The definition of dynamic activation quantization: per row, asymmetric, zero always in range.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "quantize.h"

#include <math.h>

#include "../simd/math_scalar.h"

static int32_t clamp(int32_t x, int32_t low, int32_t high) { return x < low ? low : x > high ? high : x; }

typedef struct {
  lathe_row_quantization quantization;
  float inverse;   // 255 / span, or 0 for a row without a span
} row_parameters;

static row_parameters choose(const float *x, size_t depth) {
  float low = 0, high = 0;
  // A sum of x·0: +0 or −0 for finite rows, NaN once anything is infinite or NaN. Added to the span, it makes the row's
  // scale NaN, so that a broken activation shows in the outputs instead of vanishing in the comparisons.
  float poison = 0;
  for (size_t k = 0; k < depth; k++) {
    low = lathe_min(x[k], low);
    high = lathe_max(x[k], high);
    poison = fmaf(x[k], 0.0f, poison);
  }
  const float span = (high - low) + poison;
  row_parameters row = {{1.0f, 0}, 0.0f};
  if (span < LATHE_QUANTIZE_LEAST_SPAN) return row;
  row.inverse = 255.0f / span;
  row.quantization.scale = span / 255.0f;
  row.quantization.zero_point = clamp(lathe_round_to_int(-low * row.inverse), 0, 255);
  return row;
}

static int32_t quantize_one(float x, row_parameters row) {
  return clamp(lathe_round_to_int(fmaf(x, row.inverse, (float)row.quantization.zero_point)), 0, 255);
}

void lathe_quantize_rows_u8_scalar(
    const float *x, size_t x_stride_bytes, size_t rows, size_t depth, lathe_row_quantization *quantization, void *q,
    size_t q_stride_bytes) {
  for (size_t i = 0; i < rows; i++) {
    const float *in = (const float *)((const char *)x + i * x_stride_bytes);
    uint8_t *out = (uint8_t *)q + i * q_stride_bytes;
    const row_parameters row = choose(in, depth);
    quantization[i] = row.quantization;
    for (size_t k = 0; k < depth; k++) out[k] = (uint8_t)quantize_one(in[k], row);
    for (size_t k = depth; k < lathe_round_up(depth, 64); k++) out[k] = 0;
  }
}

void lathe_quantize_rows_i16_scalar(
    const float *x, size_t x_stride_bytes, size_t rows, size_t depth, lathe_row_quantization *quantization, void *q,
    size_t q_stride_bytes) {
  for (size_t i = 0; i < rows; i++) {
    const float *in = (const float *)((const char *)x + i * x_stride_bytes);
    int16_t *out = (int16_t *)((char *)q + i * q_stride_bytes);
    const row_parameters row = choose(in, depth);
    quantization[i] = row.quantization;
    for (size_t k = 0; k < depth; k++) out[k] = (int16_t)(quantize_one(in[k], row) - row.quantization.zero_point);
    for (size_t k = depth; k < lathe_round_up(depth, 64); k++) out[k] = 0;
  }
}
