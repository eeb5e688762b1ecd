// The vector kernels against their scalar definitions: rows of every length, the canonical functions along the whole
// number line, the cache in each type, attention at every place in a block; and the float environment of a region.
#include <stdio.h>
#include <string.h>

#include "support.h"

static const lathe_vector_kernel *table(size_t *count) { return lathe_vector_kernels(count); }

static void compare(
    const char *family, const lathe_vector_kernel *kernel, const void *x, const void *expected, size_t bytes, size_t a,
    size_t b) {
  account(family, kernel->name, memcmp(x, expected, bytes) == 0, "at %zu, %zu", a, b);
}

// MARK: - Rows

// Everything that takes a row, one result after the other.
static size_t run_rows(
    const lathe_vector_kernel *kernel, const float *x, const float *y, size_t width, float *results) {
  float *row = memory_take(width * 4, 4), *at = results;
#define KEEP (memcpy(at, row, width * 4), at += width)
  kernel->layer_norm(x, width * 4, 1, width, y, x, 1e-5f, row, width * 4);
  KEEP;
  for (int epilogue = 0; epilogue < 4; epilogue++) {
    kernel->activate(x, width, (lathe_epilogue)epilogue, row);
    KEEP;
  }
  kernel->add(x, y, width, row);
  KEEP;
  kernel->combine_halves(x, y, width, 0.37f, y, NULL, row);
  KEEP;
  *at++ = kernel->log_sum_exp(x, width);
  *at++ = (float)kernel->greatest(x, width);
#undef KEEP
  return (size_t)(at - results);
}

static void row_shapes(size_t width) {
  size_t count;
  const lathe_vector_kernel *kernel = table(&count);
  const float *x = input_floats(width, width, true), *y = input_floats(width, width + 1, false);
  float *expected = memory_take((7 * width + 2) * 4, 4), *found = memory_take((7 * width + 2) * 4, 4);
  run_rows(kernel, x, y, width, expected);
  for (size_t i = 0; i < count; i++) {
    if (!can_run(kernel[i].features)) continue;
    const size_t floats = run_rows(&kernel[i], x, y, width, found);
    compare("rows", &kernel[i], found, expected, floats * 4, width, 0);
  }
  memory_free_all();
}

// The choice of a token's kernels, and the choice itself by each of them.
static void choice_shapes(size_t width) {
  size_t count;
  const lathe_vector_kernel *kernel = table(&count);
  float *x = input_floats(width, width, false);
  for (size_t i = 0; i < width; i++) x[i] *= 9;
  const float best = x[kernel->greatest(x, width)], sum = 1.75f;
  uint64_t *expected = memory_take(width * 8, 8), *expected_far = memory_take(width * 8, 8);
  uint64_t *found = memory_take(width * 8, 8), *found_far = memory_take(width * 8, 8);
  float *weights[] = {memory_take(width * 4, 4), memory_take(width * 4, 4)}, sums[2];
  void *scratch = memory_take(lathe_choice_scratch_bytes(width), 64);
  const lathe_candidate_counts counts = kernel->candidates(x, width, best, best - 9, 0.7f, 8, expected, expected_far);
  const size_t kept = counts.near;
  kernel->exp_ranks(expected, kept, weights[0]);
  sums[0] = kernel->add_unordered(sum, weights[0] + kept / 2, kept - kept / 2);
  for (size_t i = 0; i < count; i++) {
    if (!can_run(kernel[i].features)) continue;
    const lathe_candidate_counts own = kernel[i].candidates(x, width, best, best - 9, 0.7f, 8, found, found_far);
    compare("candidates", &kernel[i], &own, &counts, sizeof own, width, 0);
    compare("candidates", &kernel[i], found, expected, kept * 8, width, 1);
    compare("candidates", &kernel[i], found_far, expected_far, counts.far * 8, width, 2);
    kernel[i].exp_ranks(expected, kept, weights[1]);
    compare("exp_ranks", &kernel[i], weights[1], weights[0], kept * 4, width, 0);
    sums[1] = kernel[i].add_unordered(sum, weights[0] + kept / 2, kept - kept / 2);
    compare("add_unordered", &kernel[i], &sums[1], &sums[0], 4, width, 0);
    for (int number = 0; number < 8; number++) {
      const lathe_choice choice = {x, width, best, 0.9f, number % 2 ? 20 : SIZE_MAX, 0.95f, 0.001f, (float)number / 8};
      const size_t token = lathe_choose(kernel, &choice, scratch), own_token = lathe_choose(&kernel[i], &choice, scratch);
      compare("choice", &kernel[i], &own_token, &token, sizeof token, width, (size_t)number);
    }
  }
  memory_free_all();
}

// Activations of floats all over the line, a few thousand at a time: every exponent, every sign.
static void activation_line(void) {
  enum { PIECE = 4096, STEP = 30011 };
  size_t count;
  const lathe_vector_kernel *kernel = table(&count);
  float *x = memory_take(PIECE * 4, 4), *expected = memory_take(PIECE * 4, 4), *found = memory_take(PIECE * 4, 4);
  uint64_t bits = 0;
  for (size_t piece = 0; bits <= 0xffffffff; piece++) {
    for (size_t i = 0; i < PIECE; i++, bits += STEP) {
      uint32_t word = (uint32_t)bits;
      if ((word & 0x7f800000) == 0x7f800000) word &= 0xbfffffff;  // finite
      memcpy(&x[i], &word, 4);
    }
    for (int epilogue = 1; epilogue < 4; epilogue++) {
      kernel->activate(x, PIECE, (lathe_epilogue)epilogue, expected);
      for (size_t i = 0; i < count; i++) {
        if (!can_run(kernel[i].features)) continue;
        kernel[i].activate(x, PIECE, (lathe_epilogue)epilogue, found);
        compare("activations", &kernel[i], found, expected, PIECE * 4, piece, (size_t)epilogue);
      }
    }
  }
  memory_free_all();
}

// MARK: - Cache and attention

enum { POSITIONS = 400, BLOCKS = (POSITIONS + 63) / 64 };

typedef struct {
  lathe_kv_head head;
  uint8_t *blocks[BLOCKS];
  size_t block_bytes;
} cache;

// Blocks as recycled ones may be: every byte 0xff, a NaN in both float types.
static void make_cache(cache *c, lathe_kv_type type, size_t dimension) {
  static const size_t element_bytes[] = {4, 2, 1};
  const size_t scale_bytes = type == LATHE_KV_I8 ? 4 : 0;
  const size_t key_bytes = 64 * (dimension * element_bytes[type] + scale_bytes);
  c->block_bytes = key_bytes + 64 * (lathe_round_up(dimension, 16) * element_bytes[type] + scale_bytes);
  for (size_t b = 0; b < BLOCKS; b++) memset(c->blocks[b] = memory_take(c->block_bytes, 64), 0xff, c->block_bytes);
  c->head = (lathe_kv_head){type, dimension, c->blocks, 0, key_bytes};
}

static const float *attend(
    const lathe_vector_kernel *kernel, const cache *c, const float *queries, size_t first, size_t rows) {
  const size_t dimension = c->head.head_dim;
  float *output = memory_take(rows * dimension * 4, 4);
  const lathe_attention operation = {
      .head = &c->head,
      .first_position = first,
      .rows = rows,
      .queries = queries,
      .query_stride_bytes = dimension * 4,
      .scale = 0.125f,
      .output = output,
      .output_stride_bytes = dimension * 4,
      .scratch = memory_take(lathe_attention_scratch_floats(first + rows, dimension) * 4, 64),
  };
  kernel->attention(&operation);
  return output;
}

static void attention_shapes(lathe_kv_type type, size_t dimension, size_t first, size_t rows) {
  size_t count;
  const lathe_vector_kernel *kernel = table(&count);
  const float *keys = input_floats((first + rows) * dimension, 1, true);
  const float *values = input_floats((first + rows) * dimension, 2, true);
  const float *queries = input_floats(rows * dimension, 3, false);
  cache definition;
  make_cache(&definition, type, dimension);
  kernel->kv_store(&definition.head, 0, first + rows, keys, dimension * 4, values, dimension * 4);
  const float *expected = attend(kernel, &definition, queries, first, rows);
  for (size_t i = 0; i < count; i++) {
    if (!can_run(kernel[i].features)) continue;
    cache own;
    make_cache(&own, type, dimension);
    kernel[i].kv_store(&own.head, 0, first + rows, keys, dimension * 4, values, dimension * 4);
    for (size_t b = 0; b < BLOCKS; b++) {
      compare("cache", &kernel[i], own.blocks[b], definition.blocks[b], own.block_bytes, (size_t)type, dimension);
    }
    const float *found = attend(&kernel[i], &own, queries, first, rows);
    compare("attention", &kernel[i], found, expected, rows * dimension * 4, first * 100 + rows, (size_t)type);
  }
  memory_free_all();
}

// The rounding to halves of floats all over the line, and the reading of every half.
static void half_line(void) {
  enum { DIMENSION = 64, STEP = 70001 };
  size_t count;
  const lathe_vector_kernel *kernel = table(&count);
  cache definition, own;
  make_cache(&definition, LATHE_KV_F16, DIMENSION);
  make_cache(&own, LATHE_KV_F16, DIMENSION);
  float *x = memory_take(64 * DIMENSION * 4, 4);
  uint64_t bits = 0;
  for (size_t piece = 0; bits <= 0xffffffff; piece++) {
    for (size_t i = 0; i < 64 * DIMENSION; i++, bits += STEP) {
      uint32_t word = (uint32_t)bits;
      if ((word & 0x7f800000) == 0x7f800000) word &= 0xbfffffff;
      // Three of four from 2⁻²⁷ to 2¹⁸, where halves are; of those, two at or beside the middle between two halves.
      if (i % 4) word = (word & 0x80000000) | (0x32000000 + (uint32_t)(bits >> 3) % 0x16800000);
      if (i % 4 > 1) word = (word & ~0x1fffu) + 0x1000 + (uint32_t)(i % 4 == 2 ? 0 : i / 4 % 3) - (i % 4 == 3);
      memcpy(&x[i], &word, 4);
    }
    kernel->kv_store(&definition.head, 0, 64, x, DIMENSION * 4, x, DIMENSION * 4);
    for (size_t i = 0; i < count; i++) {
      if (!can_run(kernel[i].features)) continue;
      kernel[i].kv_store(&own.head, 0, 64, x, DIMENSION * 4, x, DIMENSION * 4);
      compare("halves", &kernel[i], own.blocks[0], definition.blocks[0], own.block_bytes, piece, 0);
    }
  }
  // One position whose weight is 1: the output is the value itself. All finite halves.
  for (uint32_t first = 0; first < 0x10000; first += DIMENSION) {
    const float *queries = input_floats(DIMENSION, 4, false);
    memset(definition.blocks[0], 0, definition.block_bytes);
    uint16_t *values = (uint16_t *)(definition.blocks[0] + definition.head.value_offset_bytes);
    for (uint32_t i = 0; i < DIMENSION; i++) {
      const uint32_t half = first + i;
      values[i] = (uint16_t)((half & 0x7c00) == 0x7c00 ? half & 0xbfff : half);
    }
    const float *expected = attend(kernel, &definition, queries, 0, 1);
    for (size_t i = 0; i < count; i++) {
      if (!can_run(kernel[i].features)) continue;
      compare("halves", &kernel[i], attend(&kernel[i], &definition, queries, 0, 1), expected, DIMENSION * 4, first, 1);
    }
    if (first % 1024 == 960) {
      memory_free_all();
      make_cache(&definition, LATHE_KV_F16, DIMENSION);
    }
  }
  memory_free_all();
}

void test_vector_shapes(void) {
  for (size_t width = 1; width < 150; width++) row_shapes(width);
  row_shapes(768);
  for (size_t width = 1; width < 70; width++) choice_shapes(width);
  choice_shapes(3001);
  activation_line();
  half_line();
  static const size_t dimensions[] = {1, 5, 16, 40, 64, 80, 128};
  static const size_t firsts[] = {0, 1, 15, 62, 250, 255, 256, 320};
  size_t rows = 0;
  for (size_t d = 0; d < sizeof dimensions / sizeof *dimensions; d++) {
    for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
      for (int type = 0; type < LATHE_KV_TYPES; type++) {
        attention_shapes((lathe_kv_type)type, dimensions[d], firsts[f], rows++ % 14 + 1);
      }
    }
  }
}

// MARK: - The float environment

// A product that is denormal: 0 where a library has had denormals flushed.
static float denormal_product(void) {
  volatile float x = 0x1p-100f, y = 0x1p-40f;
  return x * y;
}

static void see_denormals(void *context, size_t thread, size_t threads) {
  (void)threads;
  ((float *)context)[thread] = denormal_product();
}

#if defined(__x86_64__)
static void flush_denormals(bool on) { __builtin_ia32_ldmxcsr(on ? 0x9fc0 : 0x1f80); }
#elif defined(__aarch64__)
static void flush_denormals(bool on) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)on << 24)); }
#endif

void test_float_environment(void) {
  enum { THREADS = 3 };
  float seen[THREADS] = {0};
  flush_denormals(true);
  const float before = denormal_product();
  lathe_parallel(THREADS, see_denormals, seen);
  const float after = denormal_product();
  flush_denormals(false);
  account("float environment", "parallel", before == 0 && after == 0, "the caller's own is kept");
  for (size_t i = 0; i < THREADS; i++) account("float environment", "parallel", seen[i] != 0, "thread %zu", i);
}
