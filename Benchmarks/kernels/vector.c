// Layer norm, activations, addition, and what is done to a row of logits.
//
// One row lies in the first cache, 512 rows in the second or behind it. The bytes are each vector read or written,
// once; the operations those of the definition (docs/ARITHMETIC.md) on each element, an fma being two.
#include <stdio.h>

#include "bench.h"
#include "families.h"

enum { WIDTH = 768, INNER = 3072, VOCABULARY = 50257 };
static const size_t many_rows[] = {1, 512}, one_row[] = {1};

// exp: two clamps, multiplication, rounding, two fma of the reduction, six of the polynomial, the exponent.
enum { OPERATIONS_OF_EXP = 21 };

static float *x, *y, *z, *ordinary;
static uint64_t sum;  // of results that are one number

static void layer_norm(const lathe_vector_kernel *k, size_t rows) {
  const size_t stride = WIDTH * sizeof(float);
  k->layer_norm(x, stride, rows, WIDTH, ordinary, ordinary + WIDTH, 1e-5f, y, stride);
}
static void gelu_tanh(const lathe_vector_kernel *k, size_t rows) {
  k->activate(x, rows * INNER, LATHE_EPILOGUE_GELU_TANH, y);
}
static void gelu_erf(const lathe_vector_kernel *k, size_t rows) {
  k->activate(x, rows * INNER, LATHE_EPILOGUE_GELU_ERF, y);
}
static void relu(const lathe_vector_kernel *k, size_t rows) { k->activate(x, rows * INNER, LATHE_EPILOGUE_RELU, y); }
static void add(const lathe_vector_kernel *k, size_t rows) { k->add(x, z, rows * WIDTH, y); }
static void combine_halves(const lathe_vector_kernel *k, size_t rows) {
  for (size_t i = 0; i < rows; i++) k->combine_halves(x, z, VOCABULARY, 0.01f, ordinary, NULL, y);
}
static void log_sum_exp(const lathe_vector_kernel *k, size_t rows) {
  for (size_t i = 0; i < rows; i++) sum += (uint64_t)k->log_sum_exp(x, VOCABULARY);
}
static void greatest(const lathe_vector_kernel *k, size_t rows) {
  for (size_t i = 0; i < rows; i++) sum += k->greatest(x, VOCABULARY);
}


// Logits as a model gives them: bell-shaped, a few ahead of the others. At temperature 1 most of them are candidates.
static float *logits, best;
static uint64_t *keys;
static float *weights;
static void *scratch;

static void candidates(const lathe_vector_kernel *k, size_t rows) {
  for (size_t i = 0; i < rows; i++) {
    sum += k->candidates(logits, VOCABULARY, best, best - 14.4f, 0.8f, 9, (uint64_t *)y, (uint64_t *)z).far;
  }
}
static void exp_ranks(const lathe_vector_kernel *k, size_t rows) {
  for (size_t i = 0; i < rows; i++) k->exp_ranks(keys, VOCABULARY, y);
}
static void add_unordered(const lathe_vector_kernel *k, size_t rows) {
  for (size_t i = 0; i < rows; i++) sum += (uint64_t)k->add_unordered(65536, weights, VOCABULARY);
}
static void choose(const lathe_vector_kernel *k, size_t count, size_t top_k, float top_p, size_t rows) {
  for (size_t i = 0; i < rows; i++) {
    const lathe_choice choice = {logits, count, best, 1, top_k, top_p, 0, 0.4f};
    sum += lathe_choose(k, &choice, scratch);
  }
}
static void choose_8192(const lathe_vector_kernel *k, size_t rows) { choose(k, 8192, SIZE_MAX, 1, rows); }
static void choose_all(const lathe_vector_kernel *k, size_t rows) { choose(k, VOCABULARY, SIZE_MAX, 1, rows); }
static void choose_top_k(const lathe_vector_kernel *k, size_t rows) { choose(k, VOCABULARY, 50, 1, rows); }
static void choose_top_p(const lathe_vector_kernel *k, size_t rows) { choose(k, VOCABULARY, SIZE_MAX, 0.95f, rows); }

typedef struct {
  const char *family;
  void (*run)(const lathe_vector_kernel *kernel, size_t rows);
  size_t width;
  int vectors, parameters;   // of `width` floats: of each row, and shared by all
  int operations;            // on each element
  const size_t *rows;
  size_t row_counts;
} operation;

static const operation operations[] = {
    // sum; difference, fma of the square; multiplication, fma
    {"layer_norm", layer_norm, WIDTH, 2, 2, 1 + 3 + 3, many_rows, 2},
    {"gelu_tanh", gelu_tanh, INNER, 2, 0, OPERATIONS_OF_EXP + 6, many_rows, 2},
    // |x|, x²/2 (2), denominator (3), five fma, three multiplications, relu, subtraction
    {"gelu_erf", gelu_erf, INNER, 2, 0, OPERATIONS_OF_EXP + 21, many_rows, 2},
    {"relu", relu, INNER, 2, 0, 1, many_rows, 2},
    {"add", add, WIDTH, 3, 0, 1, many_rows, 2},
    {"combine_halves", combine_halves, VOCABULARY, 3, 1, 5, one_row, 1},
    {"log_sum_exp", log_sum_exp, VOCABULARY, 1, 0, OPERATIONS_OF_EXP + 3, one_row, 1},
    {"greatest", greatest, VOCABULARY, 1, 0, 1, one_row, 1},
    // Logits are read; keys of eight bytes each written. Difference, division, magnitude, two comparisons.
    {"candidates", candidates, VOCABULARY, 3, 0, 5, one_row, 1},
    {"exp_ranks", exp_ranks, VOCABULARY, 3, 0, OPERATIONS_OF_EXP + 1, one_row, 1},
    // Multiplication, rounding there and back, difference, magnitude, comparison, addition.
    {"add_unordered", add_unordered, VOCABULARY, 1, 0, 7, one_row, 1},
    // A whole choice at temperature 1, by the bytes of its logits alone: how far it is from nothing.
    {"choose_8192", choose_8192, 8192, 1, 0, 1, one_row, 1},
    {"choose", choose_all, VOCABULARY, 1, 0, 1, one_row, 1},
    {"choose_top_k_50", choose_top_k, VOCABULARY, 1, 0, 1, one_row, 1},
    {"choose_top_p_95", choose_top_p, VOCABULARY, 1, 0, 1, one_row, 1},
};

typedef struct {
  const operation *operation;
  const lathe_vector_kernel *kernel;
  size_t rows;
} subject;

static void run(const void *context) {
  const subject *s = context;
  s->operation->run(s->kernel, s->rows);
  keep(sum);
}

static void probe(const void *context) {
  const subject *s = context;
  const float *vectors[] = {x, y, z};
  // Rows of logits are done again and again in the same place.
  const size_t places = s->operation->width == VOCABULARY ? 1 : s->rows, times = s->rows / places;
  for (size_t i = 0; i < times; i++) {
    for (int v = 0; v < s->operation->vectors; v++) {
      read_bytes(vectors[v], places * s->operation->width * sizeof(float));
    }
  }
  if (s->operation->parameters) {
    read_bytes(ordinary, (size_t)s->operation->parameters * s->operation->width * sizeof(float));
  }
}

static void measure_operation(const operation *o, const lathe_vector_kernel *kernel) {
  if (!is_wanted(o->family, kernel->name, kernel->features)) return;
  size_t rows[MAXIMUM_ROW_COUNTS];
  const size_t count = rows_wanted(o->rows, o->row_counts, kernel->features, rows);
  for (size_t r = 0; r < count; r++) {
    const subject s = {o, kernel, rows[r]};
    const double elements = (double)(s.rows * o->width);
    measurement m = {
        .family = o->family, .kernel = kernel->name, .features = kernel->features, .rows = s.rows, .calls = 1,
        .bytes = sizeof(float) * (elements * o->vectors + (double)o->width * o->parameters),
        .operations = elements * o->operations, .arithmetic = ARITHMETIC_FLOAT32, .run = run, .probe = probe,
        .context = &s};
    snprintf(m.shape, sizeof m.shape, "%zu", o->width);
    measure(&m);
  }
}

static void make_data(void) {
  const size_t count = (size_t)MAXIMUM_ROWS * INNER;
  x = filled(count * sizeof(float), ORDINARY);
  y = filled(count * sizeof(float), ORDINARY);
  z = filled(count * sizeof(float), ORDINARY);
  ordinary = filled(VOCABULARY * sizeof(float), ORDINARY);
  for (size_t i = 0; i < count; i++) x[i] = (float)((int)(i * 2654435761u >> 16 & 0xffff) - 32768) / 8192;
  logits = filled(VOCABULARY * sizeof(float), ORDINARY);
  weights = filled(VOCABULARY * sizeof(float), ORDINARY);
  keys = filled(VOCABULARY * sizeof(uint64_t), ORDINARY);
  scratch = filled(lathe_choice_scratch_bytes(VOCABULARY), ORDINARY);
  uint64_t state = 1;
  for (size_t i = 0; i < VOCABULARY; i++) {
    float bell = 0;
    for (int n = 0; n < 6; n++) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      bell += (float)(state >> 40) * 0x1p-24f;
    }
    logits[i] = (bell - 3) * 3.5f - 35 + (i % 1009 == 7 ? 7 : 0);
  }
  best = logits[0];
  for (size_t i = 1; i < VOCABULARY; i++) best = logits[i] > best ? logits[i] : best;
  size_t ignored;
  const lathe_vector_kernel *definition = lathe_vector_kernels(&ignored);
  definition->candidates(logits, VOCABULARY, best, -1000, 1, 1000, keys, (uint64_t *)z);
  definition->exp_ranks(keys, VOCABULARY, weights);
}

void measure_vector(void) {
  size_t count;
  const lathe_vector_kernel *kernels = lathe_vector_kernels(&count);
  for (size_t o = 0; o < sizeof operations / sizeof *operations; o++) {
    if (!is_wanted_family(operations[o].family)) continue;
    if (!x) make_data();
    for (size_t i = 0; i < count; i++) measure_operation(&operations[o], &kernels[i]);
  }
}
