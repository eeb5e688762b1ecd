// What every kernel of the tables gives for seeded inputs, compared with the digests of Tests/Golden/kernels.json: the
// cases of Tests/CKernelsTests/KernelDigestTests.swift, for machines that Swift is not at hand for.
#include <stdio.h>
#include <string.h>

#include "support.h"

static const size_t depths[] = {1, 17, 64, 100, 768};
enum { DEPTHS = sizeof depths / sizeof *depths };

typedef struct {
  char text[80];
} name;

static name name_of(const char *format, const char *first, size_t number, const char *last) {
  name result;
  snprintf(result.text, sizeof result.text, format, first, number, last);
  return result;
}

// MARK: - Quantized activations

static void quantize_digests(const lathe_quantize_kernel *kernel, size_t depth) {
  enum { ROWS = 3 };
  static const char *const storages[] = {"u8", "i16"};
  const size_t padded = lathe_round_up(depth, 64);
  const float *x = input_floats(ROWS * depth, depth, true);
  for (size_t halves = 0; halves < 2; halves++) {
    for (size_t storage = 0; storage < 2; storage++) {
      const size_t rows = halves ? 2 * ROWS : ROWS, stride = padded * (storage + 1);
      // Side by side, as they are digested: scales (of halves alone), quantization, numbers.
      const size_t scale_bytes = halves ? rows * sizeof(float) : 0, row_bytes = rows * sizeof(lathe_row_quantization);
      uint8_t *all = memory_take(scale_bytes + row_bytes + rows * stride, 4);
      float *scales = (float *)all;
      lathe_row_quantization *quantization = (lathe_row_quantization *)(all + scale_bytes);
      uint8_t *q = memory_take(rows * stride, 64);
      if (halves) {
        kernel->halves_to_storage[storage](x, depth * 4, ROWS, depth, scales, quantization, q, stride);
      } else {
        kernel->to_storage[storage](x, depth * 4, ROWS, depth, quantization, q, stride);
      }
      memcpy(all + scale_bytes + row_bytes, q, rows * stride);
      const name key = name_of(
          halves ? "quantize halves %s, depth %zu%s" : "quantize %s, depth %zu%s", storages[storage], depth, "");
      golden_compare(kernel->name, key.text, xxh64(all, scale_bytes + row_bytes + rows * stride));
    }
  }
  memory_free_all();
}

// MARK: - Linear layers

enum { LINEAR_ROWS = 9, LINEAR_COLUMNS = 77, LINEAR_PADDED = 80 };

static void linear_qd8_digests(
    const weight_case *which, lathe_linear_qd8_choice choice, const char *kernel, size_t depth) {
  const bool wide = choice.kernel->storage == LATHE_ACTIVATIONS_I16_CENTERED;
  const size_t stride = lathe_round_up(depth, 64) * (wide ? 2 : 1), output_bytes = LINEAR_ROWS * LINEAR_COLUMNS * 4;
  const float *x = input_floats(LINEAR_ROWS * depth, depth, true);
  lathe_row_quantization *quantization = memory_take(LINEAR_ROWS * sizeof *quantization, 4);
  uint8_t *q = memory_take(LINEAR_ROWS * stride, 64);
  size_t count;
  lathe_quantize_kernels(&count)->to_storage[wide](x, depth * 4, LINEAR_ROWS, depth, quantization, q, stride);
  const lathe_weights weights =
      pack_weights(which, input_floats(LINEAR_COLUMNS * depth, depth + 1, false), LINEAR_COLUMNS, depth);
  lathe_linear_qd8 operation = {
      .rows = LINEAR_ROWS,
      .activations = q,
      .activation_stride_bytes = stride,
      .quantization = quantization,
      .weights = &weights,
      .bias = input_floats(LINEAR_PADDED, 3, false),
      .residual = input_floats(LINEAR_ROWS * LINEAR_COLUMNS, 4, false),
      .residual_stride_bytes = LINEAR_COLUMNS * 4,
      .output = memory_take(output_bytes, 4),
      .output_stride_bytes = LINEAR_COLUMNS * 4,
  };
  int8_t *scratch = choice.expand ? memory_take(lathe_linear_qd8_scratch_bytes(which->format, depth), 64) : NULL;
  for (int epilogue = 0; epilogue < 4; epilogue++) {
    operation.epilogue = (lathe_epilogue)epilogue;
    lathe_linear_qd8_run(choice, &operation, 0, LINEAR_PADDED / 16, scratch);
    char key[80];
    snprintf(key, sizeof key, "linear_qd8_%s, depth %zu, %s", which->name, depth, epilogue_names[epilogue]);
    golden_compare(kernel, key, xxh64(operation.output, output_bytes));
  }
  memory_free_all();
}

static void linear_f32_digests(const lathe_linear_f32_kernel *kernel, size_t depth) {
  const size_t output_bytes = LINEAR_ROWS * LINEAR_COLUMNS * 4;
  float *weights = memory_take(lathe_f32_bytes(LINEAR_COLUMNS, depth), 64);
  lathe_pack_f32(
      input_floats(LINEAR_COLUMNS * depth, depth + 1, false), depth * 4, 4, LINEAR_COLUMNS, depth, weights);
  lathe_linear_f32 operation = {
      .rows = LINEAR_ROWS,
      .columns = LINEAR_COLUMNS,
      .depth = depth,
      .activations = input_floats(LINEAR_ROWS * depth, depth, false),
      .activation_stride_bytes = depth * 4,
      .weights = weights,
      .bias = input_floats(LINEAR_PADDED, 3, false),
      .residual = input_floats(LINEAR_ROWS * LINEAR_COLUMNS, 4, false),
      .residual_stride_bytes = LINEAR_COLUMNS * 4,
      .output = memory_take(output_bytes, 4),
      .output_stride_bytes = LINEAR_COLUMNS * 4,
  };
  for (int epilogue = 0; epilogue < 4; epilogue++) {
    operation.epilogue = (lathe_epilogue)epilogue;
    kernel->run(&operation, 0, LINEAR_PADDED / 16);
    const name key = name_of("linear_f32%s, depth %zu, %s", "", depth, epilogue_names[epilogue]);
    golden_compare(kernel->name, key.text, xxh64(operation.output, output_bytes));
  }
  memory_free_all();
}

// MARK: - Rows, embeddings, attention

static void embed(const lathe_vector_kernel *kernel, size_t width, const weight_case *which, float *output) {
  enum { VOCABULARY = 37 };
  static const int32_t ids[] = {36, 0, 17}, positions[] = {0, 2, 1};
  const float *w = input_floats(VOCABULARY * width, width + 7, false);
  float *table = memory_take(lathe_f32_bytes(VOCABULARY, width), 64);
  lathe_pack_f32(w, width * 4, 4, VOCABULARY, width, table);
  const lathe_weights weights = pack_weights(which ? which : &weight_cases[0], w, VOCABULARY, width);
  const lathe_embedding operation = {
      .ids = ids,
      .positions = positions,
      .rows = 3,
      .width = width,
      .weights = &weights,
      .table = table,
      .position_table = input_floats(3 * width, 8, false),
      .position_stride_bytes = width * 4,
      .output = output,
      .output_stride_bytes = width * 4,
  };
  (which ? kernel->embed_qd8[which->format] : kernel->embed_f32)(&operation);
}

// At a temperature that leaves most values a weight, on a sum that they do not double.
static void choice_digests(const lathe_vector_kernel *kernel, const float *x, size_t count, size_t width) {
  const float best = x[kernel->greatest(x, count)];
  uint64_t *near = memory_take(count * 8, 8), *far = memory_take(count * 8, 8), *keys = memory_take((count + 1) * 8, 8);
  float *weights = memory_take(count * 4, 4);
  const lathe_candidate_counts counts = kernel->candidates(x, count, best, best - 70, 30, 1.5f, near, far);
  const size_t kept = counts.near + counts.far;
  memcpy(keys, near, counts.near * 8);
  memcpy(keys + counts.near, far, counts.far * 8);
  keys[kept] = counts.near;
#define COMPARE(what, data, bytes) \
  golden_compare(kernel->name, name_of("%s, width %zu%s", what, width, "").text, xxh64(data, bytes))
  COMPARE("candidates", keys, (kept + 1) * 8);
  kernel->exp_ranks(keys, kept, weights);
  COMPARE("exp_ranks", weights, kept * 4);
  const float sum = kernel->add_unordered(4096.25f, weights, kept);
  COMPARE("add_unordered", &sum, sizeof sum);
#undef COMPARE
}

static void row_digests(const lathe_vector_kernel *kernel, size_t width) {
  enum { ROWS = 3 };
  const float *x = input_floats(ROWS * width, width, true);
  const float *gamma = input_floats(width, 5, false), *beta = input_floats(width, 6, false);
  const size_t bytes = ROWS * width * 4;
  float *output = memory_take(bytes, 4);  // where less is written, what came before remains
#define COMPARE(what) \
  golden_compare(kernel->name, name_of("%s, width %zu%s", what, width, "").text, xxh64(output, bytes))
  kernel->layer_norm(x, width * 4, ROWS, width, gamma, beta, 1e-5f, output, width * 4);
  COMPARE("layer_norm");
  for (int epilogue = 1; epilogue < 4; epilogue++) {
    kernel->activate(x, ROWS * width, (lathe_epilogue)epilogue, output);
    COMPARE(epilogue_names[epilogue]);
  }
  kernel->add(x, gamma, width, output);
  COMPARE("add");
  kernel->combine_halves(x, x + width, width, 0.37f, gamma, beta, output);
  COMPARE("combine_halves");
  const float sum = kernel->log_sum_exp(x, ROWS * width);
  golden_compare(kernel->name, name_of("log_sum_exp%s, width %zu%s", "", width, "").text, xxh64(&sum, sizeof sum));
  const uint32_t greatest = (uint32_t)kernel->greatest(x, ROWS * width);
  golden_compare(
      kernel->name, name_of("greatest%s, width %zu%s", "", width, "").text, xxh64(&greatest, sizeof greatest));
  choice_digests(kernel, x, ROWS * width, width);
  for (size_t i = 0; i < WEIGHT_CASES; i++) {
    embed(kernel, width, &weight_cases[i], output);
    const name key = name_of("embed_%s, width %zu%s", weight_cases[i].name, width, "");
    golden_compare(kernel->name, key.text, xxh64(output, bytes));
  }
  embed(kernel, width, NULL, output);
  COMPARE("embed_f32");
  memory_free_all();
}

// Over five blocks, past the split at 256 positions.
static void attention_digests(const lathe_vector_kernel *kernel, lathe_kv_type type, size_t dimension) {
  enum { POSITIONS = 300, ROWS = 11, BLOCKS = (POSITIONS + 63) / 64 };
  static const char *const names[] = {"f32", "f16", "int8"};
  static const size_t element_bytes[] = {4, 2, 1};
  const size_t scale_bytes = type == LATHE_KV_I8 ? 4 : 0;
  const size_t key_bytes = 64 * (dimension * element_bytes[type] + scale_bytes);
  const size_t value_bytes = 64 * (lathe_round_up(dimension, 16) * element_bytes[type] + scale_bytes);
  const size_t block_bytes = key_bytes + value_bytes, output_bytes = ROWS * dimension * 4;
  uint8_t *all = memory_take(BLOCKS * block_bytes + output_bytes, 4);
  uint8_t *blocks[BLOCKS];
  for (size_t b = 0; b < BLOCKS; b++) blocks[b] = memory_take(block_bytes, 64);
  const lathe_kv_head head = {type, dimension, blocks, 0, key_bytes};
  const float *keys = input_floats(POSITIONS * dimension, 9, false);
  const float *values = input_floats(POSITIONS * dimension, 10, false);
  float *output = memory_take(output_bytes, 4);
  kernel->kv_store(&head, 0, POSITIONS, keys, dimension * 4, values, dimension * 4);
  const lathe_attention operation = {
      .head = &head,
      .first_position = POSITIONS - ROWS,
      .rows = ROWS,
      .queries = input_floats(ROWS * dimension, 11, false),
      .query_stride_bytes = dimension * 4,
      .scale = 0.37f,
      .output = output,
      .output_stride_bytes = dimension * 4,
      .scratch = memory_take(lathe_attention_scratch_floats(POSITIONS, dimension) * 4, 64),
  };
  kernel->attention(&operation);
  for (size_t b = 0; b < BLOCKS; b++) memcpy(all + b * block_bytes, blocks[b], block_bytes);
  memcpy(all + BLOCKS * block_bytes, output, output_bytes);
  const name key = name_of("attention, KV %s, dimension %zu%s", names[type], dimension, "");
  golden_compare(kernel->name, key.text, xxh64(all, BLOCKS * block_bytes + output_bytes));
  memory_free_all();
}

// MARK: - All tables

static void linear_qd8_all(void) {
  size_t kernels, expansions;
  const lathe_linear_qd8_kernel *kernel = lathe_linear_qd8_kernels(&kernels);
  const lathe_expand_kernel *expand = lathe_expand_kernels(&expansions);
  for (size_t d = 0; d < DEPTHS; d++) {
    for (size_t w = 0; w < WEIGHT_CASES; w++) {
      for (size_t i = 0; i < kernels; i++) {
        if (kernel[i].format != weight_cases[w].format || !can_run(kernel[i].features)) continue;
        linear_qd8_digests(&weight_cases[w], (lathe_linear_qd8_choice){&kernel[i], NULL}, kernel[i].name, depths[d]);
      }
      // Every expansion before every dense kernel.
      for (size_t e = 0; e < expansions; e++) {
        if (expand[e].format != weight_cases[w].format || !can_run(expand[e].features)) continue;
        if (expand[e].format == LATHE_QC8W) continue;
        for (size_t i = 0; i < kernels; i++) {
          if (kernel[i].format != LATHE_QC8W || !can_run(kernel[i].features)) continue;
          linear_qd8_digests(
              &weight_cases[w], (lathe_linear_qd8_choice){&kernel[i], &expand[e]}, expand[e].name, depths[d]);
        }
      }
    }
  }
}

void test_digests(void) {
  size_t count;
  const lathe_quantize_kernel *quantize = lathe_quantize_kernels(&count);
  for (size_t i = 0; i < count; i++) {
    for (size_t d = 0; d < DEPTHS && can_run(quantize[i].features); d++) quantize_digests(&quantize[i], depths[d]);
  }
  linear_qd8_all();
  const lathe_linear_f32_kernel *f32 = lathe_linear_f32_kernels(&count);
  for (size_t i = 0; i < count; i++) {
    for (size_t d = 0; d < DEPTHS && can_run(f32[i].features); d++) linear_f32_digests(&f32[i], depths[d]);
  }
  const lathe_vector_kernel *vector = lathe_vector_kernels(&count);
  static const size_t dimensions[] = {5, 16, 64};
  for (size_t i = 0; i < count; i++) {
    if (!can_run(vector[i].features)) continue;
    for (size_t d = 0; d < DEPTHS; d++) row_digests(&vector[i], depths[d]);
    for (int type = 0; type < LATHE_KV_TYPES; type++) {
      for (size_t d = 0; d < 3; d++) attention_digests(&vector[i], (lathe_kv_type)type, dimensions[d]);
    }
  }
}
