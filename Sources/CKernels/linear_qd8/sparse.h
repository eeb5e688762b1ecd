// Walking sparse weights: what their kernels, their packing and their embedding share.
#ifndef LATHE_SPARSE_H
#define LATHE_SPARSE_H

#include "linear_qd8.h"

// Vectors of one panel: 64 bytes of T16 and one mask each.
static inline size_t lathe_sparse_vectors(size_t depth) { return lathe_round_up(depth, LATHE_DEPTH_BLOCK) / 4; }

static inline size_t lathe_count_bits(uint64_t mask) { return (size_t)__builtin_popcountll(mask); }

// Removes the lowest bit of a mask that has one, and says which it was.
static inline size_t lathe_take_lowest_bit(uint64_t *mask) {
  const size_t bit = (size_t)__builtin_ctzll(*mask);
  *mask &= *mask - 1;
  return bit;
}

// Bytes that a pair of vectors takes in int4: non-zeros of the first in low nibbles, of the second in high ones.
static inline size_t lathe_sparse_pair_bytes(uint64_t first, uint64_t second) {
  const size_t a = lathe_count_bits(first), b = lathe_count_bits(second);
  return a > b ? a : b;
}

// Where a panel begins.
static inline const uint8_t *lathe_sparse_values(const lathe_weights *weights, size_t panel) {
  return (const uint8_t *)weights->values + weights->starts[panel];
}
static inline const uint64_t *lathe_sparse_masks(const lathe_weights *weights, size_t panel) {
  return weights->masks + panel * lathe_sparse_vectors(weights->depth);
}

#endif
