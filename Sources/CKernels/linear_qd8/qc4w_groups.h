// A block of the int8 linear layer by int4 weights, group by group. A template: include it after linear_qd8_epilogue.h and
//
//   enum { MAXIMUM_ROWS, MAXIMUM_PANELS }
//   LATHE_ACTIVATION_OFFSET            what accumulate_group takes off each activation; 0 where it is not defined
//   accumulate_group(block, rows, panels, prefetches, weights, activations, m, begin, end, acc)
//       acc [rows][panels][16] += m·Σ q·w of one group, the bytes begin …< end of each panel. `weights` [panels] and
//       `activations` [rows] start at depth 0; `m` [panels] point to the group's multipliers. `rows` and `panels` are
//       constants after inlining.
#ifndef LATHE_QC4W_GROUPS_H
#define LATHE_QC4W_GROUPS_H

#ifndef LATHE_ACTIVATION_OFFSET
#define LATHE_ACTIVATION_OFFSET 0
#endif

// acc [rows][panels][16] = Σ_g m·Σ_k q·w − zp·colsum
static inline __attribute__((always_inline)) void accumulate(
    const lathe_qd8_block *block, const size_t rows, const size_t panels, const bool prefetches,
    int32_t *restrict acc) {
  const lathe_linear_qd8 *op = block->operation;
  const size_t group_bytes = op->weights->group_size * LATHE_PANEL_COLUMNS / 2;
  const size_t panel_multipliers = lathe_qc4w_panel_multipliers(op->weights);
  const uint8_t *weights[MAXIMUM_PANELS], *activations[MAXIMUM_ROWS];
  const int8_t *multipliers[MAXIMUM_PANELS];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    activations[r] = (const uint8_t *)op->activations + (block->row + r) * op->activation_stride_bytes;
  }
#pragma clang loop unroll(full)
  for (size_t p = 0; p < panels; p++) {
    weights[p] = (const uint8_t *)op->weights->values + (block->panel + p) * block->panel_bytes;
    multipliers[p] = op->weights->multipliers + (block->panel + p) * panel_multipliers;
    const int32_t *column_sums = op->weights->column_sums + (block->panel + p) * LATHE_PANEL_COLUMNS;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      const int32_t zero_point = op->quantization[block->row + r].zero_point - LATHE_ACTIVATION_OFFSET;
      vi16_store(
          acc + (r * panels + p) * LATHE_PANEL_COLUMNS, lathe_qd8_minus_zero_point(column_sums, zero_point));
    }
  }
  for (size_t begin = 0; begin < block->panel_bytes; begin += group_bytes) {
    const size_t end = begin + group_bytes < block->panel_bytes ? begin + group_bytes : block->panel_bytes;
    accumulate_group(block, rows, panels, prefetches, weights, activations, multipliers, begin, end, acc);
#pragma clang loop unroll(full)
    for (size_t p = 0; p < panels; p++) {
      if (prefetches) __builtin_prefetch(multipliers[p] + panels * panel_multipliers);
      multipliers[p] += LATHE_PANEL_COLUMNS;
    }
  }
}

#endif
