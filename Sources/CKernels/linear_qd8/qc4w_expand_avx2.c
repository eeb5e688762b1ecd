// Expanding int4 panels to T16 on AVX2: q·m of every other byte at a time, as int16.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)

// q·m as bytes: the upper nibbles of all bytes are q, the lower ones 0, and each int16 of `sixteen_m` is 16·m of its
// column. (4096·q)·(16·m) is 65536·q·m, whose upper half VPMULHW keeps.
static inline __m256i products(__m256i upper_nibbles, __m256i sixteen_m) {
  const __m256i odd_bytes = _mm256_and_si256(upper_nibbles, _mm256_set1_epi16((short)0xf000));
  const __m256i odd = _mm256_mulhi_epi16(odd_bytes, sixteen_m);
  const __m256i even = _mm256_mulhi_epi16(_mm256_slli_epi16(upper_nibbles, 8), sixteen_m);
  return _mm256_blendv_epi8(even, _mm256_slli_epi16(odd, 8), _mm256_set1_epi16((short)0xff00));
}

void lathe_expand_qc4w_avx2(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(weights->depth);
  const size_t group_bytes = weights->group_size * LATHE_PANEL_COLUMNS / 2;
  const uint8_t *nibbles = (const uint8_t *)weights->values + panel_begin * panel_bytes;
  const int8_t *multipliers = weights->multipliers + panel_begin * lathe_qc4w_panel_multipliers(weights);
  const __m256i upper = _mm256_set1_epi8((char)0xf0);
  for (size_t panel = panel_begin; panel < panel_end; panel++, nibbles += panel_bytes) {
    for (size_t begin = 0; begin < panel_bytes; begin += group_bytes, multipliers += LATHE_PANEL_COLUMNS) {
      const size_t end = begin + group_bytes < panel_bytes ? begin + group_bytes : panel_bytes;
      // Both int16 of a column's four bytes are 16·m.
      __m256i sixteen_m[2];
      for (size_t half = 0; half < 2; half++) {
        const __m256i m = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(multipliers + half * 8)));
        sixteen_m[half] = _mm256_blend_epi16(_mm256_slli_epi32(m, 4), _mm256_slli_epi32(m, 20), 0xaa);
      }
      for (size_t at = begin; at < end; at += 64, panels += 128) {
        for (size_t half = 0; half < 2; half++) {
          const __m256i both = _mm256_load_si256((const __m256i *)(nibbles + at + half * 32));
          const __m256i low = _mm256_and_si256(_mm256_slli_epi16(both, 4), upper), high = _mm256_and_si256(both, upper);
          _mm256_store_si256((__m256i *)(panels + half * 32), products(low, sixteen_m[half]));
          _mm256_store_si256((__m256i *)(panels + 64 + half * 32), products(high, sixteen_m[half]));
        }
      }
    }
  }
}

#pragma clang attribute pop
#endif
