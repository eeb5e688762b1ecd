// The quantize kernels for AVX-512 (F, BW, DQ, VL).
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "quantize.h"

#if defined(__x86_64__)

#include <string.h>

#include "../simd/vf16_avx512.h"

#define LATHE_NAME(function) lathe_##function##_avx512
#define LATHE_TARGET __attribute__((target(LATHE_VF16_TARGET)))
#pragma clang attribute push(LATHE_TARGET, apply_to = function)
#include "quantize.inc"
#pragma clang attribute pop

#endif
