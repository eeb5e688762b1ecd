// What the kernel benchmarks share: which kernels are asked for, how one is timed against its roof, how it is printed.
#ifndef LATHE_BENCH_H
#define LATHE_BENCH_H

#include "peak.h"

// MARK: - Measuring

// A kernel at one shape. `bytes` and `operations` are those of one `run`, which is `calls` calls of the kernel; each
// byte counts once, read or written, however often a kernel touches it.
typedef struct {
  const char *family, *kernel;
  uint32_t features;
  char shape[48];
  size_t rows;
  double calls, bytes, operations;
  arithmetic arithmetic;
  uint32_t arithmetic_features;  // 0: `features`. Of what multiplies, where something else in the kernel needs more
  void (*run)(const void *context);
  void (*probe)(const void *context);  // reads those bytes
  const void *context;
} measurement;

// Times run, probe and peak in turn until the time for a measurement is spent, and prints a line. What fits the first
// cache is compared with a probe of that cache, since a probe of so few bytes would mostly measure its own beginning
// and end.
void measure(const measurement *m);

// Whether the command line asks for this kernel and this machine runs it. What is asked for and cannot run is listed at
// the end.
bool is_wanted_family(const char *family);
bool is_wanted(const char *family, const char *kernel, uint32_t features);
// Writes the numbers of rows to measure and returns how many: the one of the command line, or `usual`; for a scalar
// definition, which is not for speed, the first of these alone.
enum { MAXIMUM_ROWS = 512, MAXIMUM_ROW_COUNTS = 8 };
size_t rows_wanted(const size_t *usual, size_t count, uint32_t features, size_t rows[MAXIMUM_ROW_COUNTS]);

// The read probe, with or without prefetching as the harness has found it faster.
void read_bytes(const void *base, size_t bytes);
// 64-byte aligned and filled with a byte, so that every page is its own; ends the program where there is no memory.
void *filled(size_t bytes, int byte);
// As bytes, halves and floats alike this byte makes small ordinary numbers.
enum { ORDINARY = 0x3c };

// MARK: - The program

// Reads the command line and prints what machine this is; not 0: refused, with a sentence on standard error.
int begin(int count, char **arguments);
// Lists what could not run; the program's exit code.
int finish(void);

#endif
