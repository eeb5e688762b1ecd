// Expanding int4 panels to T16 on AVX-512, two numbers at a time by one 16-bit multiplication.
//
// u = q + 8 and |m| are at most 15, so the product of the bytes (u, u') as one int16 by |m| has u·|m| and u'·|m| as its
// bytes: nothing is carried. q·m is that less 8·|m|; and where m is negative, with u = 7 − q, less 7·|m|. Turning a nibble
// of two's complement into either u is to flip some of its bits.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq"))), apply_to = function)

// Of a group: by what its sixteen columns multiply their numbers.
typedef struct {
  __m512i flips;      // of each byte, 0x88 or 0x77
  __m512i factors;    // |m| of each int16
  __m512i subtrahend; // of each byte, 8·|m| or 7·|m|
} group_factors;

static inline group_factors load_factors(const int8_t *multipliers) {
  const __m512i m = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)multipliers));
  const __mmask16 negative = _mm512_movepi32_mask(m);
  const __m512i words = _mm512_mullo_epi32(_mm512_abs_epi32(m), _mm512_set1_epi32(0x00010001));
  const __m512i bytes = _mm512_or_si512(words, _mm512_slli_epi16(words, 8));
  group_factors f;
  f.flips = _mm512_mask_blend_epi32(negative, _mm512_set1_epi8((char)0x88), _mm512_set1_epi8(0x77));
  f.factors = words;
  // 8·15 fits the seven bits that a shift within int16 leaves to each byte.
  f.subtrahend = _mm512_slli_epi16(bytes, 3);
  f.subtrahend = _mm512_mask_sub_epi32(f.subtrahend, negative, f.subtrahend, bytes);
  return f;
}

// q·m of the numbers in the lower nibbles of each byte; the upper ones are ignored.
static inline __m512i products(__m512i nibbles, group_factors f) {
  const __m512i u = _mm512_and_si512(_mm512_xor_si512(nibbles, f.flips), _mm512_set1_epi8(15));
  return _mm512_sub_epi8(_mm512_mullo_epi16(u, f.factors), f.subtrahend);
}

void lathe_expand_qc4w_avx512(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(weights->depth);
  const size_t group_bytes = weights->group_size * LATHE_PANEL_COLUMNS / 2;
  const uint8_t *nibbles = (const uint8_t *)weights->values + panel_begin * panel_bytes;
  const int8_t *multipliers = weights->multipliers + panel_begin * lathe_qc4w_panel_multipliers(weights);
  for (size_t panel = panel_begin; panel < panel_end; panel++, nibbles += panel_bytes) {
    for (size_t begin = 0; begin < panel_bytes; begin += group_bytes, multipliers += LATHE_PANEL_COLUMNS) {
      const size_t end = begin + group_bytes < panel_bytes ? begin + group_bytes : panel_bytes;
      const group_factors factors = load_factors(multipliers);
      for (size_t at = begin; at < end; at += 64, panels += 128) {
        const __m512i both = _mm512_load_si512(nibbles + at);
        _mm512_store_si512(panels, products(both, factors));
        _mm512_store_si512(panels + 64, products(_mm512_srli_epi16(both, 4), factors));
      }
    }
  }
}

#pragma clang attribute pop
#endif
