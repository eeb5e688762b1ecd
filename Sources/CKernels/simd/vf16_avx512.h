// vf16 for AVX-512: 16 float lanes in one register. vf16_math.h states what the operations mean.
//
// Every function carries the target attribute itself, so the header may be included by any file whose own functions
// are compiled for these features or more.
#ifndef LATHE_SIMD_VF16_AVX512_H
#define LATHE_SIMD_VF16_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define LATHE_VF16_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
#define VF16_FN static inline __attribute__((always_inline, unused, target(LATHE_VF16_TARGET)))

typedef __m512 vf16;
typedef __m512i vi16;

VF16_FN __mmask16 vf16_mask(size_t count) { return (__mmask16)((1u << count) - 1u); }

VF16_FN vf16 vf16_zero(void) { return _mm512_setzero_ps(); }
VF16_FN vf16 vf16_set1(float x) { return _mm512_set1_ps(x); }
VF16_FN vf16 vf16_load(const float *p) { return _mm512_loadu_ps(p); }
VF16_FN vf16 vf16_load_tail(const float *p, size_t count) { return _mm512_maskz_loadu_ps(vf16_mask(count), p); }
VF16_FN void vf16_store(float *p, vf16 x) { _mm512_storeu_ps(p, x); }
VF16_FN void vf16_store_tail(float *p, vf16 x, size_t count) { _mm512_mask_storeu_ps(p, vf16_mask(count), x); }
VF16_FN vf16 vf16_select_tail(size_t count, vf16 x, vf16 rest) {
  return _mm512_mask_blend_ps(vf16_mask(count), rest, x);
}

VF16_FN vf16 vf16_add(vf16 a, vf16 b) { return _mm512_add_ps(a, b); }
VF16_FN vf16 vf16_sub(vf16 a, vf16 b) { return _mm512_sub_ps(a, b); }
VF16_FN vf16 vf16_mul(vf16 a, vf16 b) { return _mm512_mul_ps(a, b); }
VF16_FN vf16 vf16_div(vf16 a, vf16 b) { return _mm512_div_ps(a, b); }
VF16_FN vf16 vf16_fma(vf16 a, vf16 b, vf16 c) { return _mm512_fmadd_ps(a, b, c); }
VF16_FN vf16 vf16_min(vf16 x, vf16 y) { return _mm512_min_ps(x, y); }
VF16_FN vf16 vf16_max(vf16 x, vf16 y) { return _mm512_max_ps(x, y); }
VF16_FN vf16 vf16_sqrt(vf16 x) { return _mm512_sqrt_ps(x); }
VF16_FN vf16 vf16_abs(vf16 x) { return _mm512_abs_ps(x); }

VF16_FN vi16 vi16_set1(int32_t x) { return _mm512_set1_epi32(x); }
VF16_FN vi16 vi16_load(const int32_t *p) { return _mm512_loadu_si512(p); }
VF16_FN void vi16_store(int32_t *p, vi16 x) { _mm512_storeu_si512(p, x); }
VF16_FN vi16 vi16_add(vi16 a, vi16 b) { return _mm512_add_epi32(a, b); }
VF16_FN vi16 vi16_sub(vi16 a, vi16 b) { return _mm512_sub_epi32(a, b); }
VF16_FN vi16 vi16_mul(vi16 a, vi16 b) { return _mm512_mullo_epi32(a, b); }
VF16_FN vi16 vi16_and(vi16 a, vi16 b) { return _mm512_and_si512(a, b); }
VF16_FN vi16 vi16_or(vi16 a, vi16 b) { return _mm512_or_si512(a, b); }
VF16_FN vi16 vi16_shift_left(vi16 x, int bits) { return _mm512_slli_epi32(x, (unsigned)bits); }
VF16_FN vi16 vi16_shift_right(vi16 x, int bits) { return _mm512_srai_epi32(x, (unsigned)bits); }
VF16_FN vi16 vi16_multiply_halves(vi16 a, vi16 b) { return _mm512_madd_epi16(a, b); }
VF16_FN vi16 vi16_clamp(vi16 x, int32_t low, int32_t high) {
  return _mm512_min_epi32(_mm512_max_epi32(x, _mm512_set1_epi32(low)), _mm512_set1_epi32(high));
}
VF16_FN vi16 vi16_load_s8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
// 16 int8 as four groups of four, 64 bytes apart, sign-extended: how a row lies in a T16 panel.
VF16_FN vi16 vi16_load_s8_panel(const int8_t *p) {
  int32_t words[4];
  for (int j = 0; j < 4; j++) __builtin_memcpy(&words[j], p + 64 * j, 4);
  return _mm512_cvtepi8_epi32(_mm_set_epi32(words[3], words[2], words[1], words[0]));
}
VF16_FN void vi16_store_u8(uint8_t *p, vi16 x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }
VF16_FN void vi16_store_s8(int8_t *p, vi16 x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }
VF16_FN void vi16_store_s16(int16_t *p, vi16 x) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(x)); }

VF16_FN vf16 vf16_from_vi16(vi16 x) { return _mm512_cvtepi32_ps(x); }
VF16_FN vi16 vf16_to_vi16(vf16 x) { return _mm512_cvtps_epi32(x); }
VF16_FN vf16 vf16_scale_by_power(vf16 x, vi16 n) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(n, 23)));
}

VF16_FN vf16 vf16_load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
VF16_FN void vf16_store_half_unclamped(uint16_t *p, vf16 x) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

VF16_FN float vf16_lanes_sum(vf16 x) {
  __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
VF16_FN float vf16_lanes_max(vf16 x) {
  __m256 s8 = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
VF16_FN float vf16_lanes_min(vf16 x) {
  __m256 s8 = _mm256_min_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 s4 = _mm_min_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_min_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_min_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

#define LATHE_VF16_HAS_KEYS
VF16_FN __m512i vf16_keys(__m256i ranks, __m256i ids) {
  return _mm512_or_si512(_mm512_slli_epi64(_mm512_cvtepu32_epi64(ranks), 32), _mm512_cvtepu32_epi64(ids));
}
// Masked, so that nothing behind the last key is touched.
VF16_FN size_t vf16_compress_keys(uint64_t *p, __mmask8 keep, __m512i keys) {
  const size_t count = (size_t)__builtin_popcount(keep);
  _mm512_mask_storeu_epi64(p, (__mmask8)((1u << count) - 1u), _mm512_maskz_compress_epi64(keep, keys));
  return count;
}
VF16_FN void vf16_store_keys(
    vf16 magnitudes, vf16 x, float floor, float middle, uint32_t first, size_t width, uint64_t *near, uint64_t *far,
    lathe_candidate_counts *kept) {
  const __mmask16 all = _mm512_mask_cmp_ps_mask(vf16_mask(width), x, _mm512_set1_ps(floor), _CMP_GE_OQ);
  const __mmask16 close = _mm512_mask_cmp_ps_mask(all, magnitudes, _mm512_set1_ps(middle), _CMP_LE_OQ);
  const __mmask16 apart = (__mmask16)(all & ~close);
  const __m512i iota = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i r = _mm512_castps_si512(magnitudes), ids = _mm512_add_epi32(iota, _mm512_set1_epi32((int32_t)first));
  const __m512i low = vf16_keys(_mm512_castsi512_si256(r), _mm512_castsi512_si256(ids));
  const __m512i high = vf16_keys(_mm512_extracti64x4_epi64(r, 1), _mm512_extracti64x4_epi64(ids, 1));
  if (close) {
    kept->near += vf16_compress_keys(near + kept->near, (__mmask8)close, low);
    kept->near += vf16_compress_keys(near + kept->near, (__mmask8)(close >> 8), high);
  }
  kept->far += vf16_compress_keys(far + kept->far, (__mmask8)apart, low);
  kept->far += vf16_compress_keys(far + kept->far, (__mmask8)(apart >> 8), high);
}
VF16_FN vf16 vf16_load_ranks(const uint64_t *p) {
  const __m512i upper = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_castsi512_ps(_mm512_permutex2var_epi32(_mm512_loadu_si512(p), upper, _mm512_loadu_si512(p + 8)));
}

VF16_FN int32_t vf16_round_one(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }

#include "vf16_math.h"

#endif
