// The linear and quantize kernels against their scalar definitions on many shapes: every array before a guard page, a
// sentinel between the rows of outputs.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

// Every number of rows that a block of a kernel can have, and some of several blocks.
static const size_t rows_tested[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17, 33};
static const size_t columns_tested[] = {1, 16, 31, 77, 150};
static const size_t depths_tested[] = {65, 1, 320, 64, 200};
enum { ROWS_TESTED = sizeof rows_tested / sizeof *rows_tested };
enum { COLUMNS_TESTED = sizeof columns_tested / sizeof *columns_tested };
enum { DEPTHS_TESTED = sizeof depths_tested / sizeof *depths_tested };

static const uint32_t sentinel = 0xdeadbeef;

// What is the same in both linear families: output rows set apart by a slack that must stay as it was.
typedef struct {
  size_t rows, columns, depth, padded_columns, stride_bytes, output_bytes;
  lathe_epilogue epilogue;
  int residual;  // 0: none, 1: an array of its own, 2: the output itself
  const float *bias, *residuals;
} linear_case;

static linear_case linear_case_of(size_t rows, size_t columns, size_t depth, size_t seed) {
  linear_case c = {.rows = rows, .columns = columns, .depth = depth, .padded_columns = lathe_round_up(columns, 16)};
  const size_t stride = columns + seed % 2 * 5;
  c.stride_bytes = stride * 4;
  c.output_bytes = ((rows - 1) * stride + columns) * 4;
  c.epilogue = (lathe_epilogue)(seed % 4);
  c.residual = (int)(seed % 3);
  c.bias = seed % 5 != 0 ? input_floats(c.padded_columns, seed + 1, false) : NULL;
  c.residuals = input_floats(c.output_bytes / 4, seed + 2, false);
  return c;
}

static float *fresh_output(const linear_case *c) {
  uint32_t *output = memory_take(c->output_bytes, 4);
  for (size_t i = 0; i < c->output_bytes / 4; i++) {
    output[i] = sentinel;
    const bool is_slack = i % (c->stride_bytes / 4) >= c->columns;
    if (c->residual == 2 && !is_slack) memcpy(&output[i], &c->residuals[i], 4);
  }
  return (float *)output;
}

// MARK: - int8 and int4

// `extreme`: the greatest activations and columns of weights of the greatest magnitude, of either sign.
typedef struct {
  linear_case shape;
  const weight_case *format;
  bool extreme;
  lathe_weights weights;
  lathe_row_quantization *quantization;
  void *activations[2];  // by storage
} qd8_case;

static lathe_weights extreme_weights(const weight_case *which, size_t columns, size_t depth) {
  float *w = memory_take(columns * depth * 4, 4);
  for (size_t i = 0; i < columns * depth; i++) w[i] = i / depth % 2 ? -1 : 1;
  lathe_weights weights = pack_weights(which, w, columns, depth);
  if (which->format != LATHE_QC4W) return weights;
  const size_t groups = lathe_qc4w_groups(depth, which->group_size);
  int8_t *q = memory_take(columns * depth, 1), *m = memory_take(columns * groups, 1);
  memset(q, -8, columns * depth);
  for (size_t i = 0; i < columns * groups; i++) m[i] = i / groups % 2 ? -15 : 15;
  lathe_pack_qc4w_values(
      q, m, columns, depth, which->group_size, (uint8_t *)weights.values, (int8_t *)weights.multipliers,
      (int32_t *)weights.column_sums);
  return weights;
}

static qd8_case qd8_case_of(const weight_case *format, size_t rows, size_t columns, size_t depth, size_t seed) {
  qd8_case c = {.shape = linear_case_of(rows, columns, depth, seed), .format = format, .extreme = seed % 4 == 1};
  c.weights = c.extreme ? extreme_weights(format, columns, depth)
                        : pack_weights(format, input_floats(columns * depth, seed + 3, false), columns, depth);
  const size_t padded = lathe_round_up(depth, 64);
  generator g = {seed};
  uint8_t *unsigned_bytes = c.activations[0] = memory_take(rows * padded, 64);
  int16_t *centered = c.activations[1] = memory_take(rows * padded * 2, 64);
  c.quantization = memory_take(rows * sizeof *c.quantization, 4);
  for (size_t i = 0; i < rows; i++) {
    const int32_t random = (int32_t)(generator_next(&g) & 255);
    c.quantization[i] = (lathe_row_quantization){0.01f, c.extreme ? (i % 2 ? 0 : 255) : random};
    for (size_t k = 0; k < depth; k++) {
      const uint8_t q = c.extreme ? (i % 3 ? 255 : 0) : (uint8_t)generator_next(&g);
      unsigned_bytes[i * padded + k] = q;
      centered[i * padded + k] = (int16_t)(q - c.quantization[i].zero_point);
    }
  }
  return c;
}

static const float *run_qd8(const qd8_case *c, lathe_linear_qd8_choice choice, size_t cut) {
  const size_t storage = choice.kernel->storage, panels = c->shape.padded_columns / 16;
  float *output = fresh_output(&c->shape);
  const lathe_linear_qd8 operation = {
      .rows = c->shape.rows,
      .activations = c->activations[storage],
      .activation_stride_bytes = lathe_round_up(c->shape.depth, 64) * (storage + 1),
      .quantization = c->quantization,
      .weights = &c->weights,
      .bias = c->shape.bias,
      .epilogue = c->shape.epilogue,
      .residual = c->shape.residual == 0 ? NULL : c->shape.residual == 1 ? c->shape.residuals : output,
      .residual_stride_bytes = c->shape.stride_bytes,
      .output = output,
      .output_stride_bytes = c->shape.stride_bytes,
  };
  int8_t *scratch =
      choice.expand ? memory_take(lathe_linear_qd8_scratch_bytes(c->format->format, c->shape.depth), 64) : NULL;
  cut = cut < panels ? cut : panels;
  lathe_linear_qd8_run(choice, &operation, cut, panels, scratch);
  if (cut > 0) lathe_linear_qd8_run(choice, &operation, 0, cut, scratch);
  return output;
}

static void compare_qd8(const qd8_case *c, lathe_linear_qd8_choice choice, const char *name, const float *expected) {
  const size_t cut = c->shape.rows % 4;
  account(
      "linear_qd8", name, memcmp(run_qd8(c, choice, cut), expected, c->shape.output_bytes) == 0,
      "%s, %zu rows, %zu columns, depth %zu, epilogue %d, extreme %d, cut %zu, by %s", c->format->name, c->shape.rows,
      c->shape.columns, c->shape.depth, c->shape.epilogue, c->extreme, cut, choice.kernel->name);
}

static void qd8_shapes(const weight_case *format, size_t rows, size_t columns, size_t depth, size_t seed) {
  size_t kernels, expansions;
  const lathe_linear_qd8_kernel *kernel = lathe_linear_qd8_kernels(&kernels);
  const lathe_expand_kernel *expand = lathe_expand_kernels(&expansions);
  const qd8_case c = qd8_case_of(format, rows, columns, depth, seed);
  const lathe_expand_kernel *definition = lathe_expand_select(format->format, 0);
  const bool is_dense = format->format == LATHE_QC8W;
  const float *expected = run_qd8(&c, (lathe_linear_qd8_choice){kernel, is_dense ? NULL : definition}, 0);
  for (size_t i = 0; i < kernels; i++) {
    if (kernel[i].format == format->format && can_run(kernel[i].features)) {
      compare_qd8(&c, (lathe_linear_qd8_choice){&kernel[i], NULL}, kernel[i].name, expected);
    }
  }
  // The panels themselves, of some range that does not begin with the first.
  const size_t panels = c.shape.padded_columns / 16, first = seed % panels;
  const size_t bytes = (panels - first) * 16 * lathe_round_up(depth, 64);
  int8_t *plain = memory_take(bytes, 64);
  definition->run(&c.weights, first, panels, plain);
  for (size_t e = 0; e < expansions; e++) {
    if (expand[e].format != format->format || !can_run(expand[e].features)) continue;
    int8_t *expanded = memory_take(bytes, 64);
    expand[e].run(&c.weights, first, panels, expanded);
    account("expand", expand[e].name, memcmp(expanded, plain, bytes) == 0, "%s, %zu columns from panel %zu, depth %zu",
            format->name, columns, first, depth);
  }
  memory_free_all();
}

// MARK: - float32

static const float *run_f32(
    const linear_case *c, const lathe_linear_f32_kernel *kernel, const float *x, const float *w) {
  float *output = fresh_output(c);
  const lathe_linear_f32 operation = {
      .rows = c->rows,
      .columns = c->columns,
      .depth = c->depth,
      .activations = x,
      .activation_stride_bytes = c->depth * 4,
      .weights = w,
      .bias = c->bias,
      .epilogue = c->epilogue,
      .residual = c->residual == 0 ? NULL : c->residual == 1 ? c->residuals : output,
      .residual_stride_bytes = c->stride_bytes,
      .output = output,
      .output_stride_bytes = c->stride_bytes,
  };
  kernel->run(&operation, 0, c->padded_columns / 16);
  return output;
}

static void f32_shapes(size_t rows, size_t columns, size_t depth, size_t seed) {
  size_t count;
  const lathe_linear_f32_kernel *kernel = lathe_linear_f32_kernels(&count);
  const linear_case c = linear_case_of(rows, columns, depth, seed);
  const float *x = input_floats(rows * depth, seed + 3, true);
  float *w = memory_take(lathe_f32_bytes(columns, depth), 64);
  lathe_pack_f32(input_floats(columns * depth, seed + 4, false), depth * 4, 4, columns, depth, w);
  const float *expected = run_f32(&c, kernel, x, w);
  for (size_t i = 0; i < count; i++) {
    if (!can_run(kernel[i].features)) continue;
    account("linear_f32", kernel[i].name, memcmp(run_f32(&c, &kernel[i], x, w), expected, c.output_bytes) == 0,
            "%zu rows, %zu columns, depth %zu, epilogue %d", rows, columns, depth, c.epilogue);
  }
  memory_free_all();
}

// MARK: - Quantized activations

static void quantize_shapes(size_t depth, size_t seed, float scale) {
  enum { ROWS = 2 };
  size_t count;
  const lathe_quantize_kernel *kernel = lathe_quantize_kernels(&count);
  float *x = input_floats(ROWS * depth, seed, true);
  for (size_t i = 0; i < ROWS * depth; i++) x[i] *= scale;
  const size_t padded = lathe_round_up(depth, 64);
  for (size_t storage = 0; storage < 2; storage++) {
    const size_t stride = padded * (storage + 1);
    for (size_t halves = 0; halves < 2; halves++) {
      const size_t rows = halves ? 2 * ROWS : ROWS, bytes = rows * stride, row_bytes = rows * 8;
      uint8_t *definition = NULL;
      for (size_t i = 0; i < count; i++) {
        if (!can_run(kernel[i].features)) continue;
        uint8_t *q = memory_take(bytes, 64);
        memset(q, 0x55, bytes);
        lathe_row_quantization *quantization = memory_take(row_bytes, 4);
        float *scales = memory_take(ROWS * 4, 4);
        if (halves) {
          kernel[i].halves_to_storage[storage](x, depth * 4, ROWS, depth, scales, quantization, q, stride);
        } else {
          kernel[i].to_storage[storage](x, depth * 4, ROWS, depth, quantization, q, stride);
        }
        uint8_t *all = memory_take(bytes + row_bytes + ROWS * 4, 4);
        memcpy(all, q, bytes);
        memcpy(all + bytes, quantization, row_bytes);
        memcpy(all + bytes + row_bytes, scales, ROWS * 4);
        if (!definition) definition = all;
        account("quantize", kernel[i].name, memcmp(all, definition, bytes + row_bytes + ROWS * 4) == 0,
                "depth %zu, storage %zu, halves %zu, scale %g", depth, storage, halves, (double)scale);
      }
    }
  }
  memory_free_all();
}

void test_linear_shapes(void) {
  size_t seed = 0;
  for (size_t r = 0; r < ROWS_TESTED; r++) {
    for (size_t c = 0; c < COLUMNS_TESTED; c++) {
      seed++;
      const size_t depth = depths_tested[(r + c) % DEPTHS_TESTED];
      for (size_t w = 0; w < WEIGHT_CASES; w++) {
        qd8_shapes(&weight_cases[w], rows_tested[r], columns_tested[c], depth, seed);
      }
      f32_shapes(rows_tested[r], columns_tested[c], depth, seed);
    }
  }
  for (size_t depth = 1; depth < 200; depth++) quantize_shapes(depth, depth, 1);
  const float scales[] = {0, 1e-38f, 1e-30f, 1e-20f, 1e20f, 1e35f};
  for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) quantize_shapes(77, i, scales[i]);
}
