// The float32 linear layer, one file per instruction set. The definition is linear_f32_scalar.c; kernel_tables.c
// registers all of them.
#ifndef LATHE_LINEAR_F32_H
#define LATHE_LINEAR_F32_H

#include "CKernels.h"

enum { LATHE_F32_PANEL_COLUMNS = 16 };

void lathe_linear_f32_scalar(const lathe_linear_f32 *operation, size_t panel_begin, size_t panel_end);
#if defined(__x86_64__)
void lathe_linear_f32_avx2(const lathe_linear_f32 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_f32_avx512(const lathe_linear_f32 *operation, size_t panel_begin, size_t panel_end);
#elif defined(__aarch64__)
void lathe_linear_f32_neon(const lathe_linear_f32 *operation, size_t panel_begin, size_t panel_end);
#endif

#endif
