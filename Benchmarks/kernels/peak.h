// Peaks of arithmetic that no kernel can pass.
#ifndef LATHE_BENCH_PEAK_H
#define LATHE_BENCH_PEAK_H

#include "CKernels.h"

typedef enum {
  ARITHMETIC_NONE,      // the kernel only moves bytes
  ARITHMETIC_DOT_INT8,  // sums of products of bytes, exact over their whole range
  ARITHMETIC_DOT_INT4,  // of bytes with −8…7, exact for the sums of a group
  ARITHMETIC_FLOAT32,
} arithmetic;

// A loop that does nothing but one instruction, or the pair of them that makes a product and adds it, on registers.
typedef struct {
  const char *name;  // the instructions and their width
  arithmetic arithmetic;
  uint32_t features;
  double operations;           // of one `step`; a multiplication and an addition are two
  void (*run)(uint64_t steps);
} peak;

// The best that an instruction set has for such arithmetic; NULL for ARITHMETIC_NONE.
const peak *peak_of(arithmetic arithmetic, uint32_t features);

// Puts a value where no compiler can leave it out.
void keep(uint64_t value);

#endif
