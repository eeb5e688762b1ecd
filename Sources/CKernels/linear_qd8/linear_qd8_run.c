// The int8 linear layer by whatever kernel was chosen: what is stored in another form is expanded, a few panels at a time,
// while they stay in cache.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include <string.h>

#include "linear_qd8.h"

// Panels expanded at once: the dense kernels like groups of four.
enum { EXPANDED_PANELS = 4 };

size_t lathe_linear_qd8_scratch_bytes(lathe_weight_format format, size_t depth) {
  return format == LATHE_QC8W ? 0 : EXPANDED_PANELS * lathe_qc8w_panel_bytes(depth);
}

void lathe_expand_qc8w_scalar(const lathe_weights *weights, size_t panel_begin, size_t panel_end, int8_t *panels) {
  const size_t panel_bytes = lathe_qc8w_panel_bytes(weights->depth);
  memcpy(panels, (const int8_t *)weights->values + panel_begin * panel_bytes, (panel_end - panel_begin) * panel_bytes);
}

// The `count` columns from the first of `panel` on, as a matrix of their own.
static void run_expanded(
    lathe_linear_qd8_choice choice, const lathe_linear_qd8 *operation, size_t panel, size_t panels, int8_t *scratch) {
  const size_t column = panel * LATHE_PANEL_COLUMNS;
  lathe_weights weights = *operation->weights;
  weights.format = LATHE_QC8W;
  weights.values = scratch;
  weights.scales += column;
  weights.column_sums += column;
  weights.columns -= column;
  lathe_linear_qd8 part = *operation;
  part.weights = &weights;
  if (part.bias) part.bias += column;
  if (part.residual) part.residual += column;
  part.output += column;
  choice.kernel->run(&part, 0, panels);
}

void lathe_linear_qd8_run(
    lathe_linear_qd8_choice choice, const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end,
    int8_t *scratch) {
  if (!choice.expand) {
    choice.kernel->run(operation, panel_begin, panel_end);
    return;
  }
  for (size_t panel = panel_begin; panel < panel_end; panel += EXPANDED_PANELS) {
    const size_t end = panel + EXPANDED_PANELS < panel_end ? panel + EXPANDED_PANELS : panel_end;
    choice.expand->run(operation->weights, panel, end, scratch);
    run_expanded(choice, operation, panel, end - panel, scratch);
  }
}
