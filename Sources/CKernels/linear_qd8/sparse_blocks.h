// How the vector kernels of sparse weights walk: groups of panels outside, blocks of rows inside, as linear_qd8_blocks.h
// does for panels of one size; and what they prefetch meanwhile.
#ifndef LATHE_SPARSE_BLOCKS_H
#define LATHE_SPARSE_BLOCKS_H

#include "sparse.h"

// Vectors whose masks fill a cache line.
enum { LATHE_SPARSE_STEP = 8 };

// One block of rows × panels, small enough that its accumulators are registers.
//
// The kernel walks its panels eight vectors at a time and prefetches 4 KB ahead in each stream of values; from vector
// `turn` on, where that passes the end of the panel, in the panel which this stream reads next, as far ahead as it is in
// the first stream: panels are about as long as their neighbours. Masks are prefetched a group ahead, which is where the
// same stream reads next: all panels have as many.
// A prefetch never faults, so the addresses may lie past the end of the matrix.
typedef struct {
  const lathe_linear_qd8 *operation;
  size_t row, rows, panel, panels;
  size_t vectors;  // of a panel
  size_t turn;     // a multiple of LATHE_SPARSE_STEP
  size_t next;     // the panel where the first stream reads next
} lathe_sparse_block;

enum { LATHE_SPARSE_PREFETCH_BYTES = 4096 };

// Without a panel to read next, the walk never turns.
static inline void lathe_sparse_plan_prefetch(lathe_sparse_block *block, size_t panel_end) {
  const uint32_t *starts = block->operation->weights->starts;
  block->turn = block->vectors;
  block->next = block->panel + block->panels;
  if (block->next + block->panels > panel_end) return;
  const size_t panel_bytes = (starts[block->next] - starts[block->panel]) / block->panels;
  const size_t ahead = LATHE_SPARSE_PREFETCH_BYTES * block->vectors / (panel_bytes + 1);  // vectors in 4 KB
  block->turn = ahead < block->vectors ? (block->vectors - ahead) / LATHE_SPARSE_STEP * LATHE_SPARSE_STEP : 0;
}

// Calls `run` for all blocks of at most `tall` rows and exactly `wide` panels, single panels at the end.
static inline __attribute__((always_inline)) void lathe_sparse_for_each_block(
    const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end, size_t tall, size_t wide,
    void (*run)(const lathe_sparse_block *)) {
  const size_t row_blocks = (operation->rows + tall - 1) / tall;
  lathe_sparse_block block = {.operation = operation, .vectors = lathe_sparse_vectors(operation->weights->depth)};
  for (block.panel = panel_begin; block.panel < panel_end; block.panel += block.panels) {
    block.panels = panel_end - block.panel >= wide ? wide : 1;
    lathe_sparse_plan_prefetch(&block, panel_end);
    block.row = 0;
    for (size_t i = 0; i < row_blocks; i++) {
      // As even as can be: a block of one row would wait for its few accumulators.
      block.rows = (operation->rows - block.row + row_blocks - i - 1) / (row_blocks - i);
      run(&block);
      block.row += block.rows;
    }
  }
}

#endif
