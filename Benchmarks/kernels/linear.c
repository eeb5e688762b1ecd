// Times every registered linear kernel that this machine runs, on the matrices of GPT-2 small.
//
//   make bench-kernels, or linear [family [kernel [rows]]], as printed, for some of them; - for any
//
// At few rows 256 MiB of matrices are read in turn, so that weights come from memory as in decoding; the share is
// that of the read probe of the same bytes, taken in alternation: the median of the pairs. From 16 rows on one matrix is
// multiplied again and again, and the rate of operations is what counts. One thread.
#include "CKernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WEIGHT_BYTES = 256 << 20, MAXIMUM_ROWS = 512, MAXIMUM_DEPTH = 3072, MAXIMUM_COLUMNS = 50272, PAIRS = 9 };
enum { MANY_ROWS = 16 };  // from here on weights stay in cache

typedef struct {
  size_t depth, columns;
} shape;
static const shape shapes[] = {{768, 2304}, {768, 768}, {768, 3072}, {3072, 768}, {768, 50272}};
static const size_t row_counts[] = {1, 4, 8, 16, 512};

// What every kernel needs, large enough for every shape.
typedef struct {
  char *weights;
  int8_t *multipliers, *scratch;
  void *activations;
  float *scales, *output;
  int32_t *column_sums;
  lathe_row_quantization quantization[MAXIMUM_ROWS];
} data;

// A kernel of either family: float32, or int8 and what expands weights for it, if anything does.
typedef struct {
  const char *family, *name;
  uint32_t features;
  lathe_weight_format format;
  size_t group_size;
  lathe_linear_qd8_choice int8;
  const lathe_linear_f32_kernel *float32;
} kernel;

static volatile uint64_t sink;  // what nobody reads, a compiler may leave out

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Bytes of a matrix's weights, and of the multipliers beside them.
static size_t value_bytes(const kernel *k, shape s) {
  if (k->float32) return lathe_f32_bytes(s.columns, s.depth);
  return k->format == LATHE_QC4W ? lathe_qc4w_bytes(s.columns, s.depth) : lathe_qc8w_bytes(s.columns, s.depth);
}
static size_t multiplier_bytes(const kernel *k, shape s) {
  return k->group_size == 0 ? 0 : lathe_qc4w_multiplier_bytes(s.columns, s.depth, k->group_size);
}

// The product by the i-th matrix in memory.
static void run(const kernel *k, const data *d, size_t i, shape s, size_t rows) {
  const void *values = d->weights + i * value_bytes(k, s);
  if (k->int8.kernel) {
    size_t element = k->int8.kernel->storage == LATHE_ACTIVATIONS_I16_CENTERED ? 2 : 1;
    lathe_weights matrix = {
        .format = k->format, .columns = s.columns, .depth = s.depth, .values = values, .scales = d->scales,
        .column_sums = d->column_sums, .multipliers = d->multipliers + i * multiplier_bytes(k, s),
        .group_size = k->group_size};
    lathe_linear_qd8 operation = {
        .rows = rows, .activations = d->activations, .activation_stride_bytes = s.depth * element,
        .quantization = d->quantization, .weights = &matrix, .bias = d->scales, .output = d->output,
        .output_stride_bytes = s.columns * sizeof(float)};
    lathe_linear_qd8_run(k->int8, &operation, 0, s.columns / 16, d->scratch);
  } else {
    lathe_linear_f32 operation = {
        .rows = rows, .columns = s.columns, .depth = s.depth, .activations = d->activations,
        .activation_stride_bytes = s.depth * sizeof(float), .weights = values, .bias = d->scales, .output = d->output,
        .output_stride_bytes = s.columns * sizeof(float)};
    k->float32->run(&operation, 0, s.columns / 16);
  }
}

static void probe(const kernel *k, const data *d, size_t i, shape s) {
  const size_t bytes = value_bytes(k, s), beside = multiplier_bytes(k, s);
  sink += lathe_read_probe(d->weights + i * bytes, bytes, true, lathe_cpu_features());
  if (beside > 0) sink += lathe_read_probe(d->multipliers + i * beside, beside, true, lathe_cpu_features());
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void time_kernel(const kernel *k, const data *d, shape s, size_t rows) {
  const size_t copies = rows >= MANY_ROWS ? 1 : WEIGHT_BYTES / value_bytes(k, s);
  double shares[PAIRS], best = 1e9, best_probe = 1e9;
  for (int pair = 0; pair < PAIRS; pair++) {
    double start = seconds();
    for (size_t i = 0; i < copies; i++) probe(k, d, i, s);
    double probed = seconds() - start;
    start = seconds();
    for (size_t i = 0; i < copies; i++) run(k, d, i, s, rows);
    double time = seconds() - start;
    shares[pair] = probed / time;
    best = time < best ? time : best;
    best_probe = probed < best_probe ? probed : best_probe;
  }
  qsort(shares, PAIRS, sizeof shares[0], ascending);
  const double operations = 2.0 * (double)(rows * s.depth * s.columns * copies);
  printf("%-19s %-17s rows %3zu  %4zu x %5zu  %6.0f Gop/s", k->family, k->name, rows, s.depth, s.columns,
         operations / best / 1e9);
  if (rows < MANY_ROWS) {
    const double gigabytes = (double)((value_bytes(k, s) + multiplier_bytes(k, s)) * copies) / 1e9;
    printf("  %5.1f GB/s  share %.2f of %.1f GB/s", gigabytes / best, shares[PAIRS / 2], gigabytes / best_probe);
  }
  printf("\n");
  fflush(stdout);
}

// What the command line asks for.
static const char *wanted_family, *wanted_kernel, *wanted_rows;

static bool is_wanted(const char *wanted, const char *name) {
  return !wanted || strcmp(wanted, "-") == 0 || strcmp(wanted, name) == 0;
}

static void time_shapes(kernel k, const data *d) {
  if ((k.features & ~lathe_cpu_features()) != 0) return;
  if (!is_wanted(wanted_family, k.family) || !is_wanted(wanted_kernel, k.name)) return;
  const bool slow = k.features == 0;  // the definitions are not for speed
  const bool any = !wanted_rows || strcmp(wanted_rows, "-") == 0;
  for (size_t r = 0; r < (slow || !any ? 1 : sizeof row_counts / sizeof row_counts[0]); r++) {
    const size_t rows = any ? row_counts[r] : strtoul(wanted_rows, NULL, 10);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
      if (rows >= MANY_ROWS && shapes[i].columns > 10000) continue;  // prefill needs one row of logits
      time_kernel(&k, d, shapes[i], rows);
    }
  }
}

// Every kernel that reads a format in place, and the best of int8 after every expansion that is worth timing.
static void time_format(const char *family, lathe_weight_format format, size_t group_size, const data *d) {
  size_t count;
  const lathe_linear_qd8_kernel *kernels = lathe_linear_qd8_kernels(&count);
  for (size_t i = 0; i < count; i++) {
    if (kernels[i].format != format) continue;
    time_shapes(
        (kernel){family, kernels[i].name, kernels[i].features, format, group_size, {&kernels[i], NULL}, NULL}, d);
  }
  if (format == LATHE_QC8W) return;
  for (size_t i = 0; i < count; i++) {
    const lathe_expand_kernel *expand = lathe_expand_select(format, kernels[i].features);
    if (kernels[i].format != LATHE_QC8W || kernels[i].features == 0) continue;
    char name[64];
    snprintf(name, sizeof name, "expand+%s", kernels[i].name);
    time_shapes((kernel){family, name, kernels[i].features, format, group_size, {&kernels[i], expand}, NULL}, d);
  }
}

int main(int count, char **arguments) {
  static data d;
  wanted_family = count > 1 ? arguments[1] : NULL;
  wanted_kernel = count > 2 ? arguments[2] : NULL;
  wanted_rows = count > 3 ? arguments[3] : NULL;
  d.weights = aligned_alloc(64, WEIGHT_BYTES);
  d.multipliers = aligned_alloc(64, WEIGHT_BYTES / 16);  // those of groups of 32 nibbles
  d.scratch = aligned_alloc(64, lathe_linear_qd8_scratch_bytes(LATHE_QC4W, MAXIMUM_DEPTH));
  d.activations = aligned_alloc(64, MAXIMUM_ROWS * MAXIMUM_DEPTH * sizeof(float));
  d.scales = aligned_alloc(64, MAXIMUM_COLUMNS * sizeof(float));
  d.column_sums = aligned_alloc(64, MAXIMUM_COLUMNS * sizeof(int32_t));
  d.output = aligned_alloc(64, (size_t)MAXIMUM_ROWS * MAXIMUM_COLUMNS * sizeof(float));
  if (!d.weights || !d.multipliers || !d.scratch || !d.activations || !d.scales || !d.column_sums || !d.output) return 1;
  // As bytes, words and floats alike these are small ordinary numbers, and every page is its own.
  memset(d.weights, 0x3c, WEIGHT_BYTES);
  memset(d.multipliers, 7, WEIGHT_BYTES / 16);
  memset(d.activations, 0x3c, MAXIMUM_ROWS * MAXIMUM_DEPTH * sizeof(float));
  memset(d.scales, 0x3c, MAXIMUM_COLUMNS * sizeof(float));
  memset(d.column_sums, 0, MAXIMUM_COLUMNS * sizeof(int32_t));
  for (size_t i = 0; i < MAXIMUM_ROWS; i++) d.quantization[i] = (lathe_row_quantization){0.01f, 128};

  time_format("linear_qd8_qc8w", LATHE_QC8W, 0, &d);
  time_format("linear_qd8_qc4w_g32", LATHE_QC4W, 32, &d);
  time_format("linear_qd8_qc4w_g64", LATHE_QC4W, 64, &d);
  time_format("linear_qd8_qc4w_g128", LATHE_QC4W, 128, &d);
  size_t kernels;
  const lathe_linear_f32_kernel *float32 = lathe_linear_f32_kernels(&kernels);
  for (size_t i = 0; i < kernels; i++) {
    time_shapes(
        (kernel){"linear_f32", float32[i].name, float32[i].features, LATHE_QC8W, 0, {NULL, NULL}, &float32[i]}, &d);
  }
  return 0;
}
