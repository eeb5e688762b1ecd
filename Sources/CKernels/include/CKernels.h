// The kernels of Lathe: their contract. One header, so that a reader sees every operation before any instruction.
//
// Rules that every kernel keeps
//   - Stateless: no allocation, no thread, no global. Only cpu.c, kernel_tables.c, parallel.c and numa.c hold state.
//   - Counts are in elements, strides in bytes (every name says so), and no access is made outside the stated
//     extents, not even a read.
//   - The results are the same bits on every instruction set: integers are exact, and float operations are done in the
//     order that each definition states (docs/ARITHMETIC.md). The *_scalar.c file of a family is its definition.
//   - Any rows, columns and depth of at least 1 are ordinary; nothing needs to be a multiple of anything.
//
// Layouts
//   T16      int8 weights W[columns][depth] in −127…127, depth padded with zeros to a multiple of 64, columns to one of 16:
//            index(n,k) = ((n/16)·(K/64) + k/64)·1024 + ((k%64)/4)·64 + (n%16)·4 + k%4        (K: the padded depth)
//            16 columns ("a panel") over the whole depth are contiguous: K·16 bytes.
//   int4     nibbles in the order of T16: the 64-byte vector of eight k's of 16 columns holds at n%16·4 + k%4 the weight of
//            k%8 < 4 in its low nibble and of k%8 ≥ 4 in its high one: index (n/16)·8K + (k/8)·64 + (n%16)·4 + k%4.
//            w8(n,k) = q(n,k)·m(n,k/g): q two's complement in −8…7, m in ±1…15 stored int8 [columns/16][⌈K/g⌉][16].
//   sparse   of each 64-byte vector of T16 a uint64 mask, bit b for byte b ([columns/16][K/4], vector k/4), and its
//            non-zero bytes, packed in order; panels start at `starts` and 64 zero bytes follow the last.
//   int4     and sparse: masks as above; of two vectors (k%8 < 4, k%8 ≥ 4) with p0 and p1 non-zeros, max(p0, p1) bytes whose
//            j-th has the j-th non-zero of the first in its low nibble and of the second in its high one, 0 where there is none.
//   P16      float32 weights W[columns][depth], columns padded to a multiple of 16: [columns/16][depth][16].
//   KV block 64 tokens of one session. Of one head: K as [4][head_dim][16] (token = 16·outer + inner) and V as
//            [64][head_dim padded to 16]. Elements are float32, IEEE half, or int8: then float32 scales [64] of the
//            tokens follow K, and others follow V.
#ifndef LATHE_CKERNELS_H
#define LATHE_CKERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

// MARK: - Processor

// Features that kernels ask for. A kernel runs where all of its bits are present.
enum {
  LATHE_CPU_AVX2 = 1u << 0,         // AVX2, FMA and F16C, with YMM state enabled by the operating system
  LATHE_CPU_AVXVNNI = 1u << 1,      // VPDPBUSD on YMM, VEX-encoded
  LATHE_CPU_AVX512 = 1u << 2,       // AVX-512 F, BW, DQ, VL, with ZMM state enabled
  LATHE_CPU_AVX512VNNI = 1u << 3,   // VPDPBUSD and VPDPWSSD on ZMM
  LATHE_CPU_AVX512VBMI2 = 1u << 4,  // VPEXPANDB, and GFNI on ZMM, which no processor with it lacks
  LATHE_CPU_AMX_INT8 = 1u << 5,     // AMX tiles and TDPBUSD, with permission granted by the kernel
  LATHE_CPU_NEON = 1u << 6,         // every 64-bit Arm
  LATHE_CPU_NEON_DOT = 1u << 7,     // SDOT (FEAT_DotProd)
  LATHE_CPU_NEON_I8MM = 1u << 8,    // USMMLA (FEAT_I8MM)
};

// The levels by which LATHE_ISA lowers the machine, ascending. Each is a set of features, not a promise of the ones below.
typedef struct {
  const char *name;    // "scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "neondot", "neoni8mm"
  uint32_t required;   // present ⇒ the machine has this level
  uint32_t allowed;    // features that kernels may use at this level
} lathe_isa_level;

const lathe_isa_level *lathe_isa_levels(size_t *count);
// What the processor and the operating system offer, asked once, whatever LATHE_ISA says.
uint32_t lathe_cpu_features(void);
// The highest level available; never NULL.
const lathe_isa_level *lathe_isa_best(void);
// The level of that name, or NULL if there is none of that name. Availability: (required & ~lathe_cpu_features()) == 0.
const lathe_isa_level *lathe_isa_named(const char *name);

// MARK: - Quantized activations

// One row: x ≈ scale · (q − zero_point), q in 0…255.
typedef struct {
  float scale;
  int32_t zero_point;
} lathe_row_quantization;

// How a linear kernel wants its activations stored; (q, zero_point, scale) are the same in each.
typedef enum {
  LATHE_ACTIVATIONS_U8 = 0,           // q, one byte an element
  LATHE_ACTIVATIONS_I16_CENTERED = 1, // q − zero_point, two bytes an element (AVX2 multiplies 16-bit pairs)
} lathe_activation_storage;

// Quantizes `rows` rows of `depth` floats, each row by itself: asymmetric, nearest-even, zero always in range.
// Elements depth …< round_up(depth, 64) of each output row are written as 0.
typedef void (*lathe_quantize_rows_fn)(
    const float *x, size_t x_stride_bytes, size_t rows, size_t depth,
    lathe_row_quantization *quantization, void *q, size_t q_stride_bytes);

// The same over 65535 levels, x ≈ scales[i] · (q − zero_point), and split: of row i of x, row 2i of the output has the high
// bytes of q and row 2i + 1 the low ones, each with its byte of the zero point and the scale 1.
typedef void (*lathe_quantize_halves_fn)(
    const float *x, size_t x_stride_bytes, size_t rows, size_t depth,
    float *scales, lathe_row_quantization *quantization, void *q, size_t q_stride_bytes);

typedef struct {
  const char *name;
  uint32_t features;
  lathe_quantize_rows_fn to_storage[2];           // by lathe_activation_storage
  lathe_quantize_halves_fn halves_to_storage[2];  // the same
} lathe_quantize_kernel;

// MARK: - Linear layers

typedef enum {
  LATHE_EPILOGUE_NONE = 0,
  LATHE_EPILOGUE_GELU_TANH = 1,  // x/(1+exp(−2·√(2/π)·(x+0.044715x³)))
  LATHE_EPILOGUE_GELU_ERF = 2,   // x·Φ(x)
  LATHE_EPILOGUE_RELU = 3,
} lathe_epilogue;

// How a weight matrix is stored. Every format encodes int8 T16 panels, and a product by it is the product by those panels.
typedef enum {
  LATHE_QC8W = 0,         // the panels themselves
  LATHE_QC4W = 1,         // int4
  LATHE_QC8W_SPARSE = 2,  // sparse
  LATHE_QC4W_SPARSE = 3,  // int4 and sparse
} lathe_weight_format;
enum { LATHE_WEIGHT_FORMATS = 4 };

// A matrix [columns][depth], w(j,k) ≈ scales(j)·w8(j,k); depth ≤ 32768. The tensors start on multiples of 64 bytes.
typedef struct {
  lathe_weight_format format;
  size_t columns, depth;
  const void *values;           // T16, nibbles, or packed non-zeros
  const float *scales;          // [round_up(columns, 16)]
  const int32_t *column_sums;   // [round_up(columns, 16)], Σ_k w8(j,k)
  const int8_t *multipliers;    // int4 formats: [columns/16][⌈round_up(depth, 64)/group_size⌉][16]
  size_t group_size;            // int4 formats: 32, 64 or 128
  const uint64_t *masks;        // sparse formats: [columns/16][round_up(depth, 64)/4]
  const uint32_t *starts;       // sparse formats: [columns/16], of each panel's first byte in `values`
} lathe_weights;

// output(i,j) = act(fma(float(acc(i,j) − zp(i)·column_sums(j)) · scale(i), scales(j), bias(j))) + residual(i,j)
// acc(i,j) = Σ_k q(i,k)·w8(j,k), exact in int32.
typedef struct {
  size_t rows;
  const void *activations;            // [rows][round_up(depth, 64)] in the kernel's storage, rows 64-byte aligned
  size_t activation_stride_bytes;
  const lathe_row_quantization *quantization;  // [rows]
  const lathe_weights *weights;
  const float *bias;                  // [round_up(columns, 16)] or NULL, the same as zeros (+0)
  lathe_epilogue epilogue;
  const float *residual;              // [rows][columns] or NULL; may be the output itself
  size_t residual_stride_bytes;
  float *output;                      // [rows][columns]
  size_t output_stride_bytes;
} lathe_linear_qd8;

// Computes the columns of panels panel_begin …< panel_end (16 columns each) for all rows. Kernels walk groups of up to four
// panels from panel_begin on (eight for float32 at one row) and take what is left one by one, so a caller that splits a
// matrix among threads does well to cut at multiples of 12, or at least of 4.
typedef void (*lathe_linear_qd8_fn)(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);

typedef struct {
  const char *name;
  lathe_weight_format format;
  uint32_t features;
  lathe_activation_storage storage;
  // For how many rows the dispatcher prefers this kernel: a tile engine wants several, and one that decodes weights on the
  // fly few. Any number is computed.
  size_t minimum_rows, maximum_rows;
  lathe_linear_qd8_fn run;
} lathe_linear_qd8_kernel;

// Writes the T16 panels panel_begin …< panel_end of `weights` to `panels`, one after the other.
typedef void (*lathe_expand_fn)(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels);

typedef struct {
  const char *name;
  lathe_weight_format format;
  uint32_t features;
  lathe_expand_fn run;
} lathe_expand_kernel;

// output(i,j) = act(Σ_k x(i,k)·w(j,k) + bias(j)) + residual(i,j), the sum one chain of fused multiply-adds from +0, k ascending.
typedef struct {
  size_t rows, columns, depth;
  const float *activations;  // [rows][depth]
  size_t activation_stride_bytes;
  const float *weights;      // P16
  const float *bias;         // [round_up(columns, 16)] or NULL, the same as zeros (+0)
  lathe_epilogue epilogue;
  const float *residual;
  size_t residual_stride_bytes;
  float *output;
  size_t output_stride_bytes;
} lathe_linear_f32;

typedef void (*lathe_linear_f32_fn)(const lathe_linear_f32 *operation, size_t panel_begin, size_t panel_end);

typedef struct {
  const char *name;
  uint32_t features;
  lathe_linear_f32_fn run;
} lathe_linear_f32_kernel;

// MARK: - Normalization, activation, attention, embedding

// y = fma(d·r, gamma, beta), d = x − mean, r = 1/√(variance + epsilon); y may be x.
typedef void (*lathe_layer_norm_fn)(
    const float *x, size_t x_stride_bytes, size_t rows, size_t width, const float *gamma, const float *beta,
    float epsilon, float *y, size_t y_stride_bytes);

typedef enum { LATHE_KV_F32 = 0, LATHE_KV_F16 = 1, LATHE_KV_I8 = 2 } lathe_kv_type;
enum { LATHE_KV_TYPES = 3, LATHE_KV_BLOCK_TOKENS = 64 };
// A token's K, or V, of one head whose magnitudes are all below this is stored as zeros with scale 1.
#define LATHE_KV_LEAST_MAGNITUDE 0x1p-100f

// Where one head of one layer lives in a session's blocks. Positions 64·b …< 64·b+64 are in blocks[b].
typedef struct {
  lathe_kv_type type;
  size_t head_dim;
  uint8_t *const *blocks;
  size_t key_offset_bytes;    // of this head's K (and its scales) from the start of each block
  size_t value_offset_bytes;  // of this head's V (and its scales)
} lathe_kv_head;

// Stores `rows` keys and values at positions first_position ….
// The padding lanes of V (head_dim …< round_up(head_dim,16)) are written as zero. int8: scale = absmax / 127,
// q = clamp(rne(x · (127 / absmax)), ±127); where a value is not finite, the scale is NaN and every q is 0.
typedef void (*lathe_kv_store_fn)(
    const lathe_kv_head *head, size_t first_position, size_t rows, const float *keys, size_t key_stride_bytes,
    const float *values, size_t value_stride_bytes);

// Causal attention of one head: the query at position p sees positions 0…p, all already stored.
// s(t) = Σ_d (q(d)·scale)·k(t,d), p(t) = exp(s(t) − max s), output(d) = (Σ_t p(t)·v(t,d)) · (1/Σ_t p(t)).
// Σ_t of the output: one chain of fused multiply-adds per 256 positions, the chains' results added in order.
// int8: k and v are the integers; s(t) = chain · K's scale(t), and p(t)·V's scale(t) takes the place of p(t) in the output.
typedef struct {
  const lathe_kv_head *head;
  size_t first_position;
  size_t rows;
  const float *queries;        // [rows][head_dim]
  size_t query_stride_bytes;
  float scale;
  float *output;               // [rows][head_dim]
  size_t output_stride_bytes;
  float *scratch;              // lathe_attention_scratch_floats(first_position + rows, head_dim), 64-byte aligned
} lathe_attention;

typedef void (*lathe_attention_fn)(const lathe_attention *operation);
size_t lathe_attention_scratch_floats(size_t positions, size_t head_dim);

// x(i,·) = fma(float(w8), scale, p) of row ids[i] of the table, p = row positions[i] of `position_table` [..][width] or +0
// where that is NULL. Ids and positions are in range: the caller checked.
typedef struct {
  const int32_t *ids;
  const int32_t *positions;
  size_t rows, width;
  const lathe_weights *weights;      // [rows of the table][width], or
  const float *table;                // P16 float32
  const float *position_table;
  size_t position_stride_bytes;
  float *output;
  size_t output_stride_bytes;
} lathe_embedding;
typedef void (*lathe_embedding_fn)(const lathe_embedding *operation);

typedef struct {
  size_t near, far;
} lathe_candidate_counts;

typedef struct {
  const char *name;
  uint32_t features;
  lathe_layer_norm_fn layer_norm;
  // y = act(x), element by element; y may be x.
  void (*activate)(const float *x, size_t count, lathe_epilogue activation, float *y);
  // y = a + b; y may be a or b.
  void (*add)(const float *a, const float *b, size_t count, float *y);
  // max + log Σ exp(x − max) of count ≥ 1 finite values; the sum in 16 lanes.
  float (*log_sum_exp)(const float *x, size_t count);
  // y(j) = fma(fma(high(j), 256, low(j)) · activation_scale, weight_scales(j), bias(j)); bias may be NULL, the same as zeros.
  void (*combine_halves)(
      const float *high, const float *low, size_t count, float activation_scale, const float *weight_scales,
      const float *bias, float *y);
  // The index of the greatest of count ≥ 1 values, of equals the first; count where one is infinite or no number.
  size_t (*greatest)(const float *x, size_t count);
  // Keys of those x(i) ≥ floor, i ascending: the bits of |(x(i) − best) / temperature| << 32 | i, which order as the choice of a
  // token wants them. Those whose magnitude is at most `middle` go into `near`, the others into `far`; each has room for
  // count of them, all of which may be written. No x is above `best`.
  lathe_candidate_counts (*candidates)(
      const float *x, size_t count, float best, float floor, float temperature, float middle, uint64_t *near,
      uint64_t *far);
  // y(i) = exp(−m), m the magnitude that keys(i) >> 32 are the bits of.
  void (*exp_ranks)(const uint64_t *keys, size_t count, float *y);
  // sum + x(0) + x(1) + …, one float32 addition after another, where that has the same bits in whatever order; else, and
  // below 1, a NaN. 0 ≤ x(i) ≤ sum. While the sum stays below the next power of two every addition rounds x(i) to a multiple
  // of the sum's unit in the last place, and those add up without rounding; unless one lies half way between two.
  float (*add_unordered)(float sum, const float *x, size_t count);
  lathe_kv_store_fn kv_store;
  lathe_attention_fn attention;
  lathe_embedding_fn embed_qd8[LATHE_WEIGHT_FORMATS];
  lathe_embedding_fn embed_f32;
} lathe_vector_kernel;

// MARK: - Tables: what is registered here is dispatched, tested and timed

const lathe_quantize_kernel *lathe_quantize_kernels(size_t *count);
const lathe_linear_qd8_kernel *lathe_linear_qd8_kernels(size_t *count);
const lathe_expand_kernel *lathe_expand_kernels(size_t *count);
const lathe_linear_f32_kernel *lathe_linear_f32_kernels(size_t *count);
const lathe_vector_kernel *lathe_vector_kernels(size_t *count);

// The last entry of a table whose features are all in `features`; tables ascend, the first entry is the scalar definition.
// Of the linear layers' and of expansion, the last of that format (and number of rows).
const lathe_quantize_kernel *lathe_quantize_select(uint32_t features);
const lathe_expand_kernel *lathe_expand_select(lathe_weight_format format, uint32_t features);
const lathe_linear_f32_kernel *lathe_linear_f32_select(uint32_t features);
const lathe_vector_kernel *lathe_vector_select(uint32_t features);

// How an int8 linear layer of so many rows is best run: by a kernel that reads the weights as they are stored, or by
// expanding a few panels at a time into a thread's scratch and multiplying by those.
typedef struct {
  const lathe_linear_qd8_kernel *kernel;  // of the weights' format, or of LATHE_QC8W beside an `expand`
  const lathe_expand_kernel *expand;      // NULL: the kernel reads the weights as stored
} lathe_linear_qd8_choice;
lathe_linear_qd8_choice lathe_linear_qd8_choose(lathe_weight_format format, uint32_t features, size_t rows);
// The format in which weights of `format` are best kept in memory: itself, unless the instruction set reads it slower than
// the larger form that it encodes (which the engine then makes once, while loading).
lathe_weight_format lathe_linear_qd8_resident_format(lathe_weight_format format, uint32_t features);
// Bytes of scratch that each thread gives to `lathe_linear_qd8_run`, 64-byte aligned; 0 for LATHE_QC8W.
size_t lathe_linear_qd8_scratch_bytes(lathe_weight_format format, size_t depth);
void lathe_linear_qd8_run(
    lathe_linear_qd8_choice choice, const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end,
    int8_t *scratch);

// The linear layer with activations of 16 bits, as two products by the same weights: of the high bytes and of the low ones.
//     h(i,j), l(i,j) = float(acc(r,j) − zp(r)·column_sums(j)), r = 2i, 2i + 1
//     output(i,j) = fma(fma(h(i,j), 256, l(i,j)) · activation_scales(i), scales(j), bias(j))
typedef struct {
  size_t rows;
  const void *activations;                     // [2·rows], as lathe_quantize_halves_fn gives them
  size_t activation_stride_bytes;
  const lathe_row_quantization *quantization;  // [2·rows]
  const float *activation_scales;              // [rows]
  const lathe_weights *weights;
  const float *bias;                           // [round_up(columns, 16)] or NULL, the same as zeros (+0)
  float *output;                               // [rows][columns]
  size_t output_stride_bytes;
} lathe_linear_qd16;

// Floats of scratch that each thread gives beside lathe_linear_qd8_scratch_bytes, 64-byte aligned.
size_t lathe_linear_qd16_scratch_floats(void);
// - choice: for 2·rows rows of the weights' format.
void lathe_linear_qd16_run(
    lathe_linear_qd8_choice choice, const lathe_vector_kernel *vector, const lathe_linear_qd16 *operation,
    size_t panel_begin, size_t panel_end, int8_t *expansion_scratch, float *halves_scratch);

// MARK: - Packing (offline; scalar)

// A weight matrix as a checkpoint stores it: element (n,k) at base + n·column_stride + k·depth_stride bytes, float32.
// symmetric per column: scale = absmax/127, w = clamp(rne(x·(127/absmax)), ±127). A column of zeros has scale 1, and so has
// one whose absmax is below 2⁻¹⁰⁰: it is stored as zeros. The columns of padding have scale 1 and sum 0.
void lathe_pack_qc8w(
    const float *weights, size_t column_stride_bytes, size_t depth_stride_bytes, size_t columns, size_t depth,
    int8_t *packed, float *scales, int32_t *column_sums);
void lathe_pack_f32(
    const float *weights, size_t column_stride_bytes, size_t depth_stride_bytes, size_t columns, size_t depth,
    float *packed);
// The sparse formats, from T16 int8 panels or from int4 nibbles that are already quantized: weights that are 0 are left out.
// Bytes of the packed non-zeros, without the 64 zeros that follow a tensor's last panel.
size_t lathe_sparse_bytes(lathe_weight_format format, const void *values, size_t columns, size_t depth);
// Writes so many bytes to `packed`, and the masks and starts of all panels, the first of which starts at `start`. A matrix may
// be packed in parts of whole panels; the caller sees to it that no start exceeds 32 bits, and adds the 64 zeros.
void lathe_pack_sparse(
    lathe_weight_format format, const void *values, size_t columns, size_t depth, uint32_t start, void *packed,
    uint64_t *masks, uint32_t *starts);
// The int4 nibbles of sparse int4 panels panel_begin …< panel_end, one after the other: what an instruction set reads that
// has no kernel for the sparse ones.
void lathe_unpack_qc4w_sparse(const lathe_weights *weights, size_t panel_begin, size_t panel_end, uint8_t *nibbles);

static inline size_t lathe_round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }
static inline size_t lathe_qc8w_bytes(size_t columns, size_t depth) {
  return lathe_round_up(columns, 16) * lathe_round_up(depth, 64);
}
static inline size_t lathe_f32_bytes(size_t columns, size_t depth) { return lathe_round_up(columns, 16) * depth * 4; }

// int4. Chooses the scale of each column and the multiplier m and numbers q of each group of `group_size` (32, 64 or 128)
// weights, so that Σ_k importance(k)·(w − scale·m·q)² is small: a search from the best step of each group by itself, not
// the greatest magnitude's. A weight of zero stays zero. A column of zeros, one whose absmax is below 2⁻¹⁰⁰, and the columns
// of padding have scale 1 and q 0; groups of nothing but zeros have m 1.
// `importance` is [depth], finite and ≥ 0 (the mean square of each input, say), or NULL: all alike.
void lathe_pack_qc4w(
    const float *weights, size_t column_stride_bytes, size_t depth_stride_bytes, size_t columns, size_t depth,
    size_t group_size, const float *importance, uint8_t *values, int8_t *multipliers, float *scales,
    int32_t *column_sums);
// Packs what was chosen elsewhere: q [columns][depth] in −8…7, m [columns][lathe_qc4w_groups(depth, group_size)] in ±1…15.
void lathe_pack_qc4w_values(
    const int8_t *q, const int8_t *m, size_t columns, size_t depth, size_t group_size, uint8_t *values,
    int8_t *multipliers, int32_t *column_sums);
static inline size_t lathe_qc4w_bytes(size_t columns, size_t depth) { return lathe_qc8w_bytes(columns, depth) / 2; }
// Multipliers of one column.
static inline size_t lathe_qc4w_groups(size_t depth, size_t group_size) {
  return (lathe_round_up(depth, 64) + group_size - 1) / group_size;
}
static inline size_t lathe_qc4w_multiplier_bytes(size_t columns, size_t depth, size_t group_size) {
  return lathe_round_up(columns, 16) * lathe_qc4w_groups(depth, group_size);
}

// MARK: - The choice of a token

// What docs/ARITHMETIC.md (Sampling) says, from the temperature on. The order of candidates and every sum are those written
// there; how they are found is choice.c's business.
typedef struct {
  const float *logits;  // [count], finite; may be lathe_choice_row of the scratch
  size_t count;         // at least 1, at most 2³¹
  float best;           // the greatest of them
  float temperature;    // above 0
  size_t top_k;         // at least 1; SIZE_MAX for none
  float top_p;          // above 0; 1 for none
  float min_p;          // 0 … 1; 0 for none
  float random;         // in [0, 1)
} lathe_choice;

// Bytes that a choice among `count` tokens works in, 64-byte aligned; and where in them a caller may write logits of its own.
size_t lathe_choice_scratch_bytes(size_t count);
float *lathe_choice_row(void *scratch, size_t count);
// Returns the index of the token.
size_t lathe_choose(const lathe_vector_kernel *vector, const lathe_choice *choice, void *scratch);
// Sorts keys, ascending; equal upper halves must have ascending lower ones already. `other` has room for as many.
void lathe_sort_keys(uint64_t *keys, uint64_t *other, size_t count);

// MARK: - Canonical scalar mathematics (2.3e-7 relative; the same bits as in every vector kernel)

float lathe_exp(float x);
float lathe_log(float x);  // x > 0, normal

// MARK: - Parallel for

// Calls body(context, thread, threads) once for each of `threads` shares (maybe fewer: `threads` in the call is the truth) and
// returns when all have finished. Work is split by the body. Each calling thread has a team of its own, which ends with it; a
// body calls no parallel-for. Mostly each share runs on a thread of its own; one whose thread has not come to it is run by the
// caller.
// Every thread runs with round-to-nearest and denormals kept, whatever state it inherited.
void lathe_parallel(size_t threads, void (*body)(void *context, size_t thread, size_t threads), void *context);

// The same for what is done to the threads themselves: each share runs on its own, the same as before.
void lathe_on_each_thread(size_t threads, void (*body)(void *context, size_t thread, size_t threads), void *context);

// MARK: - Memory nodes

// A set of processors, a value.
enum { LATHE_MAXIMUM_CPUS = 4096 };
typedef struct {
  uint64_t words[LATHE_MAXIMUM_CPUS / 64];
} lathe_cpu_set;
static inline bool lathe_cpu_set_contains(lathe_cpu_set cpus, unsigned cpu) {
  return cpu < LATHE_MAXIMUM_CPUS && (cpus.words[cpu / 64] >> cpu % 64 & 1) != 0;
}
static inline lathe_cpu_set lathe_cpu_set_adding(lathe_cpu_set cpus, unsigned cpu) {
  if (cpu < LATHE_MAXIMUM_CPUS) cpus.words[cpu / 64] |= UINT64_C(1) << cpu % 64;
  return cpus;
}

// Loads libnuma at the first call. All that follows may be called only where this said LATHE_NUMA_READY.
typedef enum {
  LATHE_NUMA_READY = 0,
  LATHE_NUMA_NO_LIBRARY = 1,     // not installed, or not what it should be
  LATHE_NUMA_NOT_AVAILABLE = 2,  // the system has no memory nodes, or does not let this process place anything
} lathe_numa_state;
lathe_numa_state lathe_numa_load(void);
// The greatest number of a node.
int lathe_numa_max_node(void);
// The processors of a node on which the calling thread may run; none where there is no such node.
lathe_cpu_set lathe_numa_cpus(int node);
// Whether this process may have memory of the node, which a node need not have.
bool lathe_numa_may_allocate(int node);
// Keeps the calling thread to `cpus` from now on. Returns 0 or an errno.
int lathe_numa_bind_thread(lathe_cpu_set cpus);
// Moves the pages start …< start + bytes to the node, and has those come from there that are touched later, as far as the node
// has room; start is the address of a page. Returns 0 or an errno.
int lathe_numa_place(uintptr_t start, size_t bytes, int node);

// MARK: - Read probe

// Reads `bytes` (64-byte aligned) once with the widest loads of `features`, over eight streams, prefetching 4 KB ahead
// if asked, and returns a value that depends on all of it. The roof of decode speed.
uint64_t lathe_read_probe(const void *base, size_t bytes, bool prefetch, uint32_t features);

// MARK: - Digest

// The compression function of SHA-256 over whole blocks of 64 bytes; `state` opens with the standard's initial values.
void lathe_sha256_blocks(uint32_t state[8], const void *data, size_t blocks);
// The same by plain arithmetic: its definition.
void lathe_sha256_blocks_portable(uint32_t state[8], const void *data, size_t blocks);

#ifdef __cplusplus
}
#endif
#endif
