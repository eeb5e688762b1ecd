// The vector kernels for AVX-512 (F, BW, DQ, VL).
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "vector.h"

#if defined(__x86_64__)

#include <string.h>

#include "../simd/vf16_avx512.h"

#define LATHE_NAME(function) lathe_##function##_avx512
#define LATHE_TARGET __attribute__((target(LATHE_VF16_TARGET)))
// 32 registers: 12 rows of two accumulators, two for K or V. More rows share each conversion from 16 bits.
#define LATHE_QUERY_ROWS 12
#define LATHE_KEY_GROUPS 2
#define LATHE_VALUE_VECTORS 2

#pragma clang attribute push(LATHE_TARGET, apply_to = function)
#include "rows.inc"
#include "cache.inc"
#include "attention.inc"
#pragma clang attribute pop

#endif
