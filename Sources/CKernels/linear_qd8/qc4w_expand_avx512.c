// Expanding int4 panels to T16 on AVX-512: q·m of every other byte at a time, as int16.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw"))), apply_to = function)

#include "qc4w_products_avx512.h"

void lathe_expand_qc4w_avx512(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(weights->depth);
  const size_t group_bytes = weights->group_size * LATHE_PANEL_COLUMNS / 2;
  const uint8_t *nibbles = (const uint8_t *)weights->values + panel_begin * panel_bytes;
  const int8_t *multipliers = weights->multipliers + panel_begin * lathe_qc4w_panel_multipliers(weights);
  const __m512i upper = _mm512_set1_epi8((char)0xf0);
  for (size_t panel = panel_begin; panel < panel_end; panel++, nibbles += panel_bytes) {
    for (size_t begin = 0; begin < panel_bytes; begin += group_bytes, multipliers += LATHE_PANEL_COLUMNS) {
      const size_t end = begin + group_bytes < panel_bytes ? begin + group_bytes : panel_bytes;
      const __m512i sixteen_m = lathe_sixteen_multipliers(multipliers);
      for (size_t at = begin; at < end; at += 64, panels += 128) {
        const __m512i both = _mm512_load_si512(nibbles + at);
        const __m512i low = _mm512_and_si512(_mm512_slli_epi16(both, 4), upper), high = _mm512_and_si512(both, upper);
        _mm512_store_si512(panels, lathe_qc4w_products(low, sixteen_m));
        _mm512_store_si512(panels + 64, lathe_qc4w_products(high, sixteen_m));
      }
    }
  }
}

#pragma clang attribute pop
#endif
