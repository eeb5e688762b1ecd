// The definitions of the vector kernels: plain C, one element at a time, every sum in its canonical order.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "vector.h"

#include <math.h>
#include <string.h>

#include "../simd/math_scalar.h"

// MARK: - Rows

void lathe_layer_norm_scalar(
    const float *x, size_t x_stride_bytes, size_t rows, size_t width, const float *gamma, const float *beta,
    float epsilon, float *y, size_t y_stride_bytes) {
  for (size_t i = 0; i < rows; i++) {
    const float *in = lathe_row(x, i, x_stride_bytes);
    float *out = lathe_row_mutable(y, i, y_stride_bytes);
    float sums[16] = {0}, squares[16] = {0};
    for (size_t j = 0; j < width; j++) sums[j % 16] += in[j];
    const float mean = lathe_sum_lanes(sums) / (float)width;
    for (size_t j = 0; j < width; j++) {
      const float d = in[j] - mean;
      squares[j % 16] = fmaf(d, d, squares[j % 16]);
    }
    const float variance = lathe_sum_lanes(squares) / (float)width;
    const float r = 1.0f / sqrtf(variance + epsilon);
    for (size_t j = 0; j < width; j++) out[j] = fmaf((in[j] - mean) * r, gamma[j], beta[j]);
  }
}

void lathe_activate_scalar(const float *x, size_t count, lathe_epilogue activation, float *y) {
  for (size_t i = 0; i < count; i++) y[i] = lathe_activate(activation, x[i]);
}

void lathe_add_scalar(const float *a, const float *b, size_t count, float *y) {
  for (size_t i = 0; i < count; i++) y[i] = a[i] + b[i];
}

// Turns values into exp(value − greatest) in place and returns their sum, in 16 lanes by index.
static float softmax_numerators(float *values, size_t count) {
  float greatest = values[0], sums[16] = {0};
  for (size_t i = 0; i < count; i++) greatest = lathe_max(values[i], greatest);
  for (size_t i = 0; i < count; i++) {
    values[i] = lathe_exp(values[i] - greatest);
    sums[i % 16] += values[i];
  }
  return lathe_sum_lanes(sums);
}

float lathe_log_sum_exp_scalar(const float *x, size_t count) {
  float greatest = x[0], sums[16] = {0};
  for (size_t i = 0; i < count; i++) greatest = lathe_max(x[i], greatest);
  for (size_t i = 0; i < count; i++) sums[i % 16] += lathe_exp(x[i] - greatest);
  return greatest + lathe_log(lathe_sum_lanes(sums));
}

void lathe_combine_halves_scalar(
    const float *high, const float *low, size_t count, float activation_scale, const float *weight_scales,
    const float *bias, float *y) {
  for (size_t j = 0; j < count; j++) {
    y[j] = fmaf(fmaf(high[j], 256.0f, low[j]) * activation_scale, weight_scales[j], bias ? bias[j] : 0.0f);
  }
}

size_t lathe_greatest_scalar(const float *x, size_t count) {
  size_t greatest = 0;
  float poison = 0;  // stays 0 as long as all are finite: 0·x is 0 then, and else no number
  for (size_t i = 0; i < count; i++) {
    poison += x[i] * 0.0f;
    if (x[i] > x[greatest]) greatest = i;
  }
  return poison == 0 ? greatest : count;
}

// MARK: - The choice of a token

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
static float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

lathe_candidate_counts lathe_candidates_scalar(
    const float *x, size_t count, float best, float floor, float temperature, float middle, uint64_t *near,
    uint64_t *far) {
  lathe_candidate_counts kept = {0, 0};
  for (size_t i = 0; i < count; i++) {
    if (!(x[i] >= floor)) continue;
    const float magnitude = fabsf((x[i] - best) / temperature);
    const uint64_t key = (uint64_t)bits_of(magnitude) << 32 | i;
    if (magnitude <= middle) {
      near[kept.near++] = key;
    } else {
      far[kept.far++] = key;
    }
  }
  return kept;
}

void lathe_exp_ranks_scalar(const uint64_t *keys, size_t count, float *y) {
  for (size_t i = 0; i < count; i++) y[i] = lathe_exp(-float_of((uint32_t)(keys[i] >> 32)));
}

float lathe_add_unordered_scalar(float sum, const float *x, size_t count) {
  if (!(sum >= 1)) return NAN;
  const lathe_unit unit = lathe_unit_of(sum);
  float units = 0;  // exact below 2²⁴, and from there on never below it again
  for (size_t i = 0; i < count; i++) {
    const float exact = x[i] * unit.per_one, rounded = (float)lathe_round_to_int(exact);
    if (fabsf(exact - rounded) == 0.5f) return NAN;
    units += rounded;
  }
  return lathe_add_units(sum, units, unit);
}

// MARK: - Key-value cache

static float load_element(lathe_kv_type type, const uint8_t *base, size_t index) {
  switch (type) {
    case LATHE_KV_F32: break;
    case LATHE_KV_F16: return lathe_float_from_half(((const uint16_t *)base)[index]);
    case LATHE_KV_I8: return (float)((const int8_t *)base)[index];
  }
  return ((const float *)base)[index];
}

// The scale of one token's K or V of one head, and what values are multiplied by to be rounded: none but int8 has them.
typedef struct {
  float scale, inverse;
} token_scale;

static token_scale token_scale_of(const float *x, size_t count) {
  float greatest = 0;
  float poison = 0;  // NaN once anything is infinite or NaN, so that a fault shows in the outputs
  for (size_t d = 0; d < count; d++) {
    greatest = lathe_max(fabsf(x[d]), greatest);
    poison = fmaf(x[d], 0.0f, poison);
  }
  if (!(poison == 0)) return (token_scale){NAN, 0};
  if (greatest < LATHE_KV_LEAST_MAGNITUDE) return (token_scale){1, 0};
  return (token_scale){greatest / 127.0f, 127.0f / greatest};
}

static int8_t quantize_element(float x, float inverse) {
  if (inverse == 0) return 0;
  const int32_t q = lathe_round_to_int(x * inverse);
  return (int8_t)(q < -127 ? -127 : q > 127 ? 127 : q);
}

static void store_element(lathe_kv_type type, uint8_t *base, size_t index, float x, float inverse) {
  switch (type) {
    case LATHE_KV_F32: ((float *)base)[index] = x; break;
    case LATHE_KV_F16: ((uint16_t *)base)[index] = lathe_half_from_float(x); break;
    case LATHE_KV_I8: ((int8_t *)base)[index] = quantize_element(x, inverse); break;
  }
}

void lathe_kv_store_scalar(
    const lathe_kv_head *head, size_t first_position, size_t rows, const float *keys, size_t key_stride_bytes,
    const float *values, size_t value_stride_bytes) {
  for (size_t i = 0; i < rows; i++) {
    const size_t position = first_position + i;
    const float *key = lathe_row(keys, i, key_stride_bytes), *value = lathe_row(values, i, value_stride_bytes);
    uint8_t *k = lathe_kv_keys(head, position), *v = lathe_kv_values(head, position);
    token_scale key_scale = {1, 0}, value_scale = {1, 0};
    if (head->type == LATHE_KV_I8) {
      key_scale = token_scale_of(key, head->head_dim);
      value_scale = token_scale_of(value, head->head_dim);
      *lathe_kv_key_scales(head, position) = key_scale.scale;
      *lathe_kv_value_scales(head, position) = value_scale.scale;
    }
    for (size_t d = 0; d < head->head_dim; d++) {
      store_element(head->type, k, d * 16 + position % 16, key[d], key_scale.inverse);
    }
    for (size_t d = 0; d < lathe_round_up(head->head_dim, 16); d++) {
      store_element(head->type, v, d, d < head->head_dim ? value[d] : 0.0f, value_scale.inverse);
    }
  }
}

// MARK: - Attention

size_t lathe_attention_scratch_floats(size_t positions, size_t head_dim) {
  return lathe_attention_layout_of(positions, head_dim).all;
}

static float score(const lathe_kv_head *head, const float *query, float scale, size_t position) {
  const uint8_t *keys = lathe_kv_keys(head, position);
  float sum = 0;
  for (size_t d = 0; d < head->head_dim; d++) {
    sum = fmaf(query[d] * scale, load_element(head->type, keys, d * 16 + position % 16), sum);
  }
  return head->type == LATHE_KV_I8 ? sum * *lathe_kv_key_scales(head, position) : sum;
}

// Σ_t p(t)·v(t,d) of positions begin …< end, one chain.
static float weighted_chain(const lathe_kv_head *head, const float *p, size_t d, size_t begin, size_t end) {
  float sum = 0;
  for (size_t t = begin; t < end; t++) sum = fmaf(p[t], load_element(head->type, lathe_kv_values(head, t), d), sum);
  return sum;
}

void lathe_attention_scalar(const lathe_attention *operation) {
  const lathe_kv_head *head = operation->head;
  float *p = operation->scratch;
  for (size_t i = 0; i < operation->rows; i++) {
    const float *query = lathe_row(operation->queries, i, operation->query_stride_bytes);
    float *output = lathe_row_mutable(operation->output, i, operation->output_stride_bytes);
    const size_t positions = operation->first_position + i + 1;
    for (size_t t = 0; t < positions; t++) p[t] = score(head, query, operation->scale, t);
    const float inverse = 1.0f / softmax_numerators(p, positions);
    if (head->type == LATHE_KV_I8) {
      for (size_t t = 0; t < positions; t++) p[t] *= *lathe_kv_value_scales(head, t);
    }
    for (size_t d = 0; d < head->head_dim; d++) {
      float total = 0;
      for (size_t begin = 0; begin < positions; begin += LATHE_ATTENTION_CHAIN) {
        const size_t end = positions - begin < LATHE_ATTENTION_CHAIN ? positions : begin + LATHE_ATTENTION_CHAIN;
        const float chain = weighted_chain(head, p, d, begin, end);
        total = begin == 0 ? chain : total + chain;
      }
      output[d] = total * inverse;
    }
  }
}

// MARK: - Embedding

void lathe_embed_qc8w_scalar(const lathe_embedding *operation) {
  const size_t width = operation->width, depth = lathe_round_up(width, 64);
  for (size_t i = 0; i < operation->rows; i++) {
    const size_t n = (size_t)operation->ids[i];
    const int8_t *panel = (const int8_t *)operation->weights->values + n / 16 * depth * 16;
    const float *position = operation->position_table ? lathe_row(
        operation->position_table, (size_t)operation->positions[i], operation->position_stride_bytes) : NULL;
    float *output = lathe_row_mutable(operation->output, i, operation->output_stride_bytes);
    for (size_t k = 0; k < width; k++) {
      const int8_t q = panel[k / 4 * 64 + n % 16 * 4 + k % 4];
      output[k] = fmaf((float)q, operation->weights->scales[n], position ? position[k] : 0.0f);
    }
  }
}

void lathe_embed_qc4w_scalar(const lathe_embedding *operation) {
  const lathe_weights *weights = operation->weights;
  const size_t width = operation->width, depth = lathe_round_up(width, 64);
  const size_t groups = lathe_qc4w_groups(width, weights->group_size);
  for (size_t i = 0; i < operation->rows; i++) {
    const size_t n = (size_t)operation->ids[i];
    const uint8_t *nibbles = (const uint8_t *)weights->values + n / 16 * depth * 8 + n % 16 * 4;
    const int8_t *multipliers = weights->multipliers + n / 16 * groups * 16 + n % 16;
    const float *position = operation->position_table ? lathe_row(
        operation->position_table, (size_t)operation->positions[i], operation->position_stride_bytes) : NULL;
    float *output = lathe_row_mutable(operation->output, i, operation->output_stride_bytes);
    for (size_t k = 0; k < width; k++) {
      const unsigned nibble = nibbles[k / 8 * 64 + k % 4] >> (k % 8 / 4 * 4) & 15;
      const int w8 = ((int)(nibble ^ 8) - 8) * multipliers[k / weights->group_size * 16];
      output[k] = fmaf((float)w8, weights->scales[n], position ? position[k] : 0.0f);
    }
  }
}

void lathe_embed_f32_scalar(const lathe_embedding *operation) {
  const size_t width = operation->width;
  for (size_t i = 0; i < operation->rows; i++) {
    const size_t n = (size_t)operation->ids[i];
    const float *panel = operation->table + n / 16 * width * 16;
    const float *position = operation->position_table ? lathe_row(
        operation->position_table, (size_t)operation->positions[i], operation->position_stride_bytes) : NULL;
    float *output = lathe_row_mutable(operation->output, i, operation->output_stride_bytes);
    for (size_t k = 0; k < width; k++) output[k] = panel[k * 16 + n % 16] + (position ? position[k] : 0.0f);
  }
}
