// The read probe: how fast this machine reads these very bytes now. Decode reads every weight once per token, so its speed
// is judged as a share of this.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "The kernels promise the same bits everywhere; they must not be built with -ffast-math."
#endif

#include "CKernels.h"

#include <string.h>

enum { STREAMS = 8, LINE = 64, PREFETCH_BYTES = 4096 };

// The bytes are cut into eight contiguous streams of `lines` cache lines; what is left over is added by the caller.
// Each returns a wrapping sum of 64-bit words, so every variant gives the same value.

static uint64_t read_words(const unsigned char *base, size_t bytes) {
  uint64_t sum = 0, word = 0;
  size_t at = 0;
  for (; at + sizeof word <= bytes; at += sizeof word) {
    memcpy(&word, base + at, sizeof word);
    sum += word;
  }
  word = 0;
  memcpy(&word, base + at, bytes - at);
  return sum + word;
}

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
static uint64_t read_streams_avx512(const unsigned char *base, size_t lines, bool prefetch) {
  __m512i sum[STREAMS];
  for (int s = 0; s < STREAMS; s++) { sum[s] = _mm512_setzero_si512(); }
  for (size_t i = 0; i < lines; i++) {
#pragma clang loop unroll(full)
    for (int s = 0; s < STREAMS; s++) {
      const unsigned char *line = base + (s * lines + i) * LINE;
      if (prefetch) { _mm_prefetch((const char *)line + PREFETCH_BYTES, _MM_HINT_T0); }
      sum[s] = _mm512_add_epi64(sum[s], _mm512_load_si512(line));
    }
  }
  for (int s = 1; s < STREAMS; s++) { sum[0] = _mm512_add_epi64(sum[0], sum[s]); }
  return (uint64_t)_mm512_reduce_add_epi64(sum[0]);
}
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
static uint64_t read_streams_avx2(const unsigned char *base, size_t lines, bool prefetch) {
  __m256i sum[STREAMS];
  for (int s = 0; s < STREAMS; s++) { sum[s] = _mm256_setzero_si256(); }
  for (size_t i = 0; i < lines; i++) {
#pragma clang loop unroll(full)
    for (int s = 0; s < STREAMS; s++) {
      const __m256i *line = (const __m256i *)(base + (s * lines + i) * LINE);
      if (prefetch) { _mm_prefetch((const char *)line + PREFETCH_BYTES, _MM_HINT_T0); }
      sum[s] = _mm256_add_epi64(sum[s], _mm256_load_si256(line));
      sum[s] = _mm256_add_epi64(sum[s], _mm256_load_si256(line + 1));
    }
  }
  for (int s = 1; s < STREAMS; s++) { sum[0] = _mm256_add_epi64(sum[0], sum[s]); }
  uint64_t words[4];
  _mm256_storeu_si256((__m256i *)words, sum[0]);
  return words[0] + words[1] + words[2] + words[3];
}
#pragma clang attribute pop
#endif

static uint64_t read_streams_portable(const unsigned char *base, size_t lines, bool prefetch) {
  uint64_t sum[STREAMS] = {0};
  for (size_t i = 0; i < lines; i++) {
    for (int s = 0; s < STREAMS; s++) {
      const unsigned char *line = base + (s * lines + i) * LINE;
      if (prefetch) { __builtin_prefetch(line + PREFETCH_BYTES); }
      for (int word = 0; word < 8; word++) {
        uint64_t value;
        memcpy(&value, line + word * sizeof value, sizeof value);
        sum[s] += value;
      }
    }
  }
  for (int s = 1; s < STREAMS; s++) { sum[0] += sum[s]; }
  return sum[0];
}

uint64_t lathe_read_probe(const void *base, size_t bytes, bool prefetch, uint32_t features) {
  const size_t lines = bytes / (STREAMS * LINE);
  const unsigned char *rest = (const unsigned char *)base + lines * STREAMS * LINE;
  const uint64_t sum = read_words(rest, bytes - lines * STREAMS * LINE);
#if defined(__x86_64__)
  if (features & LATHE_CPU_AVX512) { return sum + read_streams_avx512(base, lines, prefetch); }
  if (features & LATHE_CPU_AVX2) { return sum + read_streams_avx2(base, lines, prefetch); }
#else
  (void)features;
#endif
  return sum + read_streams_portable(base, lines, prefetch);
}
