// The int8 linear layer: a file for each weight format and instruction set, <format>_<isa>.c. The scalar ones are the
// definitions; kernel_tables.c registers all of them.
#ifndef LATHE_LINEAR_QD8_H
#define LATHE_LINEAR_QD8_H

#include "CKernels.h"

enum { LATHE_PANEL_COLUMNS = 16, LATHE_DEPTH_BLOCK = 64 };

// Bytes of one panel: 16 columns over the padded depth.
static inline size_t lathe_qc8w_panel_bytes(size_t depth) {
  return lathe_round_up(depth, LATHE_DEPTH_BLOCK) * LATHE_PANEL_COLUMNS;
}

// The same of int4.
static inline size_t lathe_qc4w_panel_bytes(size_t depth) { return lathe_qc8w_panel_bytes(depth) / 2; }
// Multipliers of a panel: [groups][16].
static inline size_t lathe_qc4w_panel_multipliers(const lathe_weights *weights) {
  return lathe_qc4w_groups(weights->depth, weights->group_size) * LATHE_PANEL_COLUMNS;
}
// The number that the low nibble stands for, in −8…7; of the high one, that of nibbles >> 4.
static inline int32_t lathe_nibble(uint32_t nibbles) { return (int32_t)((nibbles & 15) ^ 8) - 8; }

void lathe_linear_qd8_qc8w_scalar(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
#if defined(__x86_64__)
// Activations stored as LATHE_ACTIVATIONS_I16_CENTERED; the others take LATHE_ACTIVATIONS_U8.
void lathe_linear_qd8_qc8w_avx2(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc8w_avxvnni(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc8w_avx512vnni(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc8w_amx(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
#elif defined(__aarch64__)
void lathe_linear_qd8_qc8w_neon(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc8w_neondot(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc8w_neoni8mm(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
#endif

void lathe_linear_qd8_qc4w_scalar(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
#if defined(__x86_64__)
void lathe_linear_qd8_qc4w_avx2(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc4w_avxvnni(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc4w_avx512vnni(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
#elif defined(__aarch64__)
void lathe_linear_qd8_qc4w_neon(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc4w_neondot(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
#endif

void lathe_expand_qc4w_scalar(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
#if defined(__x86_64__)
void lathe_expand_qc4w_avx2(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
void lathe_expand_qc4w_avx512(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
#elif defined(__aarch64__)
void lathe_expand_qc4w_neon(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
#endif
void lathe_linear_qd8_qc8w_sparse_scalar(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc4w_sparse_scalar(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
#if defined(__x86_64__)
void lathe_linear_qd8_qc8w_sparse_avx512vbmi2(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
void lathe_linear_qd8_qc4w_sparse_avx512vbmi2(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);
#endif

void lathe_expand_qc8w_scalar(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
void lathe_expand_qc8w_sparse_scalar(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
void lathe_expand_qc4w_sparse_scalar(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
#if defined(__x86_64__)
void lathe_expand_qc8w_sparse_avx512vbmi2(
    const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
void lathe_expand_qc4w_sparse_avx512vbmi2(
    const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);
#endif

#endif
