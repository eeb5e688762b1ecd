// The compiled forms of a kernel's blocks. A template: include it after `accumulate`, inside the file's target attribute,
// with LATHE_SHAPES defined as the shapes that the kernel's walk asks for: SHAPE(rows, panels) each, and
// SHAPE_OF_MANY(rows, panels) for those of many row blocks, which do not prefetch. It defines run_block.
#ifndef LATHE_SHAPES
#error "Define LATHE_SHAPES first."
#endif

enum { QUIET = 128 };

#define SHAPE(rows, panels) \
  case (rows) * 8 + (panels): accumulate(block, rows, panels, true, acc); break;
#define SHAPE_OF_MANY(rows, panels) \
  case QUIET + (rows) * 8 + (panels): accumulate(block, rows, panels, false, acc); break;

static void run_block(const lathe_qd8_block *block) {
  _Alignas(64) int32_t acc[MAXIMUM_ROWS * MAXIMUM_PANELS * LATHE_PANEL_COLUMNS];
  switch ((block->prefetches ? 0 : QUIET) + block->rows * 8 + block->panels) {
    LATHE_SHAPES
    default: __builtin_trap();  // a shape that the walk does not ask for
  }
  lathe_qd8_finish_block(block->operation, block->row, block->rows, block->panel, block->panels, acc);
}
