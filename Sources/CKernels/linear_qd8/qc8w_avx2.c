// The int8 linear layer on AVX2. VPMADDUBSW saturates on full-range u8, so activations come as 16-bit q − zp, weights are
// widened to 16 bits in register, and VPMADDWD adds pairs of products exactly.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <string.h>

#include "../simd/vf16_avx2.h"
#include "linear_qd8_blocks.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#include "linear_qd8_epilogue.h"

enum { MAXIMUM_ROWS = 3, MAXIMUM_PANELS = 3 };

// The sums of four columns come as pairs of adjacent lanes: (k%4 < 2, k%4 ≥ 2). Adds the pairs of eight columns.
static inline __m256i add_pairs(__m256i columns0123, __m256i columns4567) {
  __m256i crossed = _mm256_hadd_epi32(columns0123, columns4567);  // columns 0 1 4 5 2 3 6 7
  return _mm256_permute4x64_epi64(crossed, _MM_SHUFFLE(3, 1, 2, 0));
}

// acc [rows][panels][16] = Σ_k (q − zp)·w. `rows` and `panels` are constants after inlining, so that every accumulator
// is a register; the quarters of panel p are the vectors 4p … 4p + 3.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const int8_t *values = op->weights->values;
  const int8_t *weights[MAXIMUM_PANELS];
  const char *activations[MAXIMUM_ROWS];
  __m256i sum[MAXIMUM_ROWS][4 * MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) weights[p] = values + (block->panel + p) * block->panel_bytes;
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    activations[r] = (const char *)op->activations + (block->row + r) * op->activation_stride_bytes;
#pragma clang loop unroll(full)
    for (size_t v = 0; v < 4 * panels; v++) sum[r][v] = _mm256_setzero_si256();
  }
  size_t at = 0;
  for (int part = 0; part < 2; part++) {
    const size_t end = part == 0 ? block->turn : block->panel_bytes;
    size_t prefetch = block->prefetch_begin[part];
    for (; at < end; at += 64, prefetch += block->prefetch_step) {
#pragma clang loop unroll(full)
      for (size_t v = 0; v < 4 * panels; v++) {
        if (prefetches && v % 4 == 0) _mm_prefetch((const char *)weights[v / 4] + prefetch, _MM_HINT_T0);
        __m256i w = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(weights[v / 4] + at + v % 4 * 16)));
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++) {
          int64_t four;
          memcpy(&four, activations[r] + at / LATHE_PANEL_COLUMNS * sizeof(int16_t), sizeof four);
          sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(w, _mm256_set1_epi64x(four)));
        }
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
    for (size_t v = 0; v < 4 * panels; v += 2) {
      __m256i eight = add_pairs(sum[r][v], sum[r][v + 1]);
      _mm256_store_si256((__m256i *)(acc + r * panels * LATHE_PANEL_COLUMNS + v * 4), eight);
    }
  }
}

#define LATHE_SHAPES \
  SHAPE(1, 3) \
  SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) \
  SHAPE_OF_MANY(2, 1) SHAPE_OF_MANY(3, 1)
#include "linear_qd8_shapes.h"

void lathe_linear_qd8_qc8w_avx2(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const size_t panel_bytes = lathe_qc8w_panel_bytes(operation->weights->depth);
  // Twelve of the 16 registers are accumulators, four to a row and panel.
  const size_t tall = operation->rows == 1 ? 1 : 3, wide = operation->rows == 1 ? 3 : 1;
  lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, tall, wide, run_block);
}

#pragma clang attribute pop
#endif
