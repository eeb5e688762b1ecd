// Packing weights as int4: the choice of scales, multipliers and numbers, and their layout. Offline and scalar; plain loops
// over sixteen sums, so that a compiler may use vectors and every one gives the same bytes.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "The kernels promise the same bits everywhere; they must not be built with -ffast-math."
#endif

#include "CKernels.h"

#include <string.h>

enum {
  PANEL_COLUMNS = 16,
  DEPTH_BLOCK = 64,
  MAXIMUM_DEPTH = 32768,
  MINIMUM_GROUP = 32,
  MAXIMUM_GROUPS = MAXIMUM_DEPTH / MINIMUM_GROUP,
  MAXIMUM_MULTIPLIER = 15,
  LANES = 16,
};

// Columns whose largest magnitude is below this are stored as zeros: the inverse of a step would no longer be finite.
static const float negligible_magnitude = 0x1p-100f;

// MARK: - Layout

// Of a panel: adds the number of column n (of the panel) at depth k.
static inline void put(uint8_t *panel, size_t n, size_t k, int8_t q) {
  panel[k / 8 * 64 + n * 4 + k % 4] |= (uint8_t)((q & 15) << (k % 8 / 4 * 4));
}

// One column: q [depth], m [groups].
static void put_column(
    const int8_t *q, const int8_t *m, size_t column, size_t depth, size_t group_size, uint8_t *values,
    int8_t *multipliers, int32_t *column_sums) {
  const size_t groups = lathe_qc4w_groups(depth, group_size), n = column % PANEL_COLUMNS;
  uint8_t *panel = values + column / PANEL_COLUMNS * (lathe_round_up(depth, DEPTH_BLOCK) * PANEL_COLUMNS / 2);
  int8_t *panel_multipliers = multipliers + column / PANEL_COLUMNS * groups * PANEL_COLUMNS;
  int32_t sum = 0;
  for (size_t k = 0; k < depth; k++) {
    put(panel, n, k, q[k]);
    sum += q[k] * m[k / group_size];
  }
  for (size_t g = 0; g < groups; g++) panel_multipliers[g * PANEL_COLUMNS + n] = m[g];
  column_sums[column] = sum;
}

// Everything as in padding: what columns are then put into.
static void clear(
    size_t columns, size_t depth, size_t group_size, uint8_t *values, int8_t *multipliers, int32_t *column_sums) {
  memset(values, 0, lathe_qc4w_bytes(columns, depth));
  memset(multipliers, 1, lathe_qc4w_multiplier_bytes(columns, depth, group_size));
  memset(column_sums, 0, lathe_round_up(columns, PANEL_COLUMNS) * sizeof(int32_t));
}

void lathe_pack_qc4w_values(
    const int8_t *q, const int8_t *m, size_t columns, size_t depth, size_t group_size, uint8_t *values,
    int8_t *multipliers, int32_t *column_sums) {
  const size_t groups = lathe_qc4w_groups(depth, group_size);
  clear(columns, depth, group_size, values, multipliers, column_sums);
  for (size_t n = 0; n < columns; n++) {
    put_column(q + n * depth, m + n * groups, n, depth, group_size, values, multipliers, column_sums);
  }
}

// MARK: - One group

// Nearest, ties to even, for |x| < 2²²: at 1.5·2²³ the spacing of floats is one.
static inline float round_to_nearest_even(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

static inline float number(float w, float inverse_step) {
  const float x = w * inverse_step;
  return round_to_nearest_even(x < -8.0f ? -8.0f : x > 7.0f ? 7.0f : x);
}

// Weights of one column that share a multiplier; `count` is a multiple of LANES, zeros beyond the depth.
typedef struct {
  const float *weights, *importance;
  size_t count;
} group;

// Σ importance·(w − step·q)² with the best q for this step, which may be negative.
static float group_error(group g, float step) {
  const float inverse = 1.0f / step;
  float lanes[LANES] = {0};
  for (size_t k = 0; k < g.count; k += LANES) {
    for (size_t l = 0; l < LANES; l++) {
      const float w = g.weights[k + l];
      const float rest = w - number(w, inverse) * step;
      lanes[l] += g.importance[k + l] * (rest * rest);
    }
  }
  for (size_t width = LANES / 2; width > 0; width /= 2) {
    for (size_t l = 0; l < width; l++) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}

// The step with the least error of those that put the group's absmax at so many steps from zero, of either sign: the
// negative ones serve groups whose largest weight is positive, since −8 reaches farther than 7. 0 for a group of zeros.
static float best_free_step(group g) {
  static const float reaches[] = {6.0f, 6.5f, 7.0f, 7.4f, 7.7f, 8.0f, 8.4f, 9.0f, 9.8f, 11.0f, 13.0f};
  float absmax = 0;
  for (size_t k = 0; k < g.count; k++) {
    const float magnitude = g.weights[k] < 0 ? -g.weights[k] : g.weights[k];
    absmax = magnitude > absmax ? magnitude : absmax;
  }
  if (absmax == 0) return 0;
  float best = 0, least = 0;
  for (size_t i = 0; i < sizeof reaches / sizeof reaches[0]; i++) {
    for (int sign = 1; sign >= -1; sign -= 2) {
      const float step = (float)sign * absmax / reaches[i];
      const float error = group_error(g, step);
      if (best == 0 || error < least) {
        best = step;
        least = error;
      }
    }
  }
  return best;
}

static inline int clamp_multiplier(int m) { return m < 1 ? 1 : m > MAXIMUM_MULTIPLIER ? MAXIMUM_MULTIPLIER : m; }

// The best of the multipliers low … high (of either sign where `both`, else of that of `sign`), and its error.
static int8_t best_multiplier(group g, float scale, int low, int high, int sign, bool both, float *error) {
  int best = 0;
  for (int m = low; m <= high; m++) {
    for (int turn = 0; turn < (both ? 2 : 1); turn++) {
      const int candidate = turn == 0 ? m * sign : -m * sign;
      const float e = group_error(g, scale * (float)candidate);
      if (best == 0 || e < *error) {
        best = candidate;
        *error = e;
      }
    }
  }
  return (int8_t)best;
}

// MARK: - One column

// A column, its weights divided by their absmax, and what was chosen for it.
typedef struct {
  float weights[MAXIMUM_DEPTH];
  size_t groups, group_size, padded_depth;
  const float *importance;
  float scale;
  int8_t m[MAXIMUM_GROUPS];
} column_choice;

static inline group group_of(const column_choice *c, size_t g) {
  const size_t begin = g * c->group_size, rest = c->padded_depth - begin;
  return (group){c->weights + begin, c->importance + begin, rest < c->group_size ? rest : c->group_size};
}

// Fits the scale: of those that put the largest of the groups' free steps near the fifteenth multiple, the one with the
// least error when every group takes the better of the two multiples around its own step.
static void search_scale(column_choice *c) {
  float steps[MAXIMUM_GROUPS], largest = 0;
  for (size_t g = 0; g < c->groups; g++) {
    steps[g] = best_free_step(group_of(c, g));
    const float step = steps[g] < 0 ? -steps[g] : steps[g];
    largest = step > largest ? step : largest;
  }
  enum { CANDIDATES = 16 };
  float least = 0;
  for (int i = 0; i < CANDIDATES; i++) {
    const float scale = largest / (float)MAXIMUM_MULTIPLIER * (0.90f + 0.04f * (float)i);
    float total = 0;
    int8_t m[MAXIMUM_GROUPS];
    size_t g = 0;
    for (; g < c->groups && (i == 0 || total < least); g++) {
      m[g] = 1;
      if (steps[g] == 0) continue;
      const int sign = steps[g] < 0 ? -1 : 1, low = (int)((float)sign * steps[g] / scale);
      float error = 0;
      m[g] = best_multiplier(
          group_of(c, g), scale, clamp_multiplier(low), clamp_multiplier(low + 1), sign, false, &error);
      total += error;
    }
    if (g < c->groups || (i > 0 && total >= least)) continue;
    least = total;
    c->scale = scale;
    memcpy(c->m, m, c->groups);
  }
}

// The scale that is best for the numbers that the present one gives, by least squares.
static float refitted_scale(const column_choice *c) {
  float dot[LANES] = {0}, norm[LANES] = {0};
  for (size_t i = 0; i < c->groups; i++) {
    const group g = group_of(c, i);
    const float m = (float)c->m[i], inverse = 1.0f / (c->scale * m);
    for (size_t k = 0; k < g.count; k += LANES) {
      for (size_t l = 0; l < LANES; l++) {
        const float q = number(g.weights[k + l], inverse) * m;
        dot[l] += g.importance[k + l] * (g.weights[k + l] * q);
        norm[l] += g.importance[k + l] * (q * q);
      }
    }
  }
  for (size_t width = LANES / 2; width > 0; width /= 2) {
    for (size_t l = 0; l < width; l++) {
      dot[l] += dot[l + width];
      norm[l] += norm[l + width];
    }
  }
  return dot[0] > 0 && norm[0] > 0 ? dot[0] / norm[0] : c->scale;
}

// In turn, the best scale for the numbers and the best multiplier, of any near, for the scale.
static void refine(column_choice *c) {
  enum { TURNS = 2 };
  for (int turn = 0; turn < TURNS; turn++) {
    c->scale = refitted_scale(c);
    for (size_t g = 0; g < c->groups; g++) {
      const int sign = c->m[g] < 0 ? -1 : 1, m = c->m[g] * sign;
      float error;
      c->m[g] = best_multiplier(
          group_of(c, g), c->scale, clamp_multiplier(m - 1), clamp_multiplier(m + 1), sign, true, &error);
    }
  }
  c->scale = refitted_scale(c);
}

// MARK: - A matrix

static inline float element(
    const float *weights, size_t column_stride_bytes, size_t depth_stride_bytes, size_t column, size_t k) {
  float value;
  memcpy(&value, (const char *)weights + column * column_stride_bytes + k * depth_stride_bytes, sizeof value);
  return value;
}

// Importance relative to its mean, of padding 0; what is never used still counts for a millionth, so that it is stored well
// where nothing else speaks.
static void normalize_importance(const float *importance, size_t depth, float normalized[MAXIMUM_DEPTH]) {
  double sum = 0;
  for (size_t k = 0; importance && k < depth; k++) sum += importance[k];
  const double mean = sum / (double)depth;
  for (size_t k = 0; k < lathe_round_up(depth, DEPTH_BLOCK); k++) {
    normalized[k] = k >= depth ? 0.0f : mean > 0 ? (float)(importance[k] / mean) + 1e-6f : 1.0f;
  }
}

void lathe_pack_qc4w(
    const float *weights, size_t column_stride_bytes, size_t depth_stride_bytes, size_t columns, size_t depth,
    size_t group_size, const float *importance, uint8_t *values, int8_t *multipliers, float *scales,
    int32_t *column_sums) {
  // A quarter of a megabyte of stack.
  float normalized_importance[MAXIMUM_DEPTH];
  column_choice c = {
      .groups = lathe_qc4w_groups(depth, group_size), .group_size = group_size,
      .padded_depth = lathe_round_up(depth, DEPTH_BLOCK), .importance = normalized_importance};
  normalize_importance(importance, depth, normalized_importance);
  clear(columns, depth, group_size, values, multipliers, column_sums);
  for (size_t n = 0; n < lathe_round_up(columns, PANEL_COLUMNS); n++) scales[n] = 1.0f;
  for (size_t n = 0; n < columns; n++) {
    float absmax = 0;
    for (size_t k = 0; k < depth; k++) {
      c.weights[k] = element(weights, column_stride_bytes, depth_stride_bytes, n, k);
      const float magnitude = c.weights[k] < 0 ? -c.weights[k] : c.weights[k];
      absmax = magnitude > absmax ? magnitude : absmax;
    }
    if (absmax < negligible_magnitude) continue;
    for (size_t k = 0; k < depth; k++) c.weights[k] /= absmax;
    search_scale(&c);
    refine(&c);
    int8_t q[MAXIMUM_DEPTH];
    for (size_t k = 0; k < depth; k++) {
      q[k] = (int8_t)number(c.weights[k], 1.0f / (c.scale * (float)c.m[k / group_size]));
    }
    put_column(q, c.m, n, depth, group_size, values, multipliers, column_sums);
    scales[n] = c.scale * absmax;
  }
}
