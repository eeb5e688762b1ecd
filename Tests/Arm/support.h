// What the tests of the kernel tables in C share: memory against guard pages, seeded inputs, digests, and the count of
// what was compared.
#ifndef LATHE_ARM_TESTS_SUPPORT_H
#define LATHE_ARM_TESTS_SUPPORT_H

#include "CKernels.h"

// MARK: - Memory

// Zeroed memory whose last byte lies before an unreadable page: one byte too far is a fault. `alignment` is kept only
// where it divides `bytes`; what must be aligned has such a size. `memory_free_all` gives everything back.
void *memory_take(size_t bytes, size_t alignment);
void *memory_copy(const void *source, size_t bytes, size_t alignment);
void memory_free_all(void);

// MARK: - Inputs (the same as those of Tests/CKernelsTests)

typedef struct {
  uint64_t state;
} generator;
uint64_t generator_next(generator *g);  // splitmix64

// Multiples of 2⁻²³ in −1 ..< 1; with outliers, every eleventh is 64 times as large.
float *input_floats(size_t count, uint64_t seed, bool outliers);

// MARK: - Digests

uint64_t xxh64(const void *data, size_t bytes);

// Tests/Golden/kernels.json; ends the program where it cannot be read.
void golden_load(const char *path);
// Compares a case of a kernel with the file's.
void golden_compare(const char *kernel, const char *key, uint64_t digest);
// Cases of the file that no kernel was compared with.
size_t golden_missed(void);

// MARK: - The account

// One comparison of that kernel of that family; what differs is printed.
void account(const char *family, const char *kernel, bool equal, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// Comparisons of a kernel of that name in that family, so far.
size_t account_of(const char *family, const char *kernel);
size_t account_failures(void);
void account_print(void);

// MARK: - Weights

// A format and its group size.
typedef struct {
  const char *name;
  lathe_weight_format format;
  size_t group_size;
} weight_case;
enum { WEIGHT_CASES = 8 };
extern const weight_case weight_cases[WEIGHT_CASES];
static inline bool is_sparse(lathe_weight_format format) {
  return format == LATHE_QC8W_SPARSE || format == LATHE_QC4W_SPARSE;
}

// Floats [columns][depth] as the packing code stores them, every array against a guard page. Of the sparse formats, about
// half of the weights are left out.
lathe_weights pack_weights(const weight_case *which, const float *weights, size_t columns, size_t depth);

extern const char *const epilogue_names[4];

// MARK: - The tests

static inline bool can_run(uint32_t features) { return (features & ~lathe_cpu_features()) == 0; }
void test_digests(void);
void test_linear_shapes(void);
void test_vector_shapes(void);
void test_float_environment(void);

#endif
