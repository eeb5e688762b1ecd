// The vector kernels: their functions for each instruction set (kernel_tables.c registers them) and how they address
// the key-value cache.
#ifndef LATHE_VECTOR_H
#define LATHE_VECTOR_H

#include "CKernels.h"

#define LATHE_VECTOR_FUNCTIONS(isa)                                                                              \
  void lathe_layer_norm_##isa(                                                                                   \
      const float *x, size_t x_stride_bytes, size_t rows, size_t width, const float *gamma, const float *beta,   \
      float epsilon, float *y, size_t y_stride_bytes);                                                           \
  void lathe_activate_##isa(const float *x, size_t count, lathe_epilogue activation, float *y);                  \
  void lathe_add_##isa(const float *a, const float *b, size_t count, float *y);                                  \
  float lathe_log_sum_exp_##isa(const float *x, size_t count);                                                   \
  void lathe_combine_halves_##isa(                                                                               \
      const float *high, const float *low, size_t count, float activation_scale, const float *weight_scales,     \
      const float *bias, float *y);                                                                              \
  size_t lathe_greatest_##isa(const float *x, size_t count);                                                     \
  lathe_candidate_counts lathe_candidates_##isa(                                                                 \
      const float *x, size_t count, float best, float floor, float temperature, float middle, uint64_t *near,    \
      uint64_t *far);                                                                                            \
  void lathe_exp_ranks_##isa(const uint64_t *keys, size_t count, float *y);                                      \
  float lathe_add_unordered_##isa(float sum, const float *x, size_t count);                                      \
  void lathe_kv_store_##isa(                                                                                     \
      const lathe_kv_head *head, size_t first_position, size_t rows, const float *keys, size_t key_stride_bytes, \
      const float *values, size_t value_stride_bytes);                                                           \
  void lathe_attention_##isa(const lathe_attention *operation);                                                  \
  void lathe_embed_qc8w_##isa(const lathe_embedding *operation);                                                 \
  void lathe_embed_f32_##isa(const lathe_embedding *operation);

LATHE_VECTOR_FUNCTIONS(scalar)
LATHE_VECTOR_FUNCTIONS(avx2)
LATHE_VECTOR_FUNCTIONS(avx512)
LATHE_VECTOR_FUNCTIONS(neon)

// On every instruction set: a few hundred gathered elements a token.
void lathe_embed_qc4w_scalar(const lathe_embedding *operation);
void lathe_embed_qc8w_sparse_scalar(const lathe_embedding *operation);
void lathe_embed_qc4w_sparse_scalar(const lathe_embedding *operation);

// The output of attention is one chain of fused multiply-adds for each so many positions.
enum { LATHE_ATTENTION_CHAIN = 256 };
// No attention kernel works on more queries than this at once; it sizes the scratch.
enum { LATHE_ATTENTION_ROWS = 12 };

// Where the parts of an attention's scratch begin, in floats.
typedef struct {
  size_t queries;          // [LATHE_ATTENTION_ROWS][row_floats], already multiplied by the scale
  size_t chains;           // [LATHE_ATTENTION_ROWS][row_floats], of the 256 positions at hand
  size_t totals;           // [LATHE_ATTENTION_ROWS][row_floats], of the chains before
  size_t scores;           // [LATHE_ATTENTION_ROWS][score_floats]
  size_t row_floats;       // head_dim rounded up to 16
  size_t score_floats;     // positions rounded up to a block, and 16 more: rows must not all fall into one cache set
  size_t all;
} lathe_attention_layout;

static inline lathe_attention_layout lathe_attention_layout_of(size_t positions, size_t head_dim) {
  lathe_attention_layout layout;
  layout.row_floats = lathe_round_up(head_dim, 16);
  layout.score_floats = lathe_round_up(positions, LATHE_KV_BLOCK_TOKENS) + 16;
  layout.queries = 0;
  layout.chains = LATHE_ATTENTION_ROWS * layout.row_floats;
  layout.totals = 2 * layout.chains;
  layout.scores = 3 * layout.chains;
  layout.all = layout.scores + LATHE_ATTENTION_ROWS * layout.score_floats;
  return layout;
}

static inline size_t lathe_kv_element_bytes(lathe_kv_type type) {
  return type == LATHE_KV_I8 ? 1 : type == LATHE_KV_F16 ? 2 : 4;
}

// Of the block that holds `position`: K of the group of 16 tokens that starts there ([head_dim][16]).
static inline uint8_t *lathe_kv_keys(const lathe_kv_head *head, size_t position) {
  const size_t group = position % LATHE_KV_BLOCK_TOKENS / 16;
  return head->blocks[position / LATHE_KV_BLOCK_TOKENS] + head->key_offset_bytes
      + group * head->head_dim * 16 * lathe_kv_element_bytes(head->type);
}

// V of `position` ([head_dim rounded up to 16]).
static inline uint8_t *lathe_kv_values(const lathe_kv_head *head, size_t position) {
  const size_t token = position % LATHE_KV_BLOCK_TOKENS;
  return head->blocks[position / LATHE_KV_BLOCK_TOKENS] + head->value_offset_bytes
      + token * lathe_round_up(head->head_dim, 16) * lathe_kv_element_bytes(head->type);
}

// int8: the scales of K, and of V, of `position`; those of its block lie side by side behind the numbers.
static inline float *lathe_kv_key_scales(const lathe_kv_head *head, size_t position) {
  uint8_t *scales = head->blocks[position / LATHE_KV_BLOCK_TOKENS] + head->key_offset_bytes
      + LATHE_KV_BLOCK_TOKENS * head->head_dim;
  return (float *)scales + position % LATHE_KV_BLOCK_TOKENS;
}
static inline float *lathe_kv_value_scales(const lathe_kv_head *head, size_t position) {
  uint8_t *scales = head->blocks[position / LATHE_KV_BLOCK_TOKENS] + head->value_offset_bytes
      + LATHE_KV_BLOCK_TOKENS * lathe_round_up(head->head_dim, 16);
  return (float *)scales + position % LATHE_KV_BLOCK_TOKENS;
}

// The unit in the last place of a sum of at least 1, and how many of them are 1: powers of two.
typedef struct {
  float size, per_one;
} lathe_unit;
static inline lathe_unit lathe_unit_of(float sum) {
  uint32_t bits;
  __builtin_memcpy(&bits, &sum, sizeof bits);
  const uint32_t exponent = bits >> 23, size = (exponent - 23) << 23, per_one = (277 - exponent) << 23;
  lathe_unit unit;
  __builtin_memcpy(&unit.size, &size, sizeof size);
  __builtin_memcpy(&unit.per_one, &per_one, sizeof per_one);
  return unit;
}
// The sum and so many of its units; a NaN where that reaches the next power of two, from which on the unit is another.
static inline float lathe_add_units(float sum, float units, lathe_unit unit) {
  const float all = sum * unit.per_one + units;
  return all < 0x1p24f ? all * unit.size : __builtin_nanf("");
}

static inline const float *lathe_row(const float *base, size_t row, size_t stride_bytes) {
  return (const float *)((const char *)base + row * stride_bytes);
}
static inline float *lathe_row_mutable(float *base, size_t row, size_t stride_bytes) {
  return (float *)((char *)base + row * stride_bytes);
}

#endif
