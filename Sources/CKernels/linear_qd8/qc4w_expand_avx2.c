// Expanding int4 panels to T16 on AVX2, two numbers at a time by one 16-bit multiplication.
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

#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)

// Of eight columns of a group: by what they multiply their numbers.
typedef struct {
  __m256i flips;      // of each byte, 0x88 or 0x77
  __m256i factors;    // |m| of each int16
  __m256i subtrahend; // of each byte, 8·|m| or 7·|m|
} group_factors;

static inline group_factors load_factors(const int8_t *multipliers) {
  const __m256i m = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)multipliers));
  const __m256i negative = _mm256_srai_epi32(m, 31), magnitude = _mm256_abs_epi32(m);
  group_factors f;
  f.flips = _mm256_xor_si256(_mm256_set1_epi8((char)0x88), negative);
  f.factors = _mm256_or_si256(magnitude, _mm256_slli_epi32(magnitude, 16));
  const __m256i bytes = _mm256_or_si256(f.factors, _mm256_slli_epi16(f.factors, 8));
  // 8·15 fits the seven bits that a shift within int16 leaves to each byte.
  f.subtrahend = _mm256_sub_epi8(_mm256_slli_epi16(bytes, 3), _mm256_and_si256(bytes, negative));
  return f;
}

// q·m of the numbers in the lower nibbles of each byte; the upper ones are ignored.
static inline __m256i products(__m256i nibbles, group_factors f) {
  const __m256i u = _mm256_and_si256(_mm256_xor_si256(nibbles, f.flips), _mm256_set1_epi8(15));
  return _mm256_sub_epi8(_mm256_mullo_epi16(u, f.factors), f.subtrahend);
}

void lathe_expand_qc4w_avx2(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t panel_bytes = lathe_qc4w_panel_bytes(weights->depth);
  const size_t group_bytes = weights->group_size * LATHE_PANEL_COLUMNS / 2;
  const uint8_t *nibbles = (const uint8_t *)weights->values + panel_begin * panel_bytes;
  const int8_t *multipliers = weights->multipliers + panel_begin * lathe_qc4w_panel_multipliers(weights);
  for (size_t panel = panel_begin; panel < panel_end; panel++, nibbles += panel_bytes) {
    for (size_t begin = 0; begin < panel_bytes; begin += group_bytes, multipliers += LATHE_PANEL_COLUMNS) {
      const size_t end = begin + group_bytes < panel_bytes ? begin + group_bytes : panel_bytes;
      const group_factors factors[2] = {load_factors(multipliers), load_factors(multipliers + 8)};
      for (size_t at = begin; at < end; at += 64, panels += 128) {
        for (size_t half = 0; half < 2; half++) {
          const __m256i both = _mm256_load_si256((const __m256i *)(nibbles + at + half * 32));
          __m256i *low = (__m256i *)(panels + half * 32), *high = (__m256i *)(panels + 64 + half * 32);
          _mm256_store_si256(low, products(both, factors[half]));
          _mm256_store_si256(high, products(_mm256_srli_epi16(both, 4), factors[half]));
        }
      }
    }
  }
}

#pragma clang attribute pop
#endif
