// The vector kernels for AVX2, FMA and F16C.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "vector.h"

#if defined(__x86_64__)

#include <string.h>

#include "../simd/vf16_avx2.h"

#define LATHE_NAME(function) lathe_##function##_avx2
#define LATHE_TARGET __attribute__((target(LATHE_VF16_TARGET)))
// 16 registers: 6 rows of two accumulators each, two for K or V, one for the query.
#define LATHE_QUERY_ROWS 6
#define LATHE_KEY_GROUPS 1
#define LATHE_VALUE_VECTORS 1

#pragma clang attribute push(LATHE_TARGET, apply_to = function)
#include "rows.inc"
#include "cache.inc"
#include "attention.inc"
#pragma clang attribute pop

#endif
