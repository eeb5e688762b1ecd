// The vector kernels for NEON.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "vector.h"

#if defined(__aarch64__)

#include <string.h>

#include "../simd/vf16_neon.h"

#define LATHE_NAME(function) lathe_##function##_neon
// 32 registers: 6 rows of four accumulators each, four for K or V, one for the query.
#define LATHE_QUERY_ROWS 6
#define LATHE_KEY_GROUPS 1
#define LATHE_VALUE_VECTORS 1

#include "rows.inc"
#include "cache.inc"
#include "attention.inc"

#endif
