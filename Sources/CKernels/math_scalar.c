// The scalar definitions of the canonical float functions. Plain C; the only library functions are fmaf, sqrtf, lrintf.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "simd/math_scalar.h"

#include <math.h>
#include <string.h>

#include "simd/constants.h"

static float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t bits_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

int32_t lathe_round_to_int(float x) { return (int32_t)lrintf(x); }

// Relative error ≤ 7.7e-8, measured against float64 at every float of ±86. The bounds are written so that a NaN passes.
float lathe_exp(float x) {
  x = lathe_min(LATHE_EXP_LIMIT, lathe_max(-LATHE_EXP_LIMIT, x));
  int32_t n = lathe_round_to_int(x * LATHE_LOG2_E);
  float m = (float)n;
  float r = fmaf(m, -LATHE_LN2_HIGH, x);
  r = fmaf(m, -LATHE_LN2_LOW, r);
  float p = fmaf(r, LATHE_EXP_C6, LATHE_EXP_C5);
  p = fmaf(r, p, LATHE_EXP_C4);
  p = fmaf(r, p, LATHE_EXP_C3);
  p = fmaf(r, p, LATHE_EXP_C2);
  p = fmaf(r, p, 1.0f);
  p = fmaf(r, p, 1.0f);
  return float_of_bits(bits_of_float(p) + ((uint32_t)n << 23));
}

float lathe_log(float x) {
  uint32_t offset = bits_of_float(x) - LATHE_SQRT_HALF_BITS;
  int32_t e = (int32_t)(offset >> 23);
  if (e >= 256) e -= 512;  // the exponent of numbers below √½ is negative
  float f = float_of_bits((offset & 0x7fffff) + LATHE_SQRT_HALF_BITS) - 1.0f;
  float p = fmaf(f, LATHE_LOG_L9, LATHE_LOG_L8);
  p = fmaf(f, p, LATHE_LOG_L7);
  p = fmaf(f, p, LATHE_LOG_L6);
  p = fmaf(f, p, LATHE_LOG_L5);
  p = fmaf(f, p, LATHE_LOG_L4);
  p = fmaf(f, p, LATHE_LOG_L3);
  p = fmaf(f, p, LATHE_LOG_L2);
  p = fmaf(f * f, p, f);
  p = fmaf((float)e, LATHE_LN2_LOW, p);
  return fmaf((float)e, LATHE_LN2_HIGH, p);
}

float lathe_gelu_tanh(float x) {
  float t = x * x;
  float z = x * fmaf(t, LATHE_GELU_A3, LATHE_GELU_A1);
  return x / (1.0f + lathe_exp(z));
}

float lathe_gelu_erf(float x) {
  float a = fabsf(x);
  float e = lathe_exp(a * (a * -0.5f));
  float t = 1.0f / fmaf(a, LATHE_ERFC_P, 1.0f);
  float p = fmaf(t, LATHE_ERFC_T6, LATHE_ERFC_T5);
  p = fmaf(t, p, LATHE_ERFC_T4);
  p = fmaf(t, p, LATHE_ERFC_T3);
  p = fmaf(t, p, LATHE_ERFC_T2);
  p = fmaf(t, p, LATHE_ERFC_T1);
  return lathe_max(0.0f, x) - (a * (t * p)) * e;
}

float lathe_activate(lathe_epilogue activation, float x) {
  switch (activation) {
    case LATHE_EPILOGUE_NONE: return x;
    case LATHE_EPILOGUE_GELU_TANH: return lathe_gelu_tanh(x);
    case LATHE_EPILOGUE_GELU_ERF: return lathe_gelu_erf(x);
    case LATHE_EPILOGUE_RELU: return lathe_max(0.0f, x);
  }
  return x;
}

uint16_t lathe_half_from_float(float x) {
  uint32_t bits = bits_of_float(x);
  uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | (uint16_t)(magnitude >> 13 & 0x3ff);  // NaN, made quiet
  if (magnitude >= bits_of_float(LATHE_HALF_MAX)) return sign | 0x7bff;
  if (magnitude >= 0x38800000) {  // 2⁻¹⁴ and above: a normal half
    // Rebase the exponent from 127 to 15; adding half of the dropped bits, less one if the kept part is even, rounds.
    uint32_t rounded = magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1);
    return sign | (uint16_t)(rounded >> 13);
  }
  if (magnitude < 0x33000000) return sign;  // below 2⁻²⁵, half of the least denormal
  // A denormal half counts units of 2⁻²⁴: the significand shifted right by 126 − exponent.
  uint32_t shift = 126 - (magnitude >> 23);
  uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
  uint32_t kept = significand >> shift;
  uint32_t dropped = significand & ((1u << shift) - 1);
  uint32_t half = 1u << (shift - 1);
  if (dropped > half || (dropped == half && (kept & 1))) kept++;
  return sign | (uint16_t)kept;
}

float lathe_float_from_half(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16;
  uint32_t exponent = h >> 10 & 0x1f;
  uint32_t significand = h & 0x3ff;
  if (exponent == 31) return float_of_bits(sign | 0x7f800000 | significand << 13 | (significand ? 0x400000u : 0));
  if (exponent == 0) {
    float magnitude = (float)significand * 0x1p-24f;  // exact
    return float_of_bits(sign | bits_of_float(magnitude));
  }
  return float_of_bits(sign | (exponent + 112) << 23 | significand << 13);
}

float lathe_sum_lanes(float lanes[16]) {
  for (size_t half = 8; half >= 1; half /= 2) {
    for (size_t i = 0; i < half; i++) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}
