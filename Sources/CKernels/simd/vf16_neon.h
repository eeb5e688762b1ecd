// vf16 for NEON: 16 float lanes in four registers. vf16_math.h states what the operations mean.
//
// Every 64-bit Arm has all of it, conversions from and to IEEE half included, so there is no target attribute.
#ifndef LATHE_SIMD_VF16_NEON_H
#define LATHE_SIMD_VF16_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#define VF16_FN static inline __attribute__((always_inline, unused))

typedef struct {
  float32x4_t q[4];  // lanes 0…3, 4…7, 8…11, 12…15
} vf16;
typedef struct {
  int32x4_t q[4];
} vi16;

// The four registers of a result, each by an expression of its number `i`.
#define VF16_FOUR(type, expression)                                                  \
  ({                                                                                 \
    type four;                                                                       \
    _Pragma("clang loop unroll(full)")                                               \
    for (int i = 0; i < 4; i++) four.q[i] = (expression);                            \
    four;                                                                            \
  })
#define VF16_EACH(expression) VF16_FOUR(vf16, expression)
#define VI16_EACH(expression) VF16_FOUR(vi16, expression)

VF16_FN vf16 vf16_set1(float x) { return VF16_EACH(vdupq_n_f32(x)); }
VF16_FN vf16 vf16_zero(void) { return vf16_set1(0); }
VF16_FN vf16 vf16_load(const float *p) { return VF16_EACH(vld1q_f32(p + 4 * i)); }
VF16_FN void vf16_store(float *p, vf16 x) {
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.q[i]);
}
// NEON has no masks: what is not a whole row of lanes goes through memory.
VF16_FN vf16 vf16_load_tail(const float *p, size_t count) {
  float lanes[16] = {0};
  __builtin_memcpy(lanes, p, count * sizeof *p);
  return vf16_load(lanes);
}
VF16_FN void vf16_store_tail(float *p, vf16 x, size_t count) {
  float lanes[16];
  vf16_store(lanes, x);
  __builtin_memcpy(p, lanes, count * sizeof *p);
}
VF16_FN vf16 vf16_select_tail(size_t count, vf16 x, vf16 rest) {
  static const uint32_t lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return VF16_EACH(vbslq_f32(vcltq_u32(vld1q_u32(lane + 4 * i), vdupq_n_u32((uint32_t)count)), x.q[i], rest.q[i]));
}

VF16_FN vf16 vf16_add(vf16 a, vf16 b) { return VF16_EACH(vaddq_f32(a.q[i], b.q[i])); }
VF16_FN vf16 vf16_sub(vf16 a, vf16 b) { return VF16_EACH(vsubq_f32(a.q[i], b.q[i])); }
VF16_FN vf16 vf16_mul(vf16 a, vf16 b) { return VF16_EACH(vmulq_f32(a.q[i], b.q[i])); }
VF16_FN vf16 vf16_div(vf16 a, vf16 b) { return VF16_EACH(vdivq_f32(a.q[i], b.q[i])); }
VF16_FN vf16 vf16_fma(vf16 a, vf16 b, vf16 c) { return VF16_EACH(vfmaq_f32(c.q[i], a.q[i], b.q[i])); }
// FMIN and FMAX treat zeros and what is not a number in another way.
VF16_FN vf16 vf16_min(vf16 x, vf16 y) { return VF16_EACH(vbslq_f32(vcltq_f32(x.q[i], y.q[i]), x.q[i], y.q[i])); }
VF16_FN vf16 vf16_max(vf16 x, vf16 y) { return VF16_EACH(vbslq_f32(vcgtq_f32(x.q[i], y.q[i]), x.q[i], y.q[i])); }
VF16_FN vf16 vf16_sqrt(vf16 x) { return VF16_EACH(vsqrtq_f32(x.q[i])); }
VF16_FN vf16 vf16_abs(vf16 x) { return VF16_EACH(vabsq_f32(x.q[i])); }

VF16_FN vi16 vi16_set1(int32_t x) { return VI16_EACH(vdupq_n_s32(x)); }
VF16_FN vi16 vi16_load(const int32_t *p) { return VI16_EACH(vld1q_s32(p + 4 * i)); }
VF16_FN void vi16_store(int32_t *p, vi16 x) {
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) vst1q_s32(p + 4 * i, x.q[i]);
}
VF16_FN vi16 vi16_add(vi16 a, vi16 b) { return VI16_EACH(vaddq_s32(a.q[i], b.q[i])); }
VF16_FN vi16 vi16_sub(vi16 a, vi16 b) { return VI16_EACH(vsubq_s32(a.q[i], b.q[i])); }
VF16_FN vi16 vi16_mul(vi16 a, vi16 b) { return VI16_EACH(vmulq_s32(a.q[i], b.q[i])); }
VF16_FN vi16 vi16_and(vi16 a, vi16 b) { return VI16_EACH(vandq_s32(a.q[i], b.q[i])); }
VF16_FN vi16 vi16_or(vi16 a, vi16 b) { return VI16_EACH(vorrq_s32(a.q[i], b.q[i])); }
VF16_FN vi16 vi16_shift_left(vi16 x, int bits) { return VI16_EACH(vshlq_s32(x.q[i], vdupq_n_s32(bits))); }
VF16_FN vi16 vi16_shift_right(vi16 x, int bits) { return VI16_EACH(vshlq_s32(x.q[i], vdupq_n_s32(-bits))); }
VF16_FN vi16 vi16_clamp(vi16 x, int32_t low, int32_t high) {
  return VI16_EACH(vminq_s32(vmaxq_s32(x.q[i], vdupq_n_s32(low)), vdupq_n_s32(high)));
}
VF16_FN vi16 vi16_from_s8(int8x16_t bytes) {
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  const vi16 x = {{
      vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)}};
  return x;
}
VF16_FN vi16 vi16_load_s8(const int8_t *p) { return vi16_from_s8(vld1q_s8(p)); }
// 16 int8 as four groups of four, 64 bytes apart, sign-extended: how a row lies in a T16 panel.
VF16_FN vi16 vi16_load_s8_panel(const int8_t *p) {
  int8_t bytes[16];
  for (int j = 0; j < 4; j++) __builtin_memcpy(bytes + 4 * j, p + 64 * j, 4);
  return vi16_load_s8(bytes);
}
// The sixteen values as int16, in order, lanes 0…7 or 8…15; each must lie in the range of int16.
VF16_FN int16x8_t vi16_half_to_s16(vi16 x, int half) {
  return vmovn_high_s32(vmovn_s32(x.q[2 * half]), x.q[2 * half + 1]);
}
VF16_FN int8x16_t vi16_to_s8(vi16 x) {
  return vmovn_high_s16(vmovn_s16(vi16_half_to_s16(x, 0)), vi16_half_to_s16(x, 1));
}
VF16_FN void vi16_store_s16(int16_t *p, vi16 x) {
  vst1q_s16(p, vi16_half_to_s16(x, 0));
  vst1q_s16(p + 8, vi16_half_to_s16(x, 1));
}
VF16_FN void vi16_store_s8(int8_t *p, vi16 x) { vst1q_s8(p, vi16_to_s8(x)); }
VF16_FN void vi16_store_u8(uint8_t *p, vi16 x) { vst1q_u8(p, vreinterpretq_u8_s8(vi16_to_s8(x))); }

VF16_FN vf16 vf16_from_vi16(vi16 x) { return VF16_EACH(vcvtq_f32_s32(x.q[i])); }
VF16_FN vi16 vf16_to_vi16(vf16 x) { return VI16_EACH(vcvtnq_s32_f32(x.q[i])); }
VF16_FN vf16 vf16_scale_by_power(vf16 x, vi16 n) {
  return VF16_EACH(
      vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x.q[i]), vshlq_n_s32(n.q[i], 23))));
}

VF16_FN vf16 vf16_load_half(const uint16_t *p) {
  return VF16_EACH(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))));
}
VF16_FN void vf16_store_half_unclamped(uint16_t *p, vf16 x) {
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.q[i])));
}

VF16_FN float vf16_lanes_sum(vf16 x) {
  const float32x4_t s4 = vaddq_f32(vaddq_f32(x.q[0], x.q[2]), vaddq_f32(x.q[1], x.q[3]));
  const float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
  return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
VF16_FN float vf16_lanes_max(vf16 x) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.q[0], x.q[1]), vmaxq_f32(x.q[2], x.q[3])));
}
VF16_FN float vf16_lanes_min(vf16 x) {
  return vminvq_f32(vminq_f32(vminq_f32(x.q[0], x.q[1]), vminq_f32(x.q[2], x.q[3])));
}

VF16_FN int32_t vf16_round_one(float x) { return vcvtns_s32_f32(x); }

#include "vf16_math.h"

#endif
