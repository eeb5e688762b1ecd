// What is built from vf16 alone, once for every instruction set: the canonical functions and the epilogue of the
// linear layers. Included by the vf16_*.h headers at their end; math_scalar.c is the definition of each function.
//
// What a vf16_*.h header provides (x, a, b, c: 16 float lanes; vi16: 16 int32 lanes; count: 0…16):
//   vf16_zero, set1, load, store       unaligned
//   vf16_load_tail(p, count)           lanes ≥ count are +0 and their memory is not touched
//   vf16_store_tail(p, x, count)       the memory of lanes ≥ count is not touched
//   vf16_select_tail(count, x, rest)   lanes < count of x, the others of rest
//   vf16_add, sub, mul, div, sqrt, fma correctly rounded; fma(a, b, c) = a·b + c
//   vf16_min(x, y), vf16_max(x, y)     x < y ? x : y, x > y ? x : y: y where one is not a number
//   vf16_abs                           clears the sign
//   vf16_lanes_sum                     the canonical tree: i+8, i+4, i+2, i+1
//   vf16_lanes_max, _min               of finite lanes (equal zeros of either sign may give either)
//   vf16_load_half, _store_half        IEEE half (below), nearest-even
//   vf16_from_vi16, vf16_to_vi16       nearest-even; beyond int32 some integer, no trap
//   vf16_round_one(x)                  the same of one float
//   vf16_scale_by_power(x, n)          x · 2^n by adding n to the exponent; x and the result are normal
//   vf16_store_keys(m, x, floor, middle, first, width, near, far, &kept)  of the lanes j < width with x ≥ floor, in order,
//                                      the bits of m << 32 | first + j, behind the `kept` keys of `near` where m ≤ middle,
//                                      else of `far`; one key behind the last may be written as long as there were lanes
//                                      for it. A header that has nothing better leaves it and the next to this file
//                                      (LATHE_VF16_HAS_KEYS)
//   vf16_load_ranks(p)                 the upper halves of 16 words
//   vi16_set1, load, store, add, sub, mul (wrapping), clamp(x, low, high)
//   vi16_and, or, shift_left(x, bits), shift_right(x, bits) (of the sign)
//   vi16_multiply_halves(a, b)         (x86 alone) the sum of the products of the low int16 and of the high ones
//   vi16_load_s8                       16 int8, sign-extended
//   vi16_load_s8_panel                 the same of four groups of four, 64 bytes apart (a row of a T16 panel)
//   vi16_store_u8, _s8, _s16           16 values that are in range

#include "CKernels.h"
#include "constants.h"

VF16_FN void vf16_store_half(uint16_t *p, vf16 x) {
  x = vf16_min(vf16_set1(LATHE_HALF_MAX), vf16_max(vf16_set1(-LATHE_HALF_MAX), x));
  vf16_store_half_unclamped(p, x);
}

#ifndef LATHE_VF16_HAS_KEYS
VF16_FN void vf16_store_keys(
    vf16 magnitudes, vf16 x, float floor, float middle, uint32_t first, size_t width, uint64_t *near, uint64_t *far,
    lathe_candidate_counts *kept) {
  float values[16], logits[16];
  uint32_t words[16];
  vf16_store(values, magnitudes);
  __builtin_memcpy(words, values, sizeof words);
  vf16_store(logits, x);
  lathe_candidate_counts at = *kept;
  // Without a branch: written where it would belong, and kept or not.
  for (uint32_t j = 0; j < width; j++) {
    const size_t is_kept = logits[j] >= floor, is_near = values[j] <= middle;
    uint64_t *place = is_near ? near + at.near : far + at.far;
    *place = (uint64_t)words[j] << 32 | (first + j);
    at.near += is_kept & is_near;
    at.far += is_kept & (is_near ^ 1);
  }
  *kept = at;
}
VF16_FN vf16 vf16_load_ranks(const uint64_t *p) {
  uint32_t words[16];
  float values[16];
  for (size_t j = 0; j < 16; j++) words[j] = (uint32_t)(p[j] >> 32);
  __builtin_memcpy(values, words, sizeof values);
  return vf16_load(values);
}
#endif

VF16_FN vf16 vf16_relu(vf16 x) { return vf16_max(vf16_zero(), x); }

VF16_FN vf16 vf16_exp(vf16 x) {
  x = vf16_min(vf16_set1(LATHE_EXP_LIMIT), vf16_max(vf16_set1(-LATHE_EXP_LIMIT), x));
  vi16 n = vf16_to_vi16(vf16_mul(x, vf16_set1(LATHE_LOG2_E)));
  vf16 m = vf16_from_vi16(n);
  vf16 r = vf16_fma(m, vf16_set1(-LATHE_LN2_HIGH), x);
  r = vf16_fma(m, vf16_set1(-LATHE_LN2_LOW), r);
  vf16 p = vf16_fma(r, vf16_set1(LATHE_EXP_C6), vf16_set1(LATHE_EXP_C5));
  p = vf16_fma(r, p, vf16_set1(LATHE_EXP_C4));
  p = vf16_fma(r, p, vf16_set1(LATHE_EXP_C3));
  p = vf16_fma(r, p, vf16_set1(LATHE_EXP_C2));
  p = vf16_fma(r, p, vf16_set1(1.0f));
  p = vf16_fma(r, p, vf16_set1(1.0f));
  return vf16_scale_by_power(p, n);
}

VF16_FN vf16 vf16_gelu_tanh(vf16 x) {
  vf16 t = vf16_mul(x, x);
  vf16 z = vf16_mul(x, vf16_fma(t, vf16_set1(LATHE_GELU_A3), vf16_set1(LATHE_GELU_A1)));
  return vf16_div(x, vf16_add(vf16_set1(1.0f), vf16_exp(z)));
}

VF16_FN vf16 vf16_gelu_erf(vf16 x) {
  vf16 a = vf16_abs(x);
  vf16 e = vf16_exp(vf16_mul(a, vf16_mul(a, vf16_set1(-0.5f))));
  vf16 t = vf16_div(vf16_set1(1.0f), vf16_fma(a, vf16_set1(LATHE_ERFC_P), vf16_set1(1.0f)));
  vf16 p = vf16_fma(t, vf16_set1(LATHE_ERFC_T6), vf16_set1(LATHE_ERFC_T5));
  p = vf16_fma(t, p, vf16_set1(LATHE_ERFC_T4));
  p = vf16_fma(t, p, vf16_set1(LATHE_ERFC_T3));
  p = vf16_fma(t, p, vf16_set1(LATHE_ERFC_T2));
  p = vf16_fma(t, p, vf16_set1(LATHE_ERFC_T1));
  return vf16_sub(vf16_relu(x), vf16_mul(vf16_mul(a, vf16_mul(t, p)), e));
}

VF16_FN vf16 vf16_activate(lathe_epilogue activation, vf16 x) {
  switch (activation) {
    case LATHE_EPILOGUE_NONE: return x;
    case LATHE_EPILOGUE_GELU_TANH: return vf16_gelu_tanh(x);
    case LATHE_EPILOGUE_GELU_ERF: return vf16_gelu_erf(x);
    case LATHE_EPILOGUE_RELU: return vf16_relu(x);
  }
  return x;
}

// fma(float(acc) · activation_scale, weight_scale, bias); acc has its zero point taken off, bias is +0 where there is none.
VF16_FN vf16 vf16_dequantize(vi16 acc, vf16 activation_scale, vf16 weight_scale, vf16 bias) {
  return vf16_fma(vf16_mul(vf16_from_vi16(acc), activation_scale), weight_scale, bias);
}

// The end of a linear layer: output[0 …< count] = act(x) + residual[0 …< count]; residual may be NULL or the output.
VF16_FN void vf16_finish(vf16 x, lathe_epilogue activation, const float *residual, float *output, size_t count) {
  x = vf16_activate(activation, x);
  if (count >= 16) {
    if (residual) x = vf16_add(x, vf16_load(residual));
    vf16_store(output, x);
  } else {
    if (residual) x = vf16_add(x, vf16_load_tail(residual, count));
    vf16_store_tail(output, x, count);
  }
}
