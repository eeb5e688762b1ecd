// The int8 linear layer on AMX: one TDPBUSD multiplies 16 rows by a 1024-byte block of T16, which is a B tile as it lies.
//
// A block is two tiles of rows by two panels. While the tile unit works on one block, the vector unit finishes the one
// before it, a few outputs between the tile instructions, so that neither waits for the other.
//
// Only the macros _tile_… of <immintrin.h> touch a tile, so that Tests/Support/AMXEmulation can run this file anywhere.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

#if defined(__x86_64__)
#include <string.h>

#include "../simd/vf16_avx512.h"

#pragma clang attribute push( \
    __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)

#include "linear_qd8_epilogue.h"

enum { SUM_00, SUM_01, SUM_10, SUM_11, ROWS_0, ROWS_1, PANEL_0, PANEL_1, TILES };
enum {
  TILE_ROWS = 16,
  TILE_BYTES = 1024,
  BLOCK_ROWS = 2 * TILE_ROWS,
  BLOCK_PANELS = 2,
  // Partial sums of this many blocks wait on the stack while a chunk of the depth, two panels of it within the first
  // cache, serves all of them. A prototype without it ran K = 3072 at four fifths of the speed.
  CHUNK_TILES = 16,
  CHUNK_BLOCKS = 4,
  PREFETCH_BYTES = 4096,
};

// int32 sums [row][panel][16] of a block.
typedef struct {
  _Alignas(64) int32_t at[BLOCK_ROWS][BLOCK_PANELS][LATHE_PANEL_COLUMNS];
} block_sums;

// Every block has the same height, so that the tiles are configured once for a call: `upper` + `lower` rows in two tiles.
// The last block ends with the last row; it may compute some rows of its predecessor again, and does not finish those.
typedef struct {
  size_t count, height, upper, lower;
} row_split;

static inline row_split split_rows(size_t rows) {
  row_split split = {.count = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS};
  split.height = (rows + split.count - 1) / split.count;
  split.upper = (split.height + 1) / 2;
  split.lower = split.height - split.upper;
  return split;
}

// A block whose sums are complete and whose outputs are being made.
typedef struct {
  const block_sums *sums;
  size_t first_row;           // of the block
  size_t row, row_end;        // still to be finished
  size_t panel, panels, next_panel;
} pending_block;

// Makes up to `count` vectors of outputs.
static inline void finish_some(const lathe_linear_qd8 *op, pending_block *pending, size_t count) {
  for (; count > 0 && pending->row < pending->row_end; count--) {
    const size_t panel = pending->panel + pending->next_panel;
    vi16 sums = vi16_load(pending->sums->at[pending->row - pending->first_row][pending->next_panel]);
    vi16 zero_point = vi16_set1(op->quantization[pending->row].zero_point);
    vi16 correction = vi16_mul(zero_point, vi16_load(op->weights->column_sums + panel * LATHE_PANEL_COLUMNS));
    lathe_qd8_finish_vector(op, op->epilogue, pending->row, panel, vi16_sub(sums, correction));
    if (++pending->next_panel == pending->panels) {
      pending->next_panel = 0;
      pending->row++;
    }
  }
}

static inline void configure_tiles(const row_split *split) {
  // The memory operand of LDTILECFG.
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_of_row[16];
    uint8_t rows[16];
  } configuration;
  _Static_assert(sizeof configuration == 64, "LDTILECFG reads 64 bytes");
  memset(&configuration, 0, sizeof configuration);
  configuration.palette = 1;
  const size_t rows[TILES] = {split->upper, split->upper, split->lower, split->lower,
                              split->upper, split->lower, TILE_ROWS,    TILE_ROWS};
  for (int tile = 0; tile < TILES; tile++) {
    if (rows[tile] == 0) continue;  // a tile without rows stays unconfigured and is never named
    configuration.bytes_of_row[tile] = 64;
    configuration.rows[tile] = (uint8_t)rows[tile];
  }
  _tile_loadconfig(&configuration);
}

// sums += (or =, for the first chunk) activations · weights over `tiles` tiles of the depth; `two_panels` and `two_halves`
// are constants after inlining.
static inline __attribute__((always_inline)) void accumulate(
    const lathe_linear_qd8 *op, const row_split *split, const uint8_t *activations, const int8_t *weights,
    size_t tiles, size_t panel_bytes, size_t prefetch_end, const bool two_panels, const bool two_halves, bool first,
    block_sums *sums, pending_block *pending) {
  const size_t stride = op->activation_stride_bytes, sums_stride = sizeof sums->at[0];
  const uint8_t *lower_activations = activations + split->upper * stride;
  int32_t *upper_sums = sums->at[0][0], *lower_sums = sums->at[split->upper][0];
  if (first) {
    _tile_zero(SUM_00);
    if (two_panels) _tile_zero(SUM_01);
    if (two_halves) _tile_zero(SUM_10);
    if (two_panels && two_halves) _tile_zero(SUM_11);
  } else {
    _tile_loadd(SUM_00, upper_sums, sums_stride);
    if (two_panels) _tile_loadd(SUM_01, upper_sums + LATHE_PANEL_COLUMNS, sums_stride);
    if (two_halves) _tile_loadd(SUM_10, lower_sums, sums_stride);
    if (two_panels && two_halves) _tile_loadd(SUM_11, lower_sums + LATHE_PANEL_COLUMNS, sums_stride);
  }
  const size_t waiting = (pending->row_end - pending->row) * pending->panels;
  const size_t share = (waiting + tiles - 1) / tiles;
  for (size_t t = 0; t < tiles; t++) {
    const int8_t *panel_0 = weights + t * TILE_BYTES, *panel_1 = panel_0 + panel_bytes;
    if (prefetch_end) {
      // Only the first block of rows reads weights from memory. Past a panel's end, this stream goes on in the next pair.
      size_t ahead = t * TILE_BYTES + PREFETCH_BYTES;
      if (ahead >= prefetch_end) ahead += panel_bytes;
      for (size_t line = 0; line < TILE_BYTES; line += 64) {
        _mm_prefetch((const char *)weights + ahead + line, _MM_HINT_T0);
        if (two_panels) _mm_prefetch((const char *)weights + panel_bytes + ahead + line, _MM_HINT_T0);
      }
    }
    // The activations by the streaming form: measured a quarter faster, since the panels then keep the first cache.
    _tile_stream_loadd(ROWS_0, activations + t * 64, stride);
    _tile_loadd(PANEL_0, panel_0, 64);
    _tile_dpbusd(SUM_00, ROWS_0, PANEL_0);
    if (two_panels) {
      _tile_loadd(PANEL_1, panel_1, 64);
      _tile_dpbusd(SUM_01, ROWS_0, PANEL_1);
    }
    if (two_halves) {
      _tile_stream_loadd(ROWS_1, lower_activations + t * 64, stride);
      _tile_dpbusd(SUM_10, ROWS_1, PANEL_0);
    }
    if (two_panels && two_halves) _tile_dpbusd(SUM_11, ROWS_1, PANEL_1);
    finish_some(op, pending, share);
  }
  // By now nothing is pending, so the sums below overwrite nothing that is still to be read.
  _tile_stored(SUM_00, upper_sums, sums_stride);
  if (two_panels) _tile_stored(SUM_01, upper_sums + LATHE_PANEL_COLUMNS, sums_stride);
  if (two_halves) _tile_stored(SUM_10, lower_sums, sums_stride);
  if (two_panels && two_halves) _tile_stored(SUM_11, lower_sums + LATHE_PANEL_COLUMNS, sums_stride);
}

void lathe_linear_qd8_qc8w_amx(const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  const lathe_linear_qd8 *op = operation;
  const size_t panel_bytes = lathe_qc8w_panel_bytes(op->weights->depth);
  const size_t tiles = panel_bytes / TILE_BYTES;
  const size_t chunks = (tiles + CHUNK_TILES - 1) / CHUNK_TILES, chunk_tiles = (tiles + chunks - 1) / chunks;
  const row_split split = split_rows(op->rows);
  block_sums sums[CHUNK_BLOCKS];
  pending_block pending = {0};

  configure_tiles(&split);
  for (size_t panel = panel_begin; panel < panel_end; panel += BLOCK_PANELS) {
    const size_t panels = panel_end - panel < BLOCK_PANELS ? panel_end - panel : BLOCK_PANELS;
    const int8_t *weights = (const int8_t *)op->weights->values + panel * panel_bytes;
    for (size_t first = 0; first < split.count; first += CHUNK_BLOCKS) {
      const size_t end = first + CHUNK_BLOCKS < split.count ? first + CHUNK_BLOCKS : split.count;
      for (size_t tile = 0; tile < tiles; tile += chunk_tiles) {
        const size_t count = tiles - tile < chunk_tiles ? tiles - tile : chunk_tiles;
        for (size_t i = first; i < end; i++) {
          const size_t begin_row = i * split.height;
          const size_t row = begin_row + split.height <= op->rows ? begin_row : op->rows - split.height;
          const uint8_t *activations =
              (const uint8_t *)op->activations + row * op->activation_stride_bytes + tile * 64;
          const size_t prefetch_end = i == 0 ? panel_bytes - tile * TILE_BYTES : 0;
#define ACCUMULATE(two_panels, two_halves)                                                                         \
  accumulate(                                                                                                      \
      op, &split, activations, weights + tile * TILE_BYTES, count, panel_bytes, prefetch_end, two_panels, two_halves, \
      tile == 0, &sums[i - first], &pending)
          if (panels == 2 && split.lower > 0) {
            ACCUMULATE(true, true);
          } else if (panels == 2) {
            ACCUMULATE(true, false);
          } else if (split.lower > 0) {
            ACCUMULATE(false, true);
          } else {
            ACCUMULATE(false, false);
          }
          if (tile + count == tiles) {
            pending = (pending_block){
                .sums = &sums[i - first], .first_row = row, .row = begin_row,
                .row_end = row + split.height, .panel = panel, .panels = panels};
          }
        }
      }
    }
  }
  _tile_release();
  finish_some(op, &pending, SIZE_MAX);
}

#pragma clang attribute pop
#endif
