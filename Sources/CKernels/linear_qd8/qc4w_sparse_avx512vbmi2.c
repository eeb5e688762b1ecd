// The int8 linear layer over sparse int4 weights on AVX-512-VBMI2: the low and the high nibbles of one load are the packed
// non-zeros of two vectors, moved to the upper halves of their bytes and put back in place by VPEXPANDB. That is 16·q, which
// VPDPBUSD multiplies as it is; a group's sum, a multiple of 16, is divided before its multiplier is applied.
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
#include "qc4w_products_avx512.h"

enum { MAXIMUM_ROWS = 8, MAXIMUM_PANELS = 4 };

// 16·q of a pair of vectors. The load may read past the panel, into the 64 zeros that end the tensor.
typedef struct {
  __m512i first, second;
} vector_pair;

static inline __attribute__((always_inline)) vector_pair expand_pair(const uint64_t masks[2], const uint8_t *packed) {
  const __m512i upper = _mm512_set1_epi8((char)0xf0);
  const __m512i both = _mm512_loadu_si512(packed);
  return (vector_pair){
      _mm512_maskz_expand_epi8(masks[0], _mm512_and_si512(_mm512_slli_epi16(both, 4), upper)),
      _mm512_maskz_expand_epi8(masks[1], _mm512_and_si512(both, upper))};
}

static inline __m512i broadcast_four(const uint8_t *q) {
  int32_t four;
  memcpy(&four, q, sizeof four);
  return _mm512_set1_epi32(four);
}

// Where a block is in the streams of its panels.
typedef struct {
  const uint8_t *packed[MAXIMUM_PANELS], *activations[MAXIMUM_ROWS];
  const uint64_t *masks[MAXIMUM_PANELS];
  ptrdiff_t ahead;  // to prefetch
} streams;

// acc [rows][panels][16] += m·Σ q·w of one group, the vectors begin …< end of each panel. Of one row, a panel has two sums,
// since one would wait for itself.
static inline __attribute__((always_inline)) void accumulate_group(
    const lathe_sparse_block *block, const size_t rows, const size_t panels, streams *s, const int8_t *multipliers,
    size_t panel_multipliers, size_t begin, size_t end, int32_t *restrict acc) {
  __m512i sum[MAXIMUM_ROWS][MAXIMUM_PANELS], other[MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    other[p] = _mm512_setzero_si512();
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r][p] = _mm512_setzero_si512();
  }
  for (size_t step = begin; step < end; step += LATHE_SPARSE_STEP) {
    if (step == block->turn) s->ahead = lathe_sparse_values(block->operation->weights, block->next) - s->packed[0];
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      _mm_prefetch((const char *)(s->masks[p] + step + panels * block->vectors), _MM_HINT_T0);
    }
#pragma clang loop unroll(disable)
    for (size_t v = step; v < step + LATHE_SPARSE_STEP; v += 2) {
      vector_pair w[MAXIMUM_PANELS];
#pragma clang loop unroll(full)
      for (size_t p = 0; p < panels; p++) {
        const uint64_t *masks = s->masks[p] + v;
        _mm_prefetch((const char *)s->packed[p] + s->ahead, _MM_HINT_T0);
        w[p] = expand_pair(masks, s->packed[p]);
        s->packed[p] += lathe_sparse_pair_bytes(masks[0], masks[1]);
      }
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        const uint8_t *q = s->activations[r] + v * 4;
        const __m512i first = broadcast_four(q), second = broadcast_four(q + 4);
#pragma clang loop unroll(full)
        for (size_t p = 0; p < panels; p++) {
          __m512i *of_second = rows == 1 ? &other[p] : &sum[r][p];
          sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], first, w[p].first);
          *of_second = _mm512_dpbusd_epi32(*of_second, second, w[p].second);
        }
      }
    }
  }
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(multipliers + p * panel_multipliers));
    const __m512i m = _mm512_cvtepi8_epi32(bytes);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      const __m512i all = rows == 1 ? _mm512_add_epi32(sum[r][p], other[p]) : sum[r][p];
      int32_t *total = acc + (r * panels + p) * LATHE_PANEL_COLUMNS;
      const __m512i product = _mm512_mullo_epi32(_mm512_srai_epi32(all, 4), m);
      _mm512_store_si512(total, _mm512_add_epi32(_mm512_load_si512(total), product));
    }
  }
}

// acc [rows][panels][16] = Σ_g m·Σ_k q·w − zp·colsum. `rows` and `panels` are constants after inlining.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_sparse_block *block, const size_t rows, const size_t panels, int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const lathe_weights *weights = op->weights;
  const size_t panel_multipliers = lathe_qc4w_panel_multipliers(weights), group_vectors = weights->group_size / 4;
  streams s = {.ahead = LATHE_SPARSE_PREFETCH_BYTES};
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    s.activations[r] = (const uint8_t *)op->activations + (block->row + r) * op->activation_stride_bytes;
  }
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    s.packed[p] = lathe_sparse_values(weights, block->panel + p);
    s.masks[p] = lathe_sparse_masks(weights, block->panel + p);
    const int32_t *column_sums = weights->column_sums + (block->panel + p) * LATHE_PANEL_COLUMNS;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      vi16_store(
          acc + (r * panels + p) * LATHE_PANEL_COLUMNS,
          lathe_qd8_minus_zero_point(column_sums, op->quantization[block->row + r].zero_point));
    }
  }
  const int8_t *multipliers = weights->multipliers + block->panel * panel_multipliers;
  for (size_t begin = 0; begin < block->vectors; begin += group_vectors, multipliers += LATHE_PANEL_COLUMNS) {
    const size_t end = begin + group_vectors < block->vectors ? begin + group_vectors : block->vectors;
    accumulate_group(block, rows, panels, &s, multipliers, panel_multipliers, begin, end, acc);
  }
}

// One compiled form for each shape that the function below asks for.
#define SHAPE(rows, panels) \
  case (rows) * 8 + (panels): accumulate(block, rows, panels, acc); break;

static void run_block(const lathe_sparse_block *block) {
  _Alignas(64) int32_t acc[MAXIMUM_ROWS * MAXIMUM_PANELS * LATHE_PANEL_COLUMNS];
  switch (block->rows * 8 + block->panels) {
    SHAPE(1, 4) SHAPE(2, 4) SHAPE(3, 4) SHAPE(4, 4) SHAPE(5, 4)
    SHAPE(6, 3) SHAPE(7, 3) SHAPE(8, 3)
    SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1) SHAPE(7, 1) SHAPE(8, 1)
    default: __builtin_trap();  // a shape that the function below does not ask for
  }
  lathe_qd8_finish_block(block->operation, block->row, block->rows, block->panel, block->panels, acc);
}

void lathe_linear_qd8_qc4w_sparse_avx512vbmi2(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  if (operation->rows >= 6 && operation->rows <= 8) {
    lathe_sparse_for_each_block(operation, panel_begin, panel_end, 8, 3, run_block);
  } else {
    lathe_sparse_for_each_block(operation, panel_begin, panel_end, 5, 4, run_block);
  }
}

void lathe_expand_qc4w_sparse_avx512vbmi2(
    const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t vectors = lathe_sparse_vectors(weights->depth), group_vectors = weights->group_size / 4;
  const int8_t *multipliers = weights->multipliers + panel_begin * lathe_qc4w_panel_multipliers(weights);
  for (size_t panel = panel_begin; panel < panel_end; panel++) {
    const uint64_t *masks = lathe_sparse_masks(weights, panel);
    const uint8_t *packed = lathe_sparse_values(weights, panel);
    for (size_t begin = 0; begin < vectors; begin += group_vectors, multipliers += LATHE_PANEL_COLUMNS) {
      const size_t end = begin + group_vectors < vectors ? begin + group_vectors : vectors;
      const lathe_qc4w_factors factors = lathe_load_qc4w_factors(multipliers);
      for (size_t v = begin; v < end; v += 2, panels += 2 * 64) {
        _mm_prefetch((const char *)packed + LATHE_SPARSE_PREFETCH_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)(masks + v) + LATHE_SPARSE_PREFETCH_BYTES / 8, _MM_HINT_T0);
        // The product of a nibble of 0, as those that are left out become, is 0 like any other.
        const __m512i both = _mm512_loadu_si512(packed);
        const __m512i first = _mm512_maskz_expand_epi8(masks[v], both);
        const __m512i second = _mm512_maskz_expand_epi8(masks[v + 1], _mm512_srli_epi16(both, 4));
        _mm512_store_si512(panels, lathe_qc4w_products(first, factors));
        _mm512_store_si512(panels + 64, lathe_qc4w_products(second, factors));
        packed += lathe_sparse_pair_bytes(masks[v], masks[v + 1]);
      }
    }
  }
}

#pragma clang attribute pop
#endif
