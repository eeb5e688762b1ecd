// Attention and the cache that it reads, in each type of cache, in the sizes of GPT-2 small: 12 layers of 12
// heads of 64.
//
// The last of 1024 positions are asked for: 1 query is decoding, 12 a short chunk and 512 a long one. Few queries are
// taken of every head of every layer, so that the cache comes from memory; many of the heads of one layer. The bytes
// are those of keys and values, once a head; the operations those of the two products, without the exponential
// functions between them.
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "families.h"

enum { HEAD_DIM = 64, HEADS = 12, LAYERS = 12, ALL_HEADS = HEADS * LAYERS, POSITIONS = 1024 };
enum { BLOCKS = POSITIONS / LATHE_KV_BLOCK_TOKENS, MANY_ROWS = 16 };
static const size_t queries[] = {1, 12, 512}, stored[] = {1, 512};

static const char *const type_names[LATHE_KV_TYPES] = {"f32", "f16", "i8"};
static const size_t element_bytes[LATHE_KV_TYPES] = {4, 2, 1};

static struct {
  uint8_t *memory, *blocks[BLOCKS];
  float *rows, *output, *scratch;  // rows: queries, keys or values, one head after the other
} data;

// Bytes of one head's keys in one block, scales included; its values are as many and follow them.
static size_t head_bytes(lathe_kv_type type) {
  const size_t scales = type == LATHE_KV_I8 ? LATHE_KV_BLOCK_TOKENS * sizeof(float) : 0;
  return LATHE_KV_BLOCK_TOKENS * HEAD_DIM * element_bytes[type] + scales;
}

// Fills the cache anew: what is ordinary in one type need not be in another.
static void make_cache(lathe_kv_type type) {
  const size_t block_bytes = ALL_HEADS * 2 * head_bytes(type);
  if (!data.rows) {
    data.rows = filled((size_t)ALL_HEADS * MAXIMUM_ROWS * HEAD_DIM * sizeof(float), ORDINARY);
    data.output = filled((size_t)MAXIMUM_ROWS * HEAD_DIM * sizeof(float), 0);
    data.scratch = filled(lathe_attention_scratch_floats(POSITIONS, HEAD_DIM) * sizeof(float), 0);
  }
  data.memory = filled(BLOCKS * block_bytes, ORDINARY);
  for (size_t b = 0; b < BLOCKS; b++) data.blocks[b] = data.memory + b * block_bytes;
}

typedef struct {
  const lathe_vector_kernel *kernel;
  lathe_kv_type type;
  size_t heads, rows;
} subject;

static lathe_kv_head head_at(const subject *s, size_t head) {
  const size_t bytes = head_bytes(s->type);
  return (lathe_kv_head){
      .type = s->type, .head_dim = HEAD_DIM, .blocks = data.blocks, .key_offset_bytes = head * 2 * bytes,
      .value_offset_bytes = (head * 2 + 1) * bytes};
}

static const float *rows_of(const subject *s, size_t head) { return data.rows + head * s->rows * HEAD_DIM; }

// MARK: - Attention

static void attend(const void *context) {
  const subject *s = context;
  for (size_t h = 0; h < s->heads; h++) {
    const lathe_kv_head head = head_at(s, h);
    const lathe_attention operation = {
        .head = &head, .first_position = POSITIONS - s->rows, .rows = s->rows, .queries = rows_of(s, h),
        .query_stride_bytes = HEAD_DIM * sizeof(float), .scale = 0.125f, .output = data.output,
        .output_stride_bytes = HEAD_DIM * sizeof(float), .scratch = data.scratch};
    s->kernel->attention(&operation);
  }
}

static void probe_cache(const void *context) {
  const subject *s = context;
  const size_t bytes = 2 * head_bytes(s->type);
  for (size_t h = 0; h < s->heads; h++) {
    for (size_t b = 0; b < BLOCKS; b++) read_bytes(data.blocks[b] + h * bytes, bytes);
  }
}

static void measure_attention_rows(const char *family, const subject *s) {
  // How many positions the first row sees, and the last.
  const double first = (double)(POSITIONS - s->rows + 1), last = POSITIONS;
  measurement m = {
      .family = family, .kernel = s->kernel->name, .features = s->kernel->features, .rows = s->rows,
      .calls = (double)s->heads, .bytes = (double)(s->heads * BLOCKS * 2 * head_bytes(s->type)),
      .operations = (double)s->heads * 4.0 * HEAD_DIM * (double)s->rows * (first + last) / 2,
      .arithmetic = ARITHMETIC_FLOAT32, .run = attend, .probe = probe_cache, .context = s};
  snprintf(m.shape, sizeof m.shape, "%dx%d", POSITIONS, HEAD_DIM);
  measure(&m);
}

// MARK: - Store

// Whole lines of the cache: sixteen tokens' keys lie in the same ones. The last row is the last position of the last
// block.
static size_t key_bytes(const subject *s, size_t tokens) {
  return lathe_round_up(tokens, 16) * HEAD_DIM * element_bytes[s->type];
}
static size_t value_bytes(const subject *s, size_t tokens) { return tokens * HEAD_DIM * element_bytes[s->type]; }

static void store(const void *context) {
  const subject *s = context;
  const size_t stride = HEAD_DIM * sizeof(float);
  for (size_t h = 0; h < s->heads; h++) {
    const lathe_kv_head head = head_at(s, h);
    s->kernel->kv_store(&head, POSITIONS - s->rows, s->rows, rows_of(s, h), stride, rows_of(s, h), stride);
  }
}

// Keys and values are made of the same rows.
static void probe_stored(const void *context) {
  const subject *s = context;
  const size_t whole = LATHE_KV_BLOCK_TOKENS;
  for (size_t h = 0; h < s->heads; h++) {
    const lathe_kv_head head = head_at(s, h);
    read_bytes(rows_of(s, h), s->rows * HEAD_DIM * sizeof(float));
    size_t b = BLOCKS;
    for (size_t left = s->rows; left > 0;) {
      const size_t tokens = left < whole ? left : whole;
      const uint8_t *block = data.blocks[--b];
      read_bytes(block + head.key_offset_bytes + key_bytes(s, whole) - key_bytes(s, tokens), key_bytes(s, tokens));
      read_bytes(block + head.value_offset_bytes + value_bytes(s, whole - tokens), value_bytes(s, tokens));
      left -= tokens;
    }
  }
}

static void measure_stored_rows(const char *family, const subject *s) {
  const size_t read = s->rows * HEAD_DIM * sizeof(float);
  const size_t written = key_bytes(s, s->rows) + value_bytes(s, s->rows);
  measurement m = {
      .family = family, .kernel = s->kernel->name, .features = s->kernel->features, .rows = s->rows,
      .calls = (double)s->heads, .bytes = (double)(s->heads * (read + written)), .run = store,
      .probe = probe_stored, .context = s};
  snprintf(m.shape, sizeof m.shape, "%d", HEAD_DIM);
  measure(&m);
}

// MARK: - Both

static void measure_family(
    const char *name, const size_t *usual, size_t count, void (*measure_rows)(const char *, const subject *)) {
  for (int type = 0; type < LATHE_KV_TYPES; type++) {
    char family[64];
    snprintf(family, sizeof family, "%s_%s", name, type_names[type]);
    if (!is_wanted_family(family)) continue;
    make_cache((lathe_kv_type)type);
    size_t kernels;
    const lathe_vector_kernel *table = lathe_vector_kernels(&kernels);
    for (size_t i = 0; i < kernels; i++) {
      if (!is_wanted(family, table[i].name, table[i].features)) continue;
      size_t rows[MAXIMUM_ROW_COUNTS];
      const size_t row_counts = rows_wanted(usual, count, table[i].features, rows);
      for (size_t r = 0; r < row_counts; r++) {
        const bool few = rows[r] < MANY_ROWS && table[i].features != 0;
        const subject s = {&table[i], (lathe_kv_type)type, few ? ALL_HEADS : HEADS, rows[r]};
        measure_rows(family, &s);
      }
    }
    free(data.memory);
  }
}

void measure_attention(void) {
  measure_family("attention", queries, sizeof queries / sizeof *queries, measure_attention_rows);
  measure_family("kv_store", stored, sizeof stored / sizeof *stored, measure_stored_rows);
}
