// Times every registered linear kernel that this machine runs, on the matrices of GPT-2 small.
//
//   make bench-kernels, or linear [kernel] for one of them
//
// At 1 and 8 rows 256 MiB of matrices are read in turn, so that weights come from memory as in decoding; the share is
// that of the read probe of the same bytes, taken in alternation: the median of the pairs. At 512 rows one matrix is
// multiplied again and again, and the rate of operations is what counts. One thread.
#include "CKernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WEIGHT_BYTES = 256 << 20, MAXIMUM_ROWS = 512, MAXIMUM_DEPTH = 3072, MAXIMUM_COLUMNS = 50272, PAIRS = 9 };

typedef struct {
  size_t depth, columns;
} shape;
static const shape shapes[] = {{768, 2304}, {768, 768}, {768, 3072}, {3072, 768}, {768, 50272}};
static const size_t row_counts[] = {1, 8, 512};

// What both families of kernels need, large enough for every shape.
typedef struct {
  void *weights, *activations;
  float *scales, *output;
  int32_t *column_sums;
  lathe_row_quantization quantization[MAXIMUM_ROWS];
} data;

// A kernel of either family.
typedef struct {
  const char *family, *name;
  uint32_t features;
  size_t weight_bytes;  // of one weight
  const lathe_linear_qd8_kernel *int8;
  const lathe_linear_f32_kernel *float32;
} kernel;

static volatile uint64_t sink;  // what nobody reads, a compiler may leave out

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void run(const kernel *k, const data *d, const void *weights, shape s, size_t rows) {
  if (k->int8) {
    size_t element = k->int8->storage == LATHE_ACTIVATIONS_I16_CENTERED ? 2 : 1;
    lathe_weights matrix = {
        .format = LATHE_QC8W, .columns = s.columns, .depth = s.depth, .values = weights, .scales = d->scales,
        .column_sums = d->column_sums};
    lathe_linear_qd8 operation = {
        .rows = rows, .activations = d->activations, .activation_stride_bytes = s.depth * element,
        .quantization = d->quantization, .weights = &matrix, .bias = d->scales, .output = d->output,
        .output_stride_bytes = s.columns * sizeof(float)};
    k->int8->run(&operation, 0, s.columns / 16);
  } else {
    lathe_linear_f32 operation = {
        .rows = rows, .columns = s.columns, .depth = s.depth, .activations = d->activations,
        .activation_stride_bytes = s.depth * sizeof(float), .weights = weights, .bias = d->scales, .output = d->output,
        .output_stride_bytes = s.columns * sizeof(float)};
    k->float32->run(&operation, 0, s.columns / 16);
  }
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void time_kernel(const kernel *k, const data *d, shape s, size_t rows) {
  const size_t bytes = s.depth * s.columns * k->weight_bytes;
  const size_t copies = rows > 16 ? 1 : WEIGHT_BYTES / bytes;
  double shares[PAIRS], best = 1e9, best_probe = 1e9;
  for (int pair = 0; pair < PAIRS; pair++) {
    double start = seconds();
    for (size_t i = 0; i < copies; i++) {
      sink += lathe_read_probe((char *)d->weights + i * bytes, bytes, true, lathe_cpu_features());
    }
    double probe = seconds() - start;
    start = seconds();
    for (size_t i = 0; i < copies; i++) run(k, d, (char *)d->weights + i * bytes, s, rows);
    double time = seconds() - start;
    shares[pair] = probe / time;
    best = time < best ? time : best;
    best_probe = probe < best_probe ? probe : best_probe;
  }
  qsort(shares, PAIRS, sizeof shares[0], ascending);
  const double operations = 2.0 * (double)(rows * s.depth * s.columns * copies);
  printf("%-14s %-11s rows %3zu  %4zu x %5zu  %6.0f Gop/s", k->family, k->name, rows, s.depth, s.columns,
         operations / best / 1e9);
  if (rows <= 16) {
    const double gigabytes = (double)(bytes * copies) / 1e9;
    printf("  %5.1f GB/s  share %.2f of %.1f GB/s", gigabytes / best, shares[PAIRS / 2], gigabytes / best_probe);
  }
  printf("\n");
  fflush(stdout);
}

static void time_shapes(kernel k, const data *d, const char *wanted) {
  if ((k.features & ~lathe_cpu_features()) != 0 || (wanted && strcmp(wanted, k.name) != 0)) return;
  const bool slow = k.features == 0;  // the definitions are not for speed
  for (size_t r = 0; r < (slow ? 1 : sizeof row_counts / sizeof row_counts[0]); r++) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
      if (row_counts[r] > 16 && shapes[i].columns > 10000) continue;  // prefill needs one row of logits
      time_kernel(&k, d, shapes[i], row_counts[r]);
    }
  }
}

int main(int count, char **arguments) {
  static data d;
  const char *wanted = count > 1 ? arguments[1] : NULL;
  d.weights = aligned_alloc(64, WEIGHT_BYTES);
  d.activations = aligned_alloc(64, MAXIMUM_ROWS * MAXIMUM_DEPTH * sizeof(float));
  d.scales = aligned_alloc(64, MAXIMUM_COLUMNS * sizeof(float));
  d.column_sums = aligned_alloc(64, MAXIMUM_COLUMNS * sizeof(int32_t));
  d.output = aligned_alloc(64, (size_t)MAXIMUM_ROWS * MAXIMUM_COLUMNS * sizeof(float));
  if (!d.weights || !d.activations || !d.scales || !d.column_sums || !d.output) return 1;
  // As bytes, words and floats alike these are small ordinary numbers, and every page is its own.
  memset(d.weights, 0x3c, WEIGHT_BYTES);
  memset(d.activations, 0x3c, MAXIMUM_ROWS * MAXIMUM_DEPTH * sizeof(float));
  memset(d.scales, 0x3c, MAXIMUM_COLUMNS * sizeof(float));
  memset(d.column_sums, 0, MAXIMUM_COLUMNS * sizeof(int32_t));
  for (size_t i = 0; i < MAXIMUM_ROWS; i++) d.quantization[i] = (lathe_row_quantization){0.01f, 128};

  size_t kernels;
  const lathe_linear_qd8_kernel *int8 = lathe_linear_qd8_kernels(&kernels);
  for (size_t i = 0; i < kernels; i++) {
    time_shapes((kernel){"linear_qd8_qc8w", int8[i].name, int8[i].features, 1, &int8[i], NULL}, &d, wanted);
  }
  const lathe_linear_f32_kernel *float32 = lathe_linear_f32_kernels(&kernels);
  for (size_t i = 0; i < kernels; i++) {
    time_shapes((kernel){"linear_f32", float32[i].name, float32[i].features, 4, NULL, &float32[i]}, &d, wanted);
  }
  return 0;
}
