// Expanding int4 panels to T16 on AVX-512, two numbers at a time by one 16-bit multiplication.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq"))), apply_to = function)

#include "qc4w_products_avx512.h"

void lathe_expand_qc4w_avx512(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(weights->depth);
  const size_t group_bytes = weights->group_size * LATHE_PANEL_COLUMNS / 2;
  const uint8_t *nibbles = (const uint8_t *)weights->values + panel_begin * panel_bytes;
  const int8_t *multipliers = weights->multipliers + panel_begin * lathe_qc4w_panel_multipliers(weights);
  for (size_t panel = panel_begin; panel < panel_end; panel++, nibbles += panel_bytes) {
    for (size_t begin = 0; begin < panel_bytes; begin += group_bytes, multipliers += LATHE_PANEL_COLUMNS) {
      const size_t end = begin + group_bytes < panel_bytes ? begin + group_bytes : panel_bytes;
      const lathe_qc4w_factors factors = lathe_load_qc4w_factors(multipliers);
      for (size_t at = begin; at < end; at += 64, panels += 128) {
        const __m512i both = _mm512_load_si512(nibbles + at);
        _mm512_store_si512(panels, lathe_qc4w_products(both, factors));
        _mm512_store_si512(panels + 64, lathe_qc4w_products(_mm512_srli_epi16(both, 4), factors));
      }
    }
  }
}

#pragma clang attribute pop
#endif
