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
  float inverse;   // levels / span, or 0 for a row without a span
  int32_t levels;
} row_parameters;

static row_parameters choose(const float *x, size_t depth, int32_t levels) {
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
  row_parameters row = {{1.0f, 0}, 0.0f, levels};
  if (span < LATHE_QUANTIZE_LEAST_SPAN) return row;
  row.inverse = (float)levels / span;
  row.quantization.scale = span / (float)levels;
  row.quantization.zero_point = clamp(lathe_round_to_int(-low * row.inverse), 0, levels);
  return row;
}

static int32_t quantize_one(float x, row_parameters row) {
  return clamp(lathe_round_to_int(fmaf(x, row.inverse, (float)row.quantization.zero_point)), 0, row.levels);
}

void lathe_quantize_rows_u8_scalar(
    const float *x, size_t x_stride_bytes, size_t rows, size_t depth, lathe_row_quantization *quantization, void *q,
    size_t q_stride_bytes) {
  for (size_t i = 0; i < rows; i++) {
    const float *in = (const float *)((const char *)x + i * x_stride_bytes);
    uint8_t *out = (uint8_t *)q + i * q_stride_bytes;
    const row_parameters row = choose(in, depth, LATHE_QUANTIZE_LEVELS);
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
    const row_parameters row = choose(in, depth, LATHE_QUANTIZE_LEVELS);
    quantization[i] = row.quantization;
    for (size_t k = 0; k < depth; k++) out[k] = (int16_t)(quantize_one(in[k], row) - row.quantization.zero_point);
    for (size_t k = depth; k < lathe_round_up(depth, 64); k++) out[k] = 0;
  }
}

// The rows 2i and 2i + 1 of the halves: what each takes the place of.
static void split_quantization(row_parameters row, float *scale, lathe_row_quantization quantization[2]) {
  *scale = row.quantization.scale;
  quantization[0] = (lathe_row_quantization){1.0f, row.quantization.zero_point >> 8};
  quantization[1] = (lathe_row_quantization){1.0f, row.quantization.zero_point & 255};
}

void lathe_quantize_halves_u8_scalar(
    const float *x, size_t x_stride_bytes, size_t rows, size_t depth, float *scales,
    lathe_row_quantization *quantization, void *q, size_t q_stride_bytes) {
  for (size_t i = 0; i < rows; i++) {
    const float *in = (const float *)((const char *)x + i * x_stride_bytes);
    uint8_t *high = (uint8_t *)q + 2 * i * q_stride_bytes, *low = high + q_stride_bytes;
    const row_parameters row = choose(in, depth, LATHE_QUANTIZE_LEVELS_16);
    split_quantization(row, scales + i, quantization + 2 * i);
    for (size_t k = 0; k < lathe_round_up(depth, 64); k++) {
      const int32_t value = k < depth ? quantize_one(in[k], row) : 0;
      high[k] = (uint8_t)(value >> 8);
      low[k] = (uint8_t)(value & 255);
    }
  }
}

void lathe_quantize_halves_i16_scalar(
    const float *x, size_t x_stride_bytes, size_t rows, size_t depth, float *scales,
    lathe_row_quantization *quantization, void *q, size_t q_stride_bytes) {
  for (size_t i = 0; i < rows; i++) {
    const float *in = (const float *)((const char *)x + i * x_stride_bytes);
    int16_t *high = (int16_t *)((char *)q + 2 * i * q_stride_bytes);
    int16_t *low = (int16_t *)((char *)high + q_stride_bytes);
    const row_parameters row = choose(in, depth, LATHE_QUANTIZE_LEVELS_16);
    split_quantization(row, scales + i, quantization + 2 * i);
    const int32_t zero_point = row.quantization.zero_point;
    for (size_t k = 0; k < lathe_round_up(depth, 64); k++) {
      const int32_t value = k < depth ? quantize_one(in[k], row) : zero_point;
      high[k] = (int16_t)((value >> 8) - (zero_point >> 8));
      low[k] = (int16_t)((value & 255) - (zero_point & 255));
    }
  }
}
