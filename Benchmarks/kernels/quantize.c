// Quantization of activations, in both storages, with 8 bits and with 16 in two halves.
//
// One row lies in the first cache, 512 rows in the second. The bytes are the floats read and the numbers written; the
// operations are those of the definition on each element.
#include <stdio.h>

#include "bench.h"
#include "families.h"

enum { MAXIMUM_DEPTH = 3072, HALVES = 2 };
static const size_t depths[] = {768, 3072}, usual_rows[] = {1, 512};
// min, max, fma (2), rounding, two clamps; halves: shift and mask on top.
enum { OPERATIONS = 7, OPERATIONS_OF_HALVES = 9 };

static struct {
  float *x, *scales;
  uint8_t *q;
  lathe_row_quantization quantization[HALVES * MAXIMUM_ROWS];
} data;

typedef struct {
  lathe_quantize_rows_fn rows_fn;  // or
  lathe_quantize_halves_fn halves_fn;
  size_t rows, depth, q_stride_bytes, written;
} subject;

static void run(const void *context) {
  const subject *s = context;
  const size_t stride = s->depth * sizeof(float);
  if (s->rows_fn) {
    s->rows_fn(data.x, stride, s->rows, s->depth, data.quantization, data.q, s->q_stride_bytes);
  } else {
    s->halves_fn(data.x, stride, s->rows, s->depth, data.scales, data.quantization, data.q, s->q_stride_bytes);
  }
}

static void probe(const void *context) {
  const subject *s = context;
  read_bytes(data.x, s->rows * s->depth * sizeof(float));
  read_bytes(data.q, s->written);
}

static void measure_kernel(const char *family, const lathe_quantize_kernel *kernel, int storage, bool halves) {
  if (!is_wanted(family, kernel->name, kernel->features)) return;
  size_t rows[MAXIMUM_ROW_COUNTS];
  const size_t count = rows_wanted(usual_rows, sizeof usual_rows / sizeof *usual_rows, kernel->features, rows);
  for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
    for (size_t r = 0; r < count; r++) {
      subject s = {.rows = rows[r], .depth = depths[d]};
      if (halves) {
        s.halves_fn = kernel->halves_to_storage[storage];
      } else {
        s.rows_fn = kernel->to_storage[storage];
      }
      s.q_stride_bytes = s.depth * (storage == LATHE_ACTIVATIONS_I16_CENTERED ? 2 : 1);
      s.written = s.q_stride_bytes * s.rows * (halves ? HALVES : 1);
      const double elements = (double)(s.rows * s.depth);
      measurement m = {
          .family = family, .kernel = kernel->name, .features = kernel->features, .rows = s.rows, .calls = 1,
          .bytes = elements * sizeof(float) + (double)s.written,
          .operations = elements * (halves ? OPERATIONS_OF_HALVES : OPERATIONS), .arithmetic = ARITHMETIC_FLOAT32,
          .run = run, .probe = probe, .context = &s};
      snprintf(m.shape, sizeof m.shape, "%zu", s.depth);
      measure(&m);
    }
  }
}

static void make_data(void) {
  data.x = filled(MAXIMUM_ROWS * MAXIMUM_DEPTH * sizeof(float), ORDINARY);
  for (size_t i = 0; i < MAXIMUM_ROWS * MAXIMUM_DEPTH; i++) {
    data.x[i] = (float)((int)(i * 2654435761u >> 16 & 0xffff) - 32768);
  }
  data.scales = filled(MAXIMUM_ROWS * sizeof(float), 0);
  data.q = filled(HALVES * MAXIMUM_ROWS * MAXIMUM_DEPTH * sizeof(int16_t), 0);
}

void measure_quantize(void) {
  static const struct {
    const char *family;
    int storage;
    bool halves;
  } families[] = {
      {"quantize_u8", LATHE_ACTIVATIONS_U8, false},
      {"quantize_i16", LATHE_ACTIVATIONS_I16_CENTERED, false},
      {"quantize_halves_u8", LATHE_ACTIVATIONS_U8, true},
      {"quantize_halves_i16", LATHE_ACTIVATIONS_I16_CENTERED, true},
  };
  size_t count;
  const lathe_quantize_kernel *kernels = lathe_quantize_kernels(&count);
  for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
    if (!is_wanted_family(families[f].family)) continue;
    if (!data.x) make_data();
    for (size_t i = 0; i < count; i++) {
      measure_kernel(families[f].family, &kernels[i], families[f].storage, families[f].halves);
    }
  }
}
