// Embedding: rows of GPT-2 small's table, at random, added to rows of positions.
//
// A row of the table is one of the sixteen columns of a panel, and every line of the panel has some of it: the bytes
// are the whole panels of the ids, and the floats of positions and output. The probe reads the same panels.
#include <stdio.h>

#include "families.h"
#include "matrices.h"

enum { WIDTH = 768, VOCABULARY = 50272, POSITIONS = 1024 };
static const size_t usual_rows[] = {1, 512};

static struct {
  int32_t ids[MAXIMUM_ROWS], positions[MAXIMUM_ROWS];
  float *position_table, *output;
} data;

static void make_data(void) {
  data.position_table = filled(POSITIONS * WIDTH * sizeof(float), ORDINARY);
  data.output = filled(MAXIMUM_ROWS * WIDTH * sizeof(float), 0);
  uint32_t state = 1;
  for (int32_t i = 0; i < MAXIMUM_ROWS; i++) {
    state = state * 1664525 + 1013904223;
    data.ids[i] = (int32_t)((state >> 8) % VOCABULARY);
    data.positions[i] = i;
  }
}

typedef struct {
  const matrices *matrices;
  lathe_embedding_fn embed;
  size_t rows;
} subject;

static void run(const void *context) {
  const subject *s = context;
  const bool float32 = s->matrices->encoding->float32;
  const lathe_weights weights = matrix_weights(s->matrices, 0);
  const lathe_embedding operation = {
      .ids = data.ids, .positions = data.positions, .rows = s->rows, .width = WIDTH,
      .weights = float32 ? NULL : &weights, .table = float32 ? weights.values : NULL,
      .position_table = data.position_table, .position_stride_bytes = WIDTH * sizeof(float), .output = data.output,
      .output_stride_bytes = WIDTH * sizeof(float)};
  s->embed(&operation);
}

// Of one panel, in the mean: what a sparse one packs differs from the next by a little.
static size_t panel_bytes(const matrices *m) { return matrix_bytes(m) / (VOCABULARY / 16); }

static void probe(const void *context) {
  const subject *s = context;
  const char *values = matrix_values(s->matrices, 0);
  const size_t bytes = panel_bytes(s->matrices);
  const size_t last = (s->matrices->value_bytes - bytes) / 64 * 64;
  for (size_t i = 0; i < s->rows; i++) {
    const size_t at = (size_t)data.ids[i] / 16 * bytes / 64 * 64;
    read_bytes(values + (at < last ? at : last), bytes);
  }
  read_bytes(data.position_table, s->rows * WIDTH * sizeof(float));
  read_bytes(data.output, s->rows * WIDTH * sizeof(float));
}

static lathe_embedding_fn embedding_of(const lathe_vector_kernel *kernel, const encoding *e) {
  return e->float32 ? kernel->embed_f32 : kernel->embed_qd8[e->format];
}

static void measure_kernel(const char *family, const lathe_vector_kernel *kernel, const matrices *matrices) {
  if (!is_wanted(family, kernel->name, kernel->features)) return;
  size_t rows[MAXIMUM_ROW_COUNTS];
  const size_t count = rows_wanted(usual_rows, sizeof usual_rows / sizeof *usual_rows, kernel->features, rows);
  for (size_t r = 0; r < count; r++) {
    const subject s = {matrices, embedding_of(kernel, matrices->encoding), rows[r]};
    const double elements = (double)(s.rows * WIDTH);
    measurement m = {
        .family = family, .kernel = kernel->name, .features = kernel->features, .rows = s.rows, .calls = 1,
        .bytes = (double)(s.rows * panel_bytes(matrices)) + 2 * sizeof(float) * elements, .operations = 2 * elements,
        .arithmetic = ARITHMETIC_FLOAT32, .run = run, .probe = probe, .context = &s};
    snprintf(m.shape, sizeof m.shape, "%d", WIDTH);
    measure(&m);
  }
}

void measure_embedding(void) {
  size_t count;
  const lathe_vector_kernel *kernels = lathe_vector_kernels(&count);
  for (size_t e = 0; e < ENCODINGS; e++) {
    char family[64];
    snprintf(family, sizeof family, "embed_%s", encodings[e].name);
    if (!is_wanted_family(family)) continue;
    if (!data.output) make_data();
    const matrices matrices = make_matrices(&encodings[e], (matrix_shape){WIDTH, VOCABULARY});
    for (size_t i = 0; i < count; i++) {
      // Some encodings have the definition alone, which stands in every row of the table.
      const bool is_definition = embedding_of(&kernels[i], &encodings[e]) == embedding_of(&kernels[0], &encodings[e]);
      if (i == 0 || !is_definition) measure_kernel(family, &kernels[i], &matrices);
    }
  }
}
