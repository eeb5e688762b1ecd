// One memory of 256 MB for the matrices of every encoding, filled when a family asks for another one.
#include "matrices.h"

#include <string.h>

enum { WEIGHT_BYTES = 256 << 20 };  // more than caches of one core hold

const encoding encodings[ENCODINGS] = {
    {.name = "qc8w", .format = LATHE_QC8W},
    {.name = "qc4w_g32", .format = LATHE_QC4W, .group_size = 32},
    {.name = "qc4w_g64", .format = LATHE_QC4W, .group_size = 64},
    {.name = "qc4w_g128", .format = LATHE_QC4W, .group_size = 128},
    {.name = "f32", .float32 = true},
    {.name = "qc8w_sparse_50%", .format = LATHE_QC8W_SPARSE, .kept = 32},
    {.name = "qc8w_sparse_70%", .format = LATHE_QC8W_SPARSE, .kept = 19},
    {.name = "qc8w_sparse_90%", .format = LATHE_QC8W_SPARSE, .kept = 6},
    {.name = "qc4w_sparse_50%", .format = LATHE_QC4W_SPARSE, .group_size = 64, .kept = 32},
    {.name = "qc4w_balanced_50%", .format = LATHE_QC4W_SPARSE, .group_size = 64, .kept = 32, .balanced = true},
};

// Made at first use.
static struct {
  char *weights;
  int8_t *multipliers;
  float *scales;
  int32_t *column_sums;
  char *dense;       // one matrix before it is made sparse
  uint32_t *starts;  // of a sparse one: copies are alike
  bool is_ordinary;  // `weights` hold nothing but the byte ORDINARY
} memory;

static void make_memory(void) {
  if (memory.weights) return;
  memory.weights = filled(WEIGHT_BYTES, ORDINARY);
  memory.multipliers = filled(WEIGHT_BYTES / 16, 7);  // those of groups of 32 nibbles, the smallest
  memory.scales = filled(MAXIMUM_MATRIX_COLUMNS * sizeof(float), ORDINARY);
  memory.column_sums = filled(MAXIMUM_MATRIX_COLUMNS * sizeof(int32_t), 0);
  memory.dense = filled(lathe_qc8w_bytes(MAXIMUM_MATRIX_COLUMNS, 768), 0);
  memory.starts = filled(MAXIMUM_MATRIX_COLUMNS / 16 * sizeof(uint32_t), 0);
  memory.is_ordinary = true;
}

const float *matrix_scales(void) {
  make_memory();
  return memory.scales;
}

// Selects `kept` of 64: each by its own chance, or exactly so many.
static uint64_t random_mask(unsigned kept, bool balanced) {
  static uint64_t state = 1;
  uint64_t mask = 0;
  unsigned left = kept;
  for (unsigned place = 0; place < 64; place++) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const unsigned chance = (unsigned)(state >> 40), of = balanced ? 64 - place : 64;
    if (chance % of < (balanced ? left : kept)) {
      mask |= (uint64_t)1 << place;
      left--;
    }
  }
  return mask;
}

// Writes one sparse matrix and its masks. Its values say nothing about speed, so that all are 1 (int4) or 17.
static void make_sparse(matrices *m) {
  const encoding *e = m->encoding;
  const size_t depth = m->shape.depth, columns = m->shape.columns;
  const bool nibbles = e->format == LATHE_QC4W_SPARSE;
  const size_t vectors = columns / 16 * (depth / 4);
  memset(memory.dense, 0, lathe_qc8w_bytes(columns, depth));
  for (size_t v = 0; v < vectors; v++) {
    const uint64_t mask = random_mask(e->kept, e->balanced);
    for (size_t place = 0; place < 64; place++) {
      if (!(mask >> place & 1)) continue;
      memory.dense[(nibbles ? v / 2 : v) * 64 + place] |= nibbles ? 1 << v % 2 * 4 : 17;
    }
  }
  const size_t bytes = lathe_sparse_bytes(e->format, memory.dense, columns, depth);
  m->packed_bytes = lathe_round_up(bytes + 64, 64);
  m->value_bytes = m->packed_bytes + vectors * sizeof(uint64_t);
  memset(memory.weights + bytes, 0, m->packed_bytes - bytes);
  lathe_pack_sparse(
      e->format, memory.dense, columns, depth, 0, memory.weights, (uint64_t *)(memory.weights + m->packed_bytes),
      memory.starts);
  memory.is_ordinary = false;
}

matrices make_matrices(const encoding *e, matrix_shape shape) {
  make_memory();
  matrices m = {.encoding = e, .shape = shape};
  if (e->group_size > 0) {
    m.multiplier_bytes = lathe_qc4w_multiplier_bytes(shape.columns, shape.depth, e->group_size);
  }
  if (e->kept > 0) {
    make_sparse(&m);
  } else {
    if (!memory.is_ordinary) memset(memory.weights, ORDINARY, WEIGHT_BYTES);
    memory.is_ordinary = true;
    m.packed_bytes = e->float32                  ? lathe_f32_bytes(shape.columns, shape.depth)
                     : e->format == LATHE_QC4W ? lathe_qc4w_bytes(shape.columns, shape.depth)
                                                 : lathe_qc8w_bytes(shape.columns, shape.depth);
    m.value_bytes = m.packed_bytes;
  }
  m.copies = WEIGHT_BYTES / m.value_bytes;
  if (m.multiplier_bytes > 0) {
    const size_t fit = WEIGHT_BYTES / 16 / m.multiplier_bytes;
    if (fit < m.copies) m.copies = fit;
  }
  if (e->kept > 0) {
    for (size_t i = 1; i < m.copies; i++) memcpy(memory.weights + i * m.value_bytes, memory.weights, m.value_bytes);
  }
  return m;
}

const void *matrix_values(const matrices *m, size_t i) { return memory.weights + i * m->value_bytes; }

lathe_weights matrix_weights(const matrices *m, size_t i) {
  const char *values = memory.weights + i * m->value_bytes;
  return (lathe_weights){
      .format = m->encoding->format, .columns = m->shape.columns, .depth = m->shape.depth, .values = values,
      .scales = memory.scales, .column_sums = memory.column_sums,
      .multipliers = m->multiplier_bytes ? memory.multipliers + i * m->multiplier_bytes : NULL,
      .group_size = m->encoding->group_size,
      .masks = m->encoding->kept ? (const uint64_t *)(values + m->packed_bytes) : NULL,
      .starts = m->encoding->kept ? memory.starts : NULL};
}

void probe_matrix(const matrices *m, size_t i) {
  read_bytes(memory.weights + i * m->value_bytes, m->value_bytes);
  if (m->multiplier_bytes) read_bytes(memory.multipliers + i * m->multiplier_bytes, m->multiplier_bytes);
}
