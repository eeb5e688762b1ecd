// The products of int4 weights and their multipliers on AVX-512, two by one 16-bit multiplication. A template: include it
// after <immintrin.h> and inside a target attribute with AVX-512 BW and DQ.
//
// u = q + 8 and |m| are at most 15, so the product of the bytes (u, u') as one int16 by |m| has u·|m| and u'·|m| as its
// bytes: nothing is carried. q·m is that less 8·|m|; and where m is negative, with u = 7 − q, less 7·|m|. Turning a nibble
// of two's complement into either u is to flip some of its bits.
#ifndef LATHE_QC4W_PRODUCTS_AVX512_H
#define LATHE_QC4W_PRODUCTS_AVX512_H

// Of a group: by what its sixteen columns multiply their numbers.
typedef struct {
  __m512i flips;      // of each byte, 0x88 or 0x77
  __m512i factors;    // |m| of each int16
  __m512i subtrahend; // of each byte, 8·|m| or 7·|m|
} lathe_qc4w_factors;

static inline lathe_qc4w_factors lathe_load_qc4w_factors(const int8_t *multipliers) {
  const __m512i m = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)multipliers));
  const __mmask16 negative = _mm512_movepi32_mask(m);
  const __m512i words = _mm512_mullo_epi32(_mm512_abs_epi32(m), _mm512_set1_epi32(0x00010001));
  const __m512i bytes = _mm512_or_si512(words, _mm512_slli_epi16(words, 8));
  lathe_qc4w_factors f;
  f.flips = _mm512_mask_blend_epi32(negative, _mm512_set1_epi8((char)0x88), _mm512_set1_epi8(0x77));
  f.factors = words;
  // 8·15 fits the seven bits that a shift within int16 leaves to each byte.
  f.subtrahend = _mm512_slli_epi16(bytes, 3);
  f.subtrahend = _mm512_mask_sub_epi32(f.subtrahend, negative, f.subtrahend, bytes);
  return f;
}

// q·m of the numbers in the lower nibbles of each byte; the upper ones are ignored.
static inline __m512i lathe_qc4w_products(__m512i nibbles, lathe_qc4w_factors f) {
  const __m512i u = _mm512_and_si512(_mm512_xor_si512(nibbles, f.flips), _mm512_set1_epi8(15));
  return _mm512_sub_epi8(_mm512_mullo_epi16(u, f.factors), f.subtrahend);
}

#endif
