// The quantize kernels, one pair of functions for each instruction set; kernel_tables.c registers them.
#ifndef LATHE_QUANTIZE_H
#define LATHE_QUANTIZE_H

#include "CKernels.h"

#define LATHE_QUANTIZE_FUNCTIONS(isa)                                                         \
  void lathe_quantize_rows_u8_##isa(                                                          \
      const float *x, size_t x_stride_bytes, size_t rows, size_t depth,                       \
      lathe_row_quantization *quantization, void *q, size_t q_stride_bytes);                  \
  void lathe_quantize_rows_i16_##isa(                                                         \
      const float *x, size_t x_stride_bytes, size_t rows, size_t depth,                       \
      lathe_row_quantization *quantization, void *q, size_t q_stride_bytes);                  \
  void lathe_quantize_halves_u8_##isa(                                                        \
      const float *x, size_t x_stride_bytes, size_t rows, size_t depth, float *scales,        \
      lathe_row_quantization *quantization, void *q, size_t q_stride_bytes);                  \
  void lathe_quantize_halves_i16_##isa(                                                       \
      const float *x, size_t x_stride_bytes, size_t rows, size_t depth, float *scales,        \
      lathe_row_quantization *quantization, void *q, size_t q_stride_bytes);

LATHE_QUANTIZE_FUNCTIONS(scalar)
LATHE_QUANTIZE_FUNCTIONS(avx2)
LATHE_QUANTIZE_FUNCTIONS(avx512)
LATHE_QUANTIZE_FUNCTIONS(neon)

// A row whose values span less than this is stored as zeros: 255/span would overflow long before it were of use.
#define LATHE_QUANTIZE_LEAST_SPAN 0x1p-100f

// The levels between the least and the greatest value of a row, of 8 and of 16 bits.
enum { LATHE_QUANTIZE_LEVELS = 255, LATHE_QUANTIZE_LEVELS_16 = 65535 };

#endif
