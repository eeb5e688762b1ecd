// The int8 linear layer over sparse weights on AVX-512-VBMI2: VPEXPANDB puts the packed non-zeros of a vector back where
// its mask has bits, in a register, and VPDPBUSD multiplies them as it does dense ones.
//
// An expansion takes three operations of one execution port, that which brings the mask there included: 64 weights in three
// cycles are the roof. At half of the weights memory is slower than that, at a tenth it is not.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <string.h>

#include "../simd/vf16_avx512.h"
#include "sparse_blocks.h"

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi2,avx2,fma,f16c,popcnt"))), \
    apply_to = function)

#include "linear_qd8_epilogue.h"

enum { MAXIMUM_ROWS = 8, MAXIMUM_PANELS = 4 };

// The 64 bytes of a vector. The load may read past the panel, into the 64 zeros that end the tensor.
static inline __m512i expand(uint64_t mask, const uint8_t *packed) {
  return _mm512_maskz_expand_epi8(mask, _mm512_loadu_si512(packed));
}

// acc [rows][panels][16] = Σ_k q·w − zp·colsum. `rows` and `panels` are constants after inlining, so that every
// accumulator is a register.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_sparse_block *block, const size_t rows, const size_t panels, int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const uint8_t *activations[MAXIMUM_ROWS], *packed[MAXIMUM_PANELS];
  const uint64_t *masks[MAXIMUM_PANELS];
  ptrdiff_t ahead = LATHE_SPARSE_PREFETCH_BYTES;
  __m512i sum[MAXIMUM_ROWS][MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    activations[r] = (const uint8_t *)op->activations + (block->row + r) * op->activation_stride_bytes;
  }
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    packed[p] = lathe_sparse_values(op->weights, block->panel + p);
    masks[p] = lathe_sparse_masks(op->weights, block->panel + p);
    const int32_t *column_sums = op->weights->column_sums + (block->panel + p) * LATHE_PANEL_COLUMNS;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      sum[r][p] = lathe_qd8_minus_zero_point(column_sums, op->quantization[block->row + r].zero_point);
    }
  }
  for (size_t step = 0; step < block->vectors; step += LATHE_SPARSE_STEP) {
    if (step == block->turn) ahead = lathe_sparse_values(op->weights, block->next) - packed[0];
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      _mm_prefetch((const char *)(masks[p] + step + panels * block->vectors), _MM_HINT_T0);
    }
#pragma clang loop unroll(disable)
    for (size_t v = step; v < step + LATHE_SPARSE_STEP; v++) {
      __m512i w[MAXIMUM_PANELS];
#pragma clang loop unroll(full)
      for (size_t p = 0; p < panels; p++) {
        const uint64_t mask = masks[p][v];
        _mm_prefetch((const char *)packed[p] + ahead, _MM_HINT_T0);
        w[p] = expand(mask, packed[p]);
        packed[p] += lathe_count_bits(mask);
      }
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        int32_t four;
        memcpy(&four, activations[r] + v * 4, sizeof four);
        __m512i q = _mm512_set1_epi32(four);
#pragma clang loop unroll(full)
        for (size_t p = 0; p < panels; p++) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], q, w[p]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      _mm512_store_si512(acc + (r * panels + p) * LATHE_PANEL_COLUMNS, sum[r][p]);
    }
  }
}

// One compiled form for each shape that the function below asks for.
#define SHAPE(rows, panels) \
  case (rows) * 8 + (panels): accumulate(block, rows, panels, acc); break;

static void run_block(const lathe_sparse_block *block) {
  _Alignas(64) int32_t acc[MAXIMUM_ROWS * MAXIMUM_PANELS * LATHE_PANEL_COLUMNS];
  switch (block->rows * 8 + block->panels) {
    SHAPE(1, 4) SHAPE(2, 4) SHAPE(3, 4) SHAPE(4, 4) SHAPE(5, 4) SHAPE(6, 4)
    SHAPE(7, 3) SHAPE(8, 3)
    SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1) SHAPE(7, 1) SHAPE(8, 1)
    default: __builtin_trap();  // a shape that the function below does not ask for
  }
  lathe_qd8_finish_block(block->operation, block->row, block->rows, block->panel, block->panels, acc);
}

void lathe_linear_qd8_qc8w_sparse_avx512vbmi2(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  // As for dense weights: 24 accumulators, a vector of weights for each panel and one of activations.
  if (operation->rows == 7 || operation->rows == 8) {
    lathe_sparse_for_each_block(operation, panel_begin, panel_end, 8, 3, run_block);
  } else {
    lathe_sparse_for_each_block(operation, panel_begin, panel_end, 6, 4, run_block);
  }
}

void lathe_expand_qc8w_sparse_avx512vbmi2(
    const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t vectors = lathe_sparse_vectors(weights->depth);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    const uint8_t *packed = lathe_sparse_values(weights, panel);
    for (size_t v = 0; v < vectors; v++, panels += 64) {
      _mm_prefetch((const char *)packed + LATHE_SPARSE_PREFETCH_BYTES, _MM_HINT_T0);
      _mm_prefetch((const char *)(masks + v) + LATHE_SPARSE_PREFETCH_BYTES / 8, _MM_HINT_T0);
      _mm512_store_si512(panels, expand(masks[v], packed));
      packed += lathe_count_bits(masks[v]);
    }
  }
}

#pragma clang attribute pop
#endif
