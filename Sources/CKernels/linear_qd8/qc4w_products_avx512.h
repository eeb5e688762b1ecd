// What expanding int4 weights is on AVX-512: q·m of every other byte at a time, as int16. A template: include it after
// <immintrin.h> and inside a target attribute with AVX-512 BW.
#ifndef LATHE_QC4W_PRODUCTS_AVX512_H
#define LATHE_QC4W_PRODUCTS_AVX512_H

// 16·m of the sixteen columns, in both int16 of a column's four bytes.
static inline __m512i lathe_sixteen_multipliers(const int8_t *multipliers) {
  const __m512i m = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)multipliers));
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_slli_epi32(m, 4), _mm512_slli_epi32(m, 20));
}

// q·m as bytes: the upper nibbles of all bytes are q, the lower ones 0. (4096·q)·(16·m) is 65536·q·m, whose upper half
// VPMULHW keeps.
static inline __m512i lathe_qc4w_products(__m512i upper_nibbles, __m512i sixteen_m) {
  const __m512i odd_bytes = _mm512_and_si512(upper_nibbles, _mm512_set1_epi16((short)0xf000));
  const __m512i odd = _mm512_mulhi_epi16(odd_bytes, sixteen_m);
  const __m512i even = _mm512_mulhi_epi16(_mm512_slli_epi16(upper_nibbles, 8), sixteen_m);
  return _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaa, even, _mm512_slli_epi16(odd, 8));
}

#endif
