#include "support.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// MARK: - Memory

static struct {
  void *at;
  size_t bytes;
} mappings[256];
static size_t mapping_count;

void *memory_take(size_t bytes, size_t alignment) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t body = (bytes + page - 1) / page * page, all = body + 2 * page;
  char *at = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (at == MAP_FAILED || mapping_count == sizeof mappings / sizeof *mappings || bytes % alignment != 0 ||
      mprotect(at, page, PROT_NONE) != 0 || mprotect(at + page + body, page, PROT_NONE) != 0) {
    fprintf(stderr, "no memory of %zu bytes, aligned to %zu, before a guard page\n", bytes, alignment);
    exit(2);
  }
  mappings[mapping_count].at = at;
  mappings[mapping_count++].bytes = all;
  return at + page + body - bytes;
}

void *memory_copy(const void *source, size_t bytes, size_t alignment) {
  return memcpy(memory_take(bytes, alignment), source, bytes);
}

void memory_free_all(void) {
  while (mapping_count > 0) {
    mapping_count--;
    munmap(mappings[mapping_count].at, mappings[mapping_count].bytes);
  }
}

// MARK: - Inputs

uint64_t generator_next(generator *g) {
  uint64_t z = g->state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

float *input_floats(size_t count, uint64_t seed, bool outliers) {
  generator g = {seed};
  float *x = memory_take(count * sizeof *x, sizeof *x);
  for (size_t i = 0; i < count; i++) {
    x[i] = (float)((int64_t)(generator_next(&g) >> 40) - (1 << 23)) * 0x1p-23f;
    if (outliers && i % 11 == 3) x[i] *= 64;
  }
  return x;
}

// MARK: - XXH64 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), seed 0

static const uint64_t prime1 = 0x9e3779b185ebca87, prime2 = 0xc2b2ae3d27d4eb4f, prime3 = 0x165667b19e3779f9,
                      prime4 = 0x85ebca77c2b2ae63, prime5 = 0x27d4eb2f165667c5;

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }
static uint64_t word(const unsigned char *at) {
  uint64_t x;
  memcpy(&x, at, sizeof x);
  return x;
}
static uint64_t mix(uint64_t lane, uint64_t x) { return rotate(lane + x * prime2, 31) * prime1; }

uint64_t xxh64(const void *data, size_t bytes) {
  const unsigned char *at = data, *end = at + bytes;
  uint64_t hash = prime5;
  if (bytes >= 32) {
    uint64_t lane[4] = {prime1 + prime2, prime2, 0, 0 - prime1};
    for (; end - at >= 32; at += 32) {
      for (int i = 0; i < 4; i++) lane[i] = mix(lane[i], word(at + 8 * i));
    }
    hash = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
    for (int i = 0; i < 4; i++) hash = (hash ^ mix(0, lane[i])) * prime1 + prime4;
  }
  hash += bytes;
  for (; end - at >= 8; at += 8) hash = rotate(hash ^ mix(0, word(at)), 27) * prime1 + prime4;
  if (end - at >= 4) {
    uint32_t four;
    memcpy(&four, at, sizeof four);
    hash = rotate(hash ^ four * prime1, 23) * prime2 + prime3;
    at += 4;
  }
  for (; at < end; at++) hash = rotate(hash ^ *at * prime5, 11) * prime1;
  hash = (hash ^ hash >> 33) * prime2;
  hash = (hash ^ hash >> 29) * prime3;
  return hash ^ hash >> 32;
}

// MARK: - The committed digests

static struct {
  char key[80];
  uint64_t digest;
  bool met;
} golden[1024];
static size_t golden_count;

void golden_load(const char *path) {
  FILE *file = fopen(path, "r");
  char line[256];
  // One case a line, as Tests/Support/TestSupport/GoldenDigests.swift writes them: ` "key": "digest",`.
  while (file && fgets(line, sizeof line, file)) {
    if (golden_count == sizeof golden / sizeof *golden) break;
    uint64_t *digest = &golden[golden_count].digest;
    if (sscanf(line, " \"%79[^\"]\": \"%" SCNx64 "\"", golden[golden_count].key, digest) == 2) golden_count++;
  }
  if (!file || golden_count == 0) {
    fprintf(stderr, "%s: no digests were read\n", path);
    exit(2);
  }
  fclose(file);
}

void golden_compare(const char *kernel, const char *key, uint64_t digest) {
  for (size_t i = 0; i < golden_count; i++) {
    if (strcmp(golden[i].key, key) != 0) continue;
    golden[i].met = true;
    account("digests", kernel, golden[i].digest == digest, "%s: %016" PRIx64 ", committed %016" PRIx64, key, digest,
            golden[i].digest);
    return;
  }
  account("digests", kernel, false, "%s: not among the committed digests", key);
}

size_t golden_missed(void) {
  size_t missed = 0;
  for (size_t i = 0; i < golden_count; i++) missed += !golden[i].met;
  return missed;
}

// MARK: - The account

static struct {
  const char *family, *kernel;
  size_t comparisons, failures;
} accounts[128];
static size_t account_count;

void account(const char *family, const char *kernel, bool equal, const char *format, ...) {
  size_t i = 0;
  while (i < account_count && (strcmp(accounts[i].family, family) || strcmp(accounts[i].kernel, kernel))) i++;
  if (i == sizeof accounts / sizeof *accounts) abort();
  if (i == account_count) {
    accounts[i].family = family;
    accounts[i].kernel = kernel;
    account_count++;
  }
  accounts[i].comparisons++;
  if (equal) return;
  if (++accounts[i].failures > 5) return;
  va_list arguments;
  va_start(arguments, format);
  printf("DIFFERS: %s, %s: ", family, kernel);
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
}

size_t account_of(const char *family, const char *kernel) {
  for (size_t i = 0; i < account_count; i++) {
    if (!strcmp(accounts[i].family, family) && !strcmp(accounts[i].kernel, kernel)) return accounts[i].comparisons;
  }
  return 0;
}

size_t account_failures(void) {
  size_t failures = 0;
  for (size_t i = 0; i < account_count; i++) failures += accounts[i].failures;
  return failures;
}

void account_print(void) {
  for (size_t i = 0; i < account_count; i++) {
    printf("  %-22s %-34s %6zu compared, %zu differ\n", accounts[i].family, accounts[i].kernel, accounts[i].comparisons,
           accounts[i].failures);
  }
}

// MARK: - Weights

const char *const epilogue_names[4] = {"none", "gelu_tanh", "gelu_erf", "relu"};

const weight_case weight_cases[WEIGHT_CASES] = {
    {"qc8w", LATHE_QC8W, 0},
    {"qc8w_sparse", LATHE_QC8W_SPARSE, 0},
    {"qc4w by 32", LATHE_QC4W, 32},
    {"qc4w by 64", LATHE_QC4W, 64},
    {"qc4w by 128", LATHE_QC4W, 128},
    {"qc4w_sparse by 32", LATHE_QC4W_SPARSE, 32},
    {"qc4w_sparse by 64", LATHE_QC4W_SPARSE, 64},
    {"qc4w_sparse by 128", LATHE_QC4W_SPARSE, 128},
};

static void leave_out_zeros(lathe_weights *weights, lathe_weight_format format) {
  const size_t columns = weights->columns, depth = weights->depth, panels = lathe_round_up(columns, 16) / 16;
  const size_t bytes = lathe_sparse_bytes(format, weights->values, columns, depth);
  uint8_t *values = memory_take(bytes + 64, 1);
  uint64_t *masks = memory_take(panels * lathe_round_up(depth, 64) / 4 * sizeof *masks, sizeof *masks);
  uint32_t *starts = memory_take(panels * sizeof *starts, sizeof *starts);
  lathe_pack_sparse(format, weights->values, columns, depth, 0, values, masks, starts);
  weights->format = format;
  weights->values = values;
  weights->masks = masks;
  weights->starts = starts;
}

lathe_weights pack_weights(const weight_case *which, const float *x, size_t columns, size_t depth) {
  const size_t padded = lathe_round_up(columns, 16), group_size = which->group_size;
  const bool is_int4 = group_size != 0, sparse = is_sparse(which->format);
  float *scales = memory_take(padded * sizeof *scales, sizeof *scales);
  int32_t *sums = memory_take(padded * sizeof *sums, sizeof *sums);
  if (sparse) {
    float *kept = memory_copy(x, columns * depth * sizeof *x, sizeof *x);
    for (size_t i = 0; i < columns * depth; i++) {
      if (__builtin_fabsf(kept[i]) < 0.5f) kept[i] = 0;
    }
    x = kept;
  }
  lathe_weights weights = {
      .format = is_int4 ? LATHE_QC4W : LATHE_QC8W,
      .columns = columns,
      .depth = depth,
      .scales = scales,
      .column_sums = sums,
      .group_size = group_size,
  };
  if (is_int4) {
    uint8_t *values = memory_take(lathe_qc4w_bytes(columns, depth), 64);
    int8_t *multipliers = memory_take(lathe_qc4w_multiplier_bytes(columns, depth, group_size), 16);
    lathe_pack_qc4w(x, depth * 4, 4, columns, depth, group_size, NULL, values, multipliers, scales, sums);
    weights.values = values;
    weights.multipliers = multipliers;
  } else {
    int8_t *values = memory_take(lathe_qc8w_bytes(columns, depth), 64);
    lathe_pack_qc8w(x, depth * 4, 4, columns, depth, values, scales, sums);
    weights.values = values;
  }
  if (sparse) leave_out_zeros(&weights, which->format);
  return weights;
}
