// The quantize kernels for NEON.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "quantize.h"

#if defined(__aarch64__)

#include <string.h>

#include "../simd/vf16_neon.h"

#define LATHE_NAME(function) lathe_##function##_neon
#include "quantize.inc"

#endif
