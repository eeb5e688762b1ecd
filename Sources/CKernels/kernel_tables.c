// The kernels that exist, one line each. What is listed here is dispatched, tested and timed.
//
// Every table starts with its scalar definition and ascends: the last entry that a machine can run is its best.
#include "CKernels.h"

#include "linear_f32/linear_f32.h"
#include "linear_qd8/linear_qd8.h"
#include "quantize/quantize.h"
#include "vector/vector.h"

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))
#define AVX2 LATHE_CPU_AVX2
#define AVX512 (LATHE_CPU_AVX2 | LATHE_CPU_AVX512)
#define NEON LATHE_CPU_NEON
#define NEONDOT (LATHE_CPU_NEON | LATHE_CPU_NEON_DOT)
#define NEONI8MM (NEONDOT | LATHE_CPU_NEON_I8MM)
#define AVX512VBMI2 (AVX512 | LATHE_CPU_AVX512VNNI | LATHE_CPU_AVX512VBMI2)

static bool can_run(uint32_t needed, uint32_t features) { return (needed & ~features) == 0; }

// MARK: - Quantized activations

#define QUANTIZE(isa, features)                                                    \
  {                                                                                \
    #isa, features, {lathe_quantize_rows_u8_##isa, lathe_quantize_rows_i16_##isa}, \
        {lathe_quantize_halves_u8_##isa, lathe_quantize_halves_i16_##isa}          \
  }

static const lathe_quantize_kernel quantize_kernels[] = {
    QUANTIZE(scalar, 0),
#if defined(__x86_64__)
    QUANTIZE(avx2, AVX2),
    QUANTIZE(avx512, AVX512),
#elif defined(__aarch64__)
    QUANTIZE(neon, NEON),
#endif
};

const lathe_quantize_kernel *lathe_quantize_kernels(size_t *count) {
  *count = COUNT_OF(quantize_kernels);
  return quantize_kernels;
}

const lathe_quantize_kernel *lathe_quantize_select(uint32_t features) {
  const lathe_quantize_kernel *best = quantize_kernels;
  for (size_t i = 0; i < COUNT_OF(quantize_kernels); i++) {
    if (can_run(quantize_kernels[i].features, features)) best = &quantize_kernels[i];
  }
  return best;
}

// MARK: - Linear layers

#define LINEAR_QD8(format, FORMAT, isa, features, storage, minimum_rows, maximum_rows) \
  {#isa, FORMAT, features, storage, minimum_rows, maximum_rows, lathe_linear_qd8_##format##_##isa}
#define ANY SIZE_MAX

static const lathe_linear_qd8_kernel linear_qd8_kernels[] = {
    LINEAR_QD8(qc8w, LATHE_QC8W, scalar, 0, LATHE_ACTIVATIONS_U8, 1, ANY),
#if defined(__x86_64__)
    LINEAR_QD8(qc8w, LATHE_QC8W, avx2, AVX2, LATHE_ACTIVATIONS_I16_CENTERED, 1, ANY),
    LINEAR_QD8(qc8w, LATHE_QC8W, avxvnni, AVX2 | LATHE_CPU_AVXVNNI, LATHE_ACTIVATIONS_U8, 1, ANY),
    LINEAR_QD8(qc8w, LATHE_QC8W, avx512vnni, AVX512 | LATHE_CPU_AVX512VNNI, LATHE_ACTIVATIONS_U8, 1, ANY),
    // Up to seven rows AVX-512-VNNI is as fast as memory gives weights, and tiles would be mostly empty.
    LINEAR_QD8(
        qc8w, LATHE_QC8W, amx, AVX512 | LATHE_CPU_AVX512VNNI | LATHE_CPU_AMX_INT8, LATHE_ACTIVATIONS_U8, 8, ANY),
#elif defined(__aarch64__)
    LINEAR_QD8(qc8w, LATHE_QC8W, neon, NEON, LATHE_ACTIVATIONS_U8, 1, ANY),
    LINEAR_QD8(qc8w, LATHE_QC8W, neondot, NEONDOT, LATHE_ACTIVATIONS_U8, 1, ANY),
    // It multiplies two rows at once; one alone would be multiplied twice.
    LINEAR_QD8(qc8w, LATHE_QC8W, neoni8mm, NEONI8MM, LATHE_ACTIVATIONS_U8, 2, ANY),
#endif
    LINEAR_QD8(qc4w, LATHE_QC4W, scalar, 0, LATHE_ACTIVATIONS_U8, 1, ANY),
#if defined(__x86_64__)
    LINEAR_QD8(qc4w, LATHE_QC4W, avx2, AVX2, LATHE_ACTIVATIONS_U8, 1, ANY),
    LINEAR_QD8(qc4w, LATHE_QC4W, avxvnni, AVX2 | LATHE_CPU_AVXVNNI, LATHE_ACTIVATIONS_U8, 1, 12),
    LINEAR_QD8(qc4w, LATHE_QC4W, avx512vnni, AVX512 | LATHE_CPU_AVX512VNNI, LATHE_ACTIVATIONS_U8, 1, 12),
#elif defined(__aarch64__)
    LINEAR_QD8(qc4w, LATHE_QC4W, neon, NEON, LATHE_ACTIVATIONS_U8, 1, ANY),
    LINEAR_QD8(qc4w, LATHE_QC4W, neondot, NEONDOT, LATHE_ACTIVATIONS_U8, 1, 12),
#endif
    LINEAR_QD8(qc8w_sparse, LATHE_QC8W_SPARSE, scalar, 0, LATHE_ACTIVATIONS_U8, 1, ANY),
#if defined(__x86_64__)
    LINEAR_QD8(qc8w_sparse, LATHE_QC8W_SPARSE, avx512vbmi2, AVX512VBMI2, LATHE_ACTIVATIONS_U8, 1, 8),
#endif
    LINEAR_QD8(qc4w_sparse, LATHE_QC4W_SPARSE, scalar, 0, LATHE_ACTIVATIONS_U8, 1, ANY),
#if defined(__x86_64__)
    LINEAR_QD8(qc4w_sparse, LATHE_QC4W_SPARSE, avx512vbmi2, AVX512VBMI2, LATHE_ACTIVATIONS_U8, 1, 8),
#endif
};

const lathe_linear_qd8_kernel *lathe_linear_qd8_kernels(size_t *count) {
  *count = COUNT_OF(linear_qd8_kernels);
  return linear_qd8_kernels;
}

static const lathe_expand_kernel expand_kernels[] = {
    {"scalar", LATHE_QC8W, 0, lathe_expand_qc8w_scalar},
    {"scalar", LATHE_QC4W, 0, lathe_expand_qc4w_scalar},
#if defined(__x86_64__)
    {"avx2", LATHE_QC4W, AVX2, lathe_expand_qc4w_avx2},
    {"avx512", LATHE_QC4W, AVX512, lathe_expand_qc4w_avx512},
#elif defined(__aarch64__)
    {"neon", LATHE_QC4W, NEON, lathe_expand_qc4w_neon},
#endif
    {"scalar", LATHE_QC8W_SPARSE, 0, lathe_expand_qc8w_sparse_scalar},
#if defined(__x86_64__)
    {"avx512vbmi2", LATHE_QC8W_SPARSE, AVX512VBMI2, lathe_expand_qc8w_sparse_avx512vbmi2},
#endif
    {"scalar", LATHE_QC4W_SPARSE, 0, lathe_expand_qc4w_sparse_scalar},
#if defined(__x86_64__)
    {"avx512vbmi2", LATHE_QC4W_SPARSE, AVX512VBMI2, lathe_expand_qc4w_sparse_avx512vbmi2},
#endif
};

const lathe_expand_kernel *lathe_expand_kernels(size_t *count) {
  *count = COUNT_OF(expand_kernels);
  return expand_kernels;
}

const lathe_expand_kernel *lathe_expand_select(lathe_weight_format format, uint32_t features) {
  const lathe_expand_kernel *best = NULL;
  for (size_t i = 0; i < COUNT_OF(expand_kernels); i++) {
    const lathe_expand_kernel *kernel = &expand_kernels[i];
    if (kernel->format == format && can_run(kernel->features, features)) best = kernel;
  }
  return best;
}

// The last kernel of that format that these features can run, of those that want no more rows; NULL where it wants fewer: a
// lesser instruction set reading the format would be slower than this one reading expanded panels.
static const lathe_linear_qd8_kernel *linear_qd8_select(lathe_weight_format format, uint32_t features, size_t rows) {
  const lathe_linear_qd8_kernel *best = NULL;
  for (size_t i = 0; i < COUNT_OF(linear_qd8_kernels); i++) {
    const lathe_linear_qd8_kernel *kernel = &linear_qd8_kernels[i];
    if (kernel->format == format && rows >= kernel->minimum_rows && can_run(kernel->features, features)) best = kernel;
  }
  return best && rows <= best->maximum_rows ? best : NULL;
}

// Whether a format's own kernel beats its expansion: any that is vectorized does, and where nothing is vectorized, the
// definition does.
static bool reads_well(const lathe_linear_qd8_kernel *own, const lathe_linear_qd8_kernel *dense) {
  return own && (own->features != 0 || dense->features == 0);
}

lathe_linear_qd8_choice lathe_linear_qd8_choose(lathe_weight_format format, uint32_t features, size_t rows) {
  const lathe_linear_qd8_kernel *own = linear_qd8_select(format, features, rows);
  const lathe_linear_qd8_kernel *dense = linear_qd8_select(LATHE_QC8W, features, rows);
  if (reads_well(own, dense)) return (lathe_linear_qd8_choice){own, NULL};
  return (lathe_linear_qd8_choice){dense, lathe_expand_select(format, features)};
}

lathe_weight_format lathe_linear_qd8_resident_format(lathe_weight_format format, uint32_t features) {
  const lathe_linear_qd8_kernel *own = linear_qd8_select(format, features, 1);
  const lathe_linear_qd8_kernel *dense = linear_qd8_select(LATHE_QC8W, features, 1);
  if (reads_well(own, dense)) return format;
  return format == LATHE_QC4W_SPARSE ? LATHE_QC4W : LATHE_QC8W;
}

static const lathe_linear_f32_kernel linear_f32_kernels[] = {
    {"scalar", 0, lathe_linear_f32_scalar},
#if defined(__x86_64__)
    {"avx2", AVX2, lathe_linear_f32_avx2},
    {"avx512", AVX512, lathe_linear_f32_avx512},
#elif defined(__aarch64__)
    {"neon", NEON, lathe_linear_f32_neon},
#endif
};

const lathe_linear_f32_kernel *lathe_linear_f32_kernels(size_t *count) {
  *count = COUNT_OF(linear_f32_kernels);
  return linear_f32_kernels;
}

const lathe_linear_f32_kernel *lathe_linear_f32_select(uint32_t features) {
  const lathe_linear_f32_kernel *best = linear_f32_kernels;
  for (size_t i = 0; i < COUNT_OF(linear_f32_kernels); i++) {
    if (can_run(linear_f32_kernels[i].features, features)) best = &linear_f32_kernels[i];
  }
  return best;
}

// MARK: - Normalization, activation, attention, embedding

#define VECTOR(isa, features)                                                                                \
  {                                                                                                          \
    #isa, features, lathe_layer_norm_##isa, lathe_activate_##isa, lathe_add_##isa, lathe_log_sum_exp_##isa,  \
        lathe_combine_halves_##isa, lathe_greatest_##isa, lathe_candidates_##isa, lathe_exp_ranks_##isa,     \
        lathe_add_unordered_##isa, lathe_kv_store_##isa, lathe_attention_##isa,                              \
        {[LATHE_QC8W] = lathe_embed_qc8w_##isa,                                                              \
         [LATHE_QC4W] = lathe_embed_qc4w_scalar,                                                             \
         [LATHE_QC8W_SPARSE] = lathe_embed_qc8w_sparse_scalar,                                                      \
         [LATHE_QC4W_SPARSE] = lathe_embed_qc4w_sparse_scalar},                                                     \
        lathe_embed_f32_scalar /* one gathered element at a time on every instruction set */                 \
  }

static const lathe_vector_kernel vector_kernels[] = {
    VECTOR(scalar, 0),
#if defined(__x86_64__)
    VECTOR(avx2, AVX2),
    VECTOR(avx512, AVX512),
#elif defined(__aarch64__)
    VECTOR(neon, NEON),
#endif
};

const lathe_vector_kernel *lathe_vector_kernels(size_t *count) {
  *count = COUNT_OF(vector_kernels);
  return vector_kernels;
}

const lathe_vector_kernel *lathe_vector_select(uint32_t features) {
  const lathe_vector_kernel *best = vector_kernels;
  for (size_t i = 0; i < COUNT_OF(vector_kernels); i++) {
    if (can_run(vector_kernels[i].features, features)) best = &vector_kernels[i];
  }
  return best;
}
