// The linear layer with 16-bit activations: the int8 kernels multiply high and low bytes as rows of their own, and the two
// products are put together while they are still in cache.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "linear_qd8.h"

// Rows and columns whose halves a thread keeps before it puts them together. The columns are a multiple of twelve panels,
// as kernels like them.
enum { ROWS = 8, PANELS = 96, COLUMNS = PANELS * LATHE_PANEL_COLUMNS };

size_t lathe_linear_qd16_scratch_floats(void) { return (size_t)2 * ROWS * COLUMNS + COLUMNS; }

// The columns from the first of `panel` on, as a matrix of their own.
static lathe_weights from_panel(const lathe_weights *whole, size_t panel) {
  lathe_weights weights = *whole;
  const size_t depth = lathe_round_up(whole->depth, LATHE_DEPTH_BLOCK), column = panel * LATHE_PANEL_COLUMNS;
  switch (whole->format) {
    case LATHE_QC8W: weights.values = (const char *)whole->values + panel * depth * 16; break;
    case LATHE_QC4W: weights.values = (const char *)whole->values + panel * depth * 8; break;
    case LATHE_QC8W_SPARSE:
    case LATHE_QC4W_SPARSE:  // the packed values stay: `starts` says where in them a panel begins
      weights.masks += panel * (depth / 4);
      weights.starts += panel;
      break;
  }
  if (weights.multipliers) {
    weights.multipliers += panel * ((depth + whole->group_size - 1) / whole->group_size) * LATHE_PANEL_COLUMNS;
  }
  weights.scales += column;
  weights.column_sums += column;
  weights.columns -= column;
  return weights;
}

// Rows `row` …< row + rows of the columns from `panel` on: weights of scale 1 and rows of scale 1 leave the integers.
static void run_block(
    lathe_linear_qd8_choice choice, const lathe_vector_kernel *vector, const lathe_linear_qd16 *op, size_t row,
    size_t rows, size_t panel, size_t panels, int8_t *expansion_scratch, const float *ones, float *halves) {
  lathe_weights weights = from_panel(op->weights, panel);
  const size_t count = weights.columns < panels * LATHE_PANEL_COLUMNS ? weights.columns : panels * LATHE_PANEL_COLUMNS;
  const float *scales = weights.scales, *bias = op->bias ? op->bias + panel * LATHE_PANEL_COLUMNS : NULL;
  weights.scales = ones;
  const lathe_linear_qd8 products = {
      .rows = 2 * rows,
      .activations = (const char *)op->activations + 2 * row * op->activation_stride_bytes,
      .activation_stride_bytes = op->activation_stride_bytes,
      .quantization = op->quantization + 2 * row,
      .weights = &weights,
      .epilogue = LATHE_EPILOGUE_NONE,
      .output = halves,
      .output_stride_bytes = COLUMNS * sizeof(float),
  };
  lathe_linear_qd8_run(choice, &products, 0, panels, expansion_scratch);
  for (size_t i = 0; i < rows; i++) {
    const float *high = halves + 2 * i * COLUMNS;
    float *output = (float *)((char *)op->output + (row + i) * op->output_stride_bytes) + panel * LATHE_PANEL_COLUMNS;
    vector->combine_halves(high, high + COLUMNS, count, op->activation_scales[row + i], scales, bias, output);
  }
}

void lathe_linear_qd16_run(
    lathe_linear_qd8_choice choice, const lathe_vector_kernel *vector, const lathe_linear_qd16 *operation,
    size_t panel_begin, size_t panel_end, int8_t *expansion_scratch, float *halves_scratch) {
  float *ones = halves_scratch + (size_t)2 * ROWS * COLUMNS;
  for (size_t j = 0; j < COLUMNS; j++) ones[j] = 1.0f;
  for (size_t panel = panel_begin; panel < panel_end; panel += PANELS) {
    const size_t panels = panel_end - panel < PANELS ? panel_end - panel : PANELS;
    for (size_t row = 0; row < operation->rows; row += ROWS) {
      const size_t rows = operation->rows - row < ROWS ? operation->rows - row : ROWS;
      run_block(
          choice, vector, operation, row, rows, panel, panels, expansion_scratch, ones, halves_scratch);
    }
  }
}
