// vf16 for AVX2, FMA and F16C: 16 float lanes in two registers. vf16_math.h states what the operations mean.
//
// Every function carries the target attribute itself, so the header may be included by any file whose own functions
// are compiled for these features or more.
#ifndef LATHE_SIMD_VF16_AVX2_H
#define LATHE_SIMD_VF16_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define LATHE_VF16_TARGET "avx2,fma,f16c"
#define VF16_FN static inline __attribute__((always_inline, unused, target(LATHE_VF16_TARGET)))

typedef struct {
  __m256 low, high;  // lanes 0…7, 8…15
} vf16;
typedef struct {
  __m256i low, high;
} vi16;

// Lane masks: the eight words at [16 − count] select lanes 0…7, those at [24 − count] lanes 8…15.
static const int32_t vf16_masks[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
VF16_FN __m256i vf16_mask_low(size_t count) {
  return _mm256_loadu_si256((const __m256i *)(vf16_masks + 16 - count));
}
VF16_FN __m256i vf16_mask_high(size_t count) {
  return _mm256_loadu_si256((const __m256i *)(vf16_masks + 24 - count));
}

VF16_FN vf16 vf16_of(__m256 low, __m256 high) {
  vf16 x = {low, high};
  return x;
}
VF16_FN vi16 vi16_of(__m256i low, __m256i high) {
  vi16 x = {low, high};
  return x;
}

VF16_FN vf16 vf16_zero(void) { return vf16_of(_mm256_setzero_ps(), _mm256_setzero_ps()); }
VF16_FN vf16 vf16_set1(float x) { return vf16_of(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
VF16_FN vf16 vf16_load(const float *p) { return vf16_of(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
VF16_FN vf16 vf16_load_tail(const float *p, size_t count) {
  return vf16_of(_mm256_maskload_ps(p, vf16_mask_low(count)), _mm256_maskload_ps(p + 8, vf16_mask_high(count)));
}
VF16_FN void vf16_store(float *p, vf16 x) {
  _mm256_storeu_ps(p, x.low);
  _mm256_storeu_ps(p + 8, x.high);
}
VF16_FN void vf16_store_tail(float *p, vf16 x, size_t count) {
  _mm256_maskstore_ps(p, vf16_mask_low(count), x.low);
  _mm256_maskstore_ps(p + 8, vf16_mask_high(count), x.high);
}
VF16_FN vf16 vf16_select_tail(size_t count, vf16 x, vf16 rest) {
  return vf16_of(
      _mm256_blendv_ps(rest.low, x.low, _mm256_castsi256_ps(vf16_mask_low(count))),
      _mm256_blendv_ps(rest.high, x.high, _mm256_castsi256_ps(vf16_mask_high(count))));
}

VF16_FN vf16 vf16_add(vf16 a, vf16 b) { return vf16_of(_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)); }
VF16_FN vf16 vf16_sub(vf16 a, vf16 b) { return vf16_of(_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)); }
VF16_FN vf16 vf16_mul(vf16 a, vf16 b) { return vf16_of(_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)); }
VF16_FN vf16 vf16_div(vf16 a, vf16 b) { return vf16_of(_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)); }
VF16_FN vf16 vf16_fma(vf16 a, vf16 b, vf16 c) {
  return vf16_of(_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high));
}
VF16_FN vf16 vf16_min(vf16 x, vf16 y) { return vf16_of(_mm256_min_ps(x.low, y.low), _mm256_min_ps(x.high, y.high)); }
VF16_FN vf16 vf16_max(vf16 x, vf16 y) { return vf16_of(_mm256_max_ps(x.low, y.low), _mm256_max_ps(x.high, y.high)); }
VF16_FN vf16 vf16_sqrt(vf16 x) { return vf16_of(_mm256_sqrt_ps(x.low), _mm256_sqrt_ps(x.high)); }
VF16_FN vf16 vf16_abs(vf16 x) {
  __m256 sign = _mm256_set1_ps(-0.0f);
  return vf16_of(_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high));
}

VF16_FN vi16 vi16_set1(int32_t x) { return vi16_of(_mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
VF16_FN vi16 vi16_load(const int32_t *p) {
  return vi16_of(_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8)));
}
VF16_FN void vi16_store(int32_t *p, vi16 x) {
  _mm256_storeu_si256((__m256i *)p, x.low);
  _mm256_storeu_si256((__m256i *)(p + 8), x.high);
}
VF16_FN vi16 vi16_add(vi16 a, vi16 b) {
  return vi16_of(_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high));
}
VF16_FN vi16 vi16_sub(vi16 a, vi16 b) {
  return vi16_of(_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high));
}
VF16_FN vi16 vi16_mul(vi16 a, vi16 b) {
  return vi16_of(_mm256_mullo_epi32(a.low, b.low), _mm256_mullo_epi32(a.high, b.high));
}
VF16_FN vi16 vi16_and(vi16 a, vi16 b) {
  return vi16_of(_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high));
}
VF16_FN vi16 vi16_or(vi16 a, vi16 b) {
  return vi16_of(_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high));
}
VF16_FN vi16 vi16_shift_left(vi16 x, int bits) {
  return vi16_of(_mm256_slli_epi32(x.low, bits), _mm256_slli_epi32(x.high, bits));
}
VF16_FN vi16 vi16_shift_right(vi16 x, int bits) {
  return vi16_of(_mm256_srai_epi32(x.low, bits), _mm256_srai_epi32(x.high, bits));
}
VF16_FN vi16 vi16_multiply_halves(vi16 a, vi16 b) {
  return vi16_of(_mm256_madd_epi16(a.low, b.low), _mm256_madd_epi16(a.high, b.high));
}
VF16_FN vi16 vi16_clamp(vi16 x, int32_t low, int32_t high) {
  __m256i l = _mm256_set1_epi32(low), h = _mm256_set1_epi32(high);
  return vi16_of(
      _mm256_min_epi32(_mm256_max_epi32(x.low, l), h), _mm256_min_epi32(_mm256_max_epi32(x.high, l), h));
}
VF16_FN vi16 vi16_load_s8(const int8_t *p) {
  __m128i bytes = _mm_loadu_si128((const __m128i *)p);
  return vi16_of(_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)));
}
// 16 int8 as four groups of four, 64 bytes apart, sign-extended: how a row lies in a T16 panel.
VF16_FN vi16 vi16_load_s8_panel(const int8_t *p) {
  int32_t words[4];
  for (int j = 0; j < 4; j++) __builtin_memcpy(&words[j], p + 64 * j, 4);
  return vi16_of(
      _mm256_cvtepi8_epi32(_mm_set_epi32(0, 0, words[1], words[0])),
      _mm256_cvtepi8_epi32(_mm_set_epi32(0, 0, words[3], words[2])));
}
// The sixteen values as int16, in order; each must lie in the range of int16.
VF16_FN __m256i vi16_to_s16(vi16 x) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(x.low, x.high), _MM_SHUFFLE(3, 1, 2, 0));
}
VF16_FN void vi16_store_s16(int16_t *p, vi16 x) { _mm256_storeu_si256((__m256i *)p, vi16_to_s16(x)); }
VF16_FN void vi16_store_u8(uint8_t *p, vi16 x) {
  __m256i words = vi16_to_s16(x);
  _mm_storeu_si128(
      (__m128i *)p, _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
VF16_FN void vi16_store_s8(int8_t *p, vi16 x) {
  __m256i words = vi16_to_s16(x);
  _mm_storeu_si128(
      (__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

VF16_FN vf16 vf16_from_vi16(vi16 x) { return vf16_of(_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)); }
VF16_FN vi16 vf16_to_vi16(vf16 x) { return vi16_of(_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)); }
VF16_FN vf16 vf16_scale_by_power(vf16 x, vi16 n) {
  return vf16_of(
      _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.low), _mm256_slli_epi32(n.low, 23))),
      _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.high), _mm256_slli_epi32(n.high, 23))));
}

VF16_FN vf16 vf16_load_half(const uint16_t *p) {
  return vf16_of(
      _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))));
}
VF16_FN void vf16_store_half_unclamped(uint16_t *p, vf16 x) {
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

VF16_FN float vf16_lanes_sum(vf16 x) {
  __m256 s8 = _mm256_add_ps(x.low, x.high);
  __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
VF16_FN float vf16_lanes_max(vf16 x) {
  __m256 s8 = _mm256_max_ps(x.low, x.high);
  __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
VF16_FN float vf16_lanes_min(vf16 x) {
  __m256 s8 = _mm256_min_ps(x.low, x.high);
  __m128 s4 = _mm_min_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_min_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_min_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

VF16_FN int32_t vf16_round_one(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }

#include "vf16_math.h"

#endif
