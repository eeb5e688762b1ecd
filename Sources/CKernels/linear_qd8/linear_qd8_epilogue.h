// Both ends of a block of the int8 linear layer: what int32 accumulators start from, and how they become float32 outputs.
// A template: include it after
// one of simd/vf16_*.h and inside that file's target attribute.
#ifndef LATHE_LINEAR_QD8_EPILOGUE_H
#define LATHE_LINEAR_QD8_EPILOGUE_H

#include "linear_qd8.h"

// −zp·colsum of 16 columns. x86 multiplies 32-bit integers slowly: there by one multiplication of int16 pairs: colsum = 128·(colsum>>7) + (colsum&127), both parts and
// −128·zp fit 16 bits since |colsum| ≤ 127·32768 and zp ≤ 255, and the sum of the two products is exact.
static inline __attribute__((always_inline)) vi16 lathe_qd8_minus_zero_point(
    const int32_t *column_sums, int32_t zero_point) {
#if defined(__aarch64__)
  return vi16_mul(vi16_load(column_sums), vi16_set1(-zero_point));
#else
  const vi16 sums = vi16_load(column_sums);
  const vi16 high = vi16_shift_left(vi16_shift_right(sums, 7), 16);
  const uint32_t minus = 0u - (uint32_t)zero_point;
  const vi16 factors = vi16_set1((int32_t)((minus & 0xffff) | (minus * 128) << 16));
  return vi16_multiply_halves(vi16_or(high, vi16_and(sums, vi16_set1(127))), factors);
#endif
}

static const float lathe_qd8_no_bias[LATHE_PANEL_COLUMNS];

// One vector of outputs: row `row`, the columns of `panel`; acc has its zero point taken off.
static inline __attribute__((always_inline)) void lathe_qd8_finish_vector(
    const lathe_linear_qd8 *op, const lathe_epilogue activation, size_t row, size_t panel, vi16 acc) {
  const size_t column = panel * LATHE_PANEL_COLUMNS;
  const size_t rest = op->weights->columns - column;
  const size_t count = rest < LATHE_PANEL_COLUMNS ? rest : LATHE_PANEL_COLUMNS;
  const float *bias = op->bias ? op->bias + column : lathe_qd8_no_bias;
  const float *residual =
      op->residual ? (const float *)((const char *)op->residual + row * op->residual_stride_bytes) + column : NULL;
  float *output = (float *)((char *)op->output + row * op->output_stride_bytes) + column;
  vf16 x = vf16_dequantize(
      acc, vf16_set1(op->quantization[row].scale), vf16_load(op->weights->scales + column), vf16_load(bias));
  vf16_finish(x, activation, residual, output, count);
}

static inline __attribute__((always_inline)) void lathe_qd8_finish_rows(
    const lathe_linear_qd8 *op, const lathe_epilogue activation, size_t row, size_t rows, size_t panel,
    size_t panels, const int32_t *acc) {
  for (size_t r = 0; r < rows; r++) {
    for (size_t p = 0; p < panels; p++, acc += LATHE_PANEL_COLUMNS) {
      lathe_qd8_finish_vector(op, activation, row + r, panel + p, vi16_load(acc));
    }
  }
}

// acc [rows][panels][16], its zero point taken off.
static inline __attribute__((always_inline)) void lathe_qd8_finish_block(
    const lathe_linear_qd8 *op, size_t row, size_t rows, size_t panel, size_t panels, const int32_t *acc) {
  switch (op->epilogue) {
    case LATHE_EPILOGUE_NONE: lathe_qd8_finish_rows(op, LATHE_EPILOGUE_NONE, row, rows, panel, panels, acc); break;
    case LATHE_EPILOGUE_GELU_TANH:
      lathe_qd8_finish_rows(op, LATHE_EPILOGUE_GELU_TANH, row, rows, panel, panels, acc);
      break;
    case LATHE_EPILOGUE_GELU_ERF:
      lathe_qd8_finish_rows(op, LATHE_EPILOGUE_GELU_ERF, row, rows, panel, panels, acc);
      break;
    case LATHE_EPILOGUE_RELU: lathe_qd8_finish_rows(op, LATHE_EPILOGUE_RELU, row, rows, panel, panels, acc); break;
  }
}

#endif
