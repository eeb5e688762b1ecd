// How the vector kernels of the int8 linear layer walk: groups of panels outside, blocks of rows inside, so that each
// weight comes from memory once and from cache for every further row block; and what they prefetch meanwhile.
#ifndef LATHE_LINEAR_QD8_BLOCKS_H
#define LATHE_LINEAR_QD8_BLOCKS_H

#include "linear_qd8.h"

// One block of rows × panels, small enough that its accumulators are registers.
//
// While it walks its panels, 64 bytes of each at a time, the kernel prefetches weights[p] + prefetch, `prefetch` starting
// at prefetch_begin[0], advancing by prefetch_step, and set to prefetch_begin[1] when the walk passes `turn`.
// A prefetch never faults, so the addresses may lie past the end of the matrix.
typedef struct {
  const lathe_linear_qd8 *operation;
  size_t row, rows, panel, panels;
  size_t panel_bytes, turn;
  bool prefetches;  // else the kernel need not: measured, those instructions cost prefill a tenth
  size_t prefetch_begin[2], prefetch_step;
} lathe_qd8_block;

// The offset at which to prefetch where the walk is at byte `at` of its panels.
static inline size_t lathe_qd8_prefetch_offset(const lathe_qd8_block *block, size_t at) {
  const size_t begin = block->prefetch_begin[at >= block->turn], walked = at >= block->turn ? at - block->turn : at;
  return begin + walked / 64 * block->prefetch_step;
}

// With one row block, the panels are read at the speed of memory: prefetch 4 KB ahead in each stream, and where that
// passes the panel's end, in the panel which this stream reads next.
static inline void lathe_qd8_prefetch_ahead(lathe_qd8_block *block, bool last) {
  block->prefetch_begin[0] = block->panel_bytes - block->turn;
  block->prefetch_begin[1] = last ? block->turn : block->panels * block->panel_bytes;
  block->prefetch_step = 64;
}

// With several, a group of panels stays in cache for all of them, and they share the prefetching of the next group:
// the i-th of n row blocks the i-th n-th.
static inline void lathe_qd8_prefetch_next_group(lathe_qd8_block *block, size_t i, size_t n) {
  block->prefetch_step = (64 + n - 1) / n;
  block->prefetch_begin[0] = block->panels * block->panel_bytes + i * block->panel_bytes / n;
  block->prefetch_begin[1] = block->prefetch_begin[0] + block->turn / 64 * block->prefetch_step;
}

// The same with so many row blocks that each has only a few lines to ask for: all at once, before the block.
static inline void lathe_qd8_prefetch_next_group_now(const lathe_qd8_block *block, size_t i, size_t n) {
  const size_t bytes = block->panels * block->panel_bytes;
  const char *weights = block->operation->weights->values;
  const char *next = weights + (block->panel + block->panels) * block->panel_bytes;
  for (size_t at = i * bytes / n; at < (i + 1) * bytes / n; at += 64) __builtin_prefetch(next + at, 0, 2);
}

// Calls `run` for all blocks of at most `tall` rows and exactly `wide` panels, single panels at the end; a panel has
// `panel_bytes`, a multiple of 64.
static inline __attribute__((always_inline)) void lathe_qd8_for_each_block(
    const lathe_linear_qd8 *operation, size_t panel_bytes, size_t panel_begin, size_t panel_end, size_t tall,
    size_t wide, void (*run)(const lathe_qd8_block *)) {
  // From five blocks of at most `tall` rows on, none has fewer than tall − 1: the kernels need quiet forms of those only.
  enum { PREFETCH_BYTES = 4096, MANY_ROW_BLOCKS = 5 };
  const size_t row_blocks = (operation->rows + tall - 1) / tall;
  lathe_qd8_block block = {.operation = operation, .panel_bytes = panel_bytes};
  block.turn = panel_bytes > PREFETCH_BYTES ? panel_bytes - PREFETCH_BYTES : 0;
  for (block.panel = panel_begin; block.panel < panel_end; block.panel += block.panels) {
    block.panels = panel_end - block.panel >= wide ? wide : 1;
    const bool last = block.panel + block.panels >= panel_end;
    block.row = 0;
    for (size_t i = 0; i < row_blocks; i++) {
      // As even as can be: a block of one row would wait for its few accumulators.
      block.rows = (operation->rows - block.row + row_blocks - i - 1) / (row_blocks - i);
      block.prefetches = row_blocks < MANY_ROW_BLOCKS;
      if (!block.prefetches) {
        if (!last) lathe_qd8_prefetch_next_group_now(&block, i, row_blocks);
      } else if (last || (i == 0 && (row_blocks == 1 || block.panel == panel_begin))) {
        lathe_qd8_prefetch_ahead(&block, last);
      } else {
        lathe_qd8_prefetch_next_group(&block, i, row_blocks);
      }
      run(&block);
      block.row += block.rows;
    }
  }
}

// The walk of kernels whose registers hold six rows of one panel: several panels for few rows, as memory likes several
// streams.
static inline __attribute__((always_inline)) void lathe_qd8_for_each_block_of_six(
    const lathe_linear_qd8 *operation, size_t panel_bytes, size_t panel_begin, size_t panel_end,
    void (*run)(const lathe_qd8_block *)) {
  if (operation->rows == 1) {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 1, 4, run);
  } else if (operation->rows <= 3) {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 3, 2, run);
  } else {
    lathe_qd8_for_each_block(operation, panel_bytes, panel_begin, panel_end, 6, 1, run);
  }
}

// What it asks for.
#define LATHE_SHAPES_OF_SIX                                               \
  SHAPE(1, 4) SHAPE(2, 2) SHAPE(3, 2)                                     \
  SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1) \
  SHAPE_OF_MANY(5, 1) SHAPE_OF_MANY(6, 1)

#endif
