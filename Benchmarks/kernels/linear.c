// The linear layers, on matrices of GPT-2 small.
//
// At few rows 256 MB of matrices are read in turn, so that weights come from memory as in decoding. From 16 rows on one
// matrix is multiplied again and again, as in prefill, where many blocks of rows share it. The bytes are the weights'.
#include <stdio.h>

#include "families.h"
#include "matrices.h"

enum { MANY_ROWS = 16 };  // from here on weights stay in cache

static const matrix_shape shapes[] = {{768, 2304}, {3072, 768}, {768, 50272}};
enum { SHAPES = sizeof shapes / sizeof shapes[0], HEAD_COLUMNS = 50272 };
static const size_t usual_rows[] = {1, 4, 8, 16, 512};
// Weights are expanded for many rows; for fewer there is a kernel that reads them in place.
static const size_t expanded_rows[] = {8, 16, 512};

// What every kernel needs beside weights, large enough for every shape.
static struct {
  void *activations;
  float *output;
  int8_t *scratch;
  lathe_row_quantization quantization[MAXIMUM_ROWS];
} data;

static void make_data(void) {
  if (data.activations) return;
  data.activations = filled(MAXIMUM_ROWS * MAXIMUM_MATRIX_DEPTH * sizeof(float), ORDINARY);
  // Many rows of the head are not measured: prefill wants one row of logits.
  const size_t head = MANY_ROWS * HEAD_COLUMNS, others = MAXIMUM_ROWS * MAXIMUM_MATRIX_DEPTH;
  data.output = filled((head > others ? head : others) * sizeof(float), 0);
  size_t scratch = 0;
  for (int format = 0; format < LATHE_WEIGHT_FORMATS; format++) {
    const size_t bytes = lathe_linear_qd8_scratch_bytes((lathe_weight_format)format, MAXIMUM_MATRIX_DEPTH);
    scratch = bytes > scratch ? bytes : scratch;
  }
  data.scratch = filled(scratch, 0);
  for (size_t i = 0; i < MAXIMUM_ROWS; i++) data.quantization[i] = (lathe_row_quantization){0.01f, 128};
}

// A kernel of either family, and the matrices it is given in turn.
typedef struct {
  const matrices *matrices;
  size_t copies, rows;
  lathe_linear_qd8_choice int8;  // or
  const lathe_linear_f32_kernel *float32;
} subject;

static void run_int8(const subject *s, size_t i) {
  const size_t element = s->int8.kernel->storage == LATHE_ACTIVATIONS_I16_CENTERED ? 2 : 1;
  const matrix_shape shape = s->matrices->shape;
  const lathe_weights weights = matrix_weights(s->matrices, i);
  const lathe_linear_qd8 operation = {
      .rows = s->rows, .activations = data.activations, .activation_stride_bytes = shape.depth * element,
      .quantization = data.quantization, .weights = &weights, .bias = matrix_scales(), .output = data.output,
      .output_stride_bytes = shape.columns * sizeof(float)};
  lathe_linear_qd8_run(s->int8, &operation, 0, shape.columns / 16, data.scratch);
}

static void run_float32(const subject *s, size_t i) {
  const matrix_shape shape = s->matrices->shape;
  const lathe_linear_f32 operation = {
      .rows = s->rows, .columns = shape.columns, .depth = shape.depth, .activations = data.activations,
      .activation_stride_bytes = shape.depth * sizeof(float), .weights = matrix_values(s->matrices, i),
      .bias = matrix_scales(), .output = data.output, .output_stride_bytes = shape.columns * sizeof(float)};
  s->float32->run(&operation, 0, shape.columns / 16);
}

static void run(const void *context) {
  const subject *s = context;
  for (size_t i = 0; i < s->copies; i++) s->float32 ? run_float32(s, i) : run_int8(s, i);
}

static void probe(const void *context) {
  const subject *s = context;
  for (size_t i = 0; i < s->copies; i++) probe_matrix(s->matrices, i);
}

static arithmetic arithmetic_of(const subject *s) {
  if (s->float32) return ARITHMETIC_FLOAT32;
  const lathe_weight_format read = s->int8.kernel->format;  // int8 after expansion
  return read == LATHE_QC4W || read == LATHE_QC4W_SPARSE ? ARITHMETIC_DOT_INT4 : ARITHMETIC_DOT_INT8;
}

static void measure_rows(const char *family, const char *kernel, uint32_t features, subject s) {
  if (!is_wanted(family, kernel, features)) return;
  const matrix_shape shape = s.matrices->shape;
  if (features == 0 && shape.columns == HEAD_COLUMNS) return;  // the definitions are not for speed
  size_t rows[MAXIMUM_ROW_COUNTS];
  const size_t count =
      s.int8.expand ? rows_wanted(expanded_rows, sizeof expanded_rows / sizeof *expanded_rows, features, rows)
                    : rows_wanted(usual_rows, sizeof usual_rows / sizeof *usual_rows, features, rows);
  for (size_t r = 0; r < count; r++) {
    s.rows = rows[r];
    if (s.rows >= MANY_ROWS && shape.columns == HEAD_COLUMNS) continue;
    s.copies = s.rows >= MANY_ROWS || features == 0 ? 1 : s.matrices->copies;
    measurement m = {
        .family = family, .kernel = kernel, .features = features, .rows = s.rows, .calls = (double)s.copies,
        .bytes = (double)(matrix_bytes(s.matrices) * s.copies),
        .operations = 2.0 * (double)(s.rows * shape.depth * shape.columns * s.copies),
        .arithmetic = arithmetic_of(&s),
        .arithmetic_features = s.float32 ? features : s.int8.kernel->features, .run = run, .probe = probe,
        .context = &s};
    snprintf(m.shape, sizeof m.shape, "%zux%zu", shape.depth, shape.columns);
    measure(&m);
  }
}

// Every kernel that reads the format in place, and every one of int8 after the best expansion.
static void measure_int8(const char *family, const matrices *matrices) {
  const lathe_weight_format format = matrices->encoding->format;
  size_t count;
  const lathe_linear_qd8_kernel *kernels = lathe_linear_qd8_kernels(&count);
  for (size_t i = 0; i < count; i++) {
    if (kernels[i].format != format) continue;
    measure_rows(family, kernels[i].name, kernels[i].features, (subject){matrices, .int8 = {&kernels[i], NULL}});
  }
  if (format == LATHE_QC8W) return;
  for (size_t i = 0; i < count; i++) {
    // Sparse weights are expanded by an instruction set that no kernel of dense ones needs.
    const uint32_t beside = kernels[i].features & LATHE_CPU_AVX512VNNI ? LATHE_CPU_AVX512VBMI2 : 0;
    const lathe_expand_kernel *expand = lathe_expand_select(format, kernels[i].features | beside);
    if (kernels[i].format != LATHE_QC8W || kernels[i].features == 0 || expand->features == 0) continue;
    char name[64];
    snprintf(name, sizeof name, "expand+%s", kernels[i].name);
    measure_rows(
        family, name, kernels[i].features | expand->features, (subject){matrices, .int8 = {&kernels[i], expand}});
  }
}

static void measure_float32(const char *family, const matrices *matrices) {
  size_t count;
  const lathe_linear_f32_kernel *kernels = lathe_linear_f32_kernels(&count);
  for (size_t i = 0; i < count; i++) {
    measure_rows(family, kernels[i].name, kernels[i].features, (subject){matrices, .float32 = &kernels[i]});
  }
}

void measure_linear(void) {
  for (size_t e = 0; e < ENCODINGS; e++) {
    char family[64];
    snprintf(family, sizeof family, encodings[e].float32 ? "linear_%s" : "linear_qd8_%s", encodings[e].name);
    if (!is_wanted_family(family)) continue;
    make_data();
    for (size_t s = 0; s < SHAPES; s++) {
      const matrices matrices = make_matrices(&encodings[e], shapes[s]);
      if (encodings[e].float32) {
        measure_float32(family, &matrices);
      } else {
        measure_int8(family, &matrices);
      }
    }
  }
}
