// Weight matrices in every encoding, as many copies as come from memory rather than from a cache.
#ifndef LATHE_BENCH_MATRICES_H
#define LATHE_BENCH_MATRICES_H

#include "bench.h"

typedef struct {
  const char *name;
  bool float32;                // P16; else `format`
  lathe_weight_format format;
  size_t group_size;           // int4
  unsigned kept;               // sparse: non-zeros of 64, by chance or as many in every vector
  bool balanced;
} encoding;

enum { ENCODINGS = 10 };
extern const encoding encodings[ENCODINGS];

typedef struct {
  size_t depth, columns;
} matrix_shape;

// `copies` of one matrix, one after the other. There is one memory for them, so that the next ones overwrite these.
typedef struct {
  const encoding *encoding;
  matrix_shape shape;
  size_t copies;
  size_t packed_bytes;      // of one copy: the values, before the masks of sparse ones
  size_t value_bytes;       // of one copy, masks included
  size_t multiplier_bytes;  // of one copy's multipliers, in a memory beside
} matrices;

matrices make_matrices(const encoding *encoding, matrix_shape shape);

// The i-th copy. `columns` are a multiple of 16.
const void *matrix_values(const matrices *m, size_t i);
lathe_weights matrix_weights(const matrices *m, size_t i);
void probe_matrix(const matrices *m, size_t i);
// Of values, masks and multipliers.
static inline size_t matrix_bytes(const matrices *m) { return m->value_bytes + m->multiplier_bytes; }

// [MAXIMUM_MATRIX_COLUMNS] small ordinary numbers: scales, biases.
enum { MAXIMUM_MATRIX_DEPTH = 3072, MAXIMUM_MATRIX_COLUMNS = 50272 };
const float *matrix_scales(void);

#endif
