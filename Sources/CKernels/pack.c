// Packing weight matrices into the layouts that the linear kernels read in place. Offline and scalar: the converter runs
// it once, the file carries the result.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "The kernels promise the same bits everywhere; they must not be built with -ffast-math."
#endif

#include "CKernels.h"

#include <string.h>

enum { PANEL_COLUMNS = 16, DEPTH_BLOCK = 64 };

// Columns whose largest magnitude is below this are stored as zeros: 127/absmax would no longer be finite.
static const float negligible_magnitude = 0x1p-100f;

static inline float element(
    const float *weights, size_t column_stride_bytes, size_t depth_stride_bytes, size_t column, size_t k) {
  float value;
  memcpy(&value, (const char *)weights + column * column_stride_bytes + k * depth_stride_bytes, sizeof value);
  return value;
}

// Nearest, ties to even, for |x| < 2²²: at 1.5·2²³ the spacing of floats is one.
static inline float round_to_nearest_even(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

static inline int8_t quantize_weight(float x, float inverse_scale) {
  float rounded = round_to_nearest_even(x * inverse_scale);
  return (int8_t)(rounded < -127.0f ? -127.0f : rounded > 127.0f ? 127.0f : rounded);
}

void lathe_pack_qc8w(
    const float *weights, size_t column_stride_bytes, size_t depth_stride_bytes, size_t columns, size_t depth,
    int8_t *packed, float *scales, int32_t *column_sums) {
  const size_t padded_depth = lathe_round_up(depth, DEPTH_BLOCK);
  memset(packed, 0, lathe_qc8w_bytes(columns, depth));
  for (size_t first = 0; first < columns; first += PANEL_COLUMNS) {
    const size_t count = columns - first < PANEL_COLUMNS ? columns - first : PANEL_COLUMNS;
    // k runs outside and columns inside: for a matrix stored depth-major the reads are then contiguous.
    float absmax[PANEL_COLUMNS] = {0};
    for (size_t k = 0; k < depth; k++) {
      for (size_t n = 0; n < count; n++) {
        float x = element(weights, column_stride_bytes, depth_stride_bytes, first + n, k);
        float magnitude = x < 0 ? -x : x;
        absmax[n] = magnitude > absmax[n] ? magnitude : absmax[n];
      }
    }
    float inverse_scale[PANEL_COLUMNS];
    for (size_t n = 0; n < PANEL_COLUMNS; n++) {
      bool zero = absmax[n] < negligible_magnitude;
      scales[first + n] = zero ? 1.0f : absmax[n] / 127.0f;
      inverse_scale[n] = zero ? 0.0f : 127.0f / absmax[n];
    }
    int8_t *panel = packed + first * padded_depth;
    int32_t sums[PANEL_COLUMNS] = {0};
    for (size_t k = 0; k < depth; k++) {
      // Within the panel, T16's ((k/64)·1024 + ((k%64)/4)·64 + n·4 + k%4) is (k/4)·64 + n·4 + k%4.
      int8_t *group = panel + k / 4 * (4 * PANEL_COLUMNS) + k % 4;
      for (size_t n = 0; n < count; n++) {
        float x = element(weights, column_stride_bytes, depth_stride_bytes, first + n, k);
        int8_t w = quantize_weight(x, inverse_scale[n]);
        group[n * 4] = w;
        sums[n] += w;
      }
    }
    memcpy(column_sums + first, sums, sizeof sums);
  }
}

void lathe_pack_f32(
    const float *weights, size_t column_stride_bytes, size_t depth_stride_bytes, size_t columns, size_t depth,
    float *packed) {
  for (size_t first = 0; first < columns; first += PANEL_COLUMNS) {
    float *panel = packed + first * depth;
    for (size_t k = 0; k < depth; k++) {
      for (size_t n = 0; n < PANEL_COLUMNS; n++) {
        panel[k * PANEL_COLUMNS + n] =
            first + n < columns ? element(weights, column_stride_bytes, depth_stride_bytes, first + n, k) : 0.0f;
      }
    }
  }
}
