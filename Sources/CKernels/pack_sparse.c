// Packing quantized panels into the sparse formats: weights that are zero, pruned or rounded there, are left out. Offline
// and scalar.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "The kernels promise the same bits everywhere; they must not be built with -ffast-math."
#endif

#include <string.h>

#include "linear_qd8/sparse.h"

static uint64_t int8_mask(const uint8_t *vector) {
  uint64_t mask = 0;
  for (size_t b = 0; b < 64; b++) mask |= (uint64_t)(vector[b] != 0) << b;
  return mask;
}

// Of a pair of vectors in nibbles: bytes whose nibble at `shift` is not zero.
static uint64_t nibble_mask(const uint8_t *pair, unsigned shift) {
  uint64_t mask = 0;
  for (size_t b = 0; b < 64; b++) mask |= (uint64_t)((pair[b] >> shift & 15) != 0) << b;
  return mask;
}

size_t lathe_sparse_bytes(lathe_weight_format format, const void *values, size_t columns, size_t depth) {
  const size_t vectors = lathe_round_up(columns, LATHE_PANEL_COLUMNS) / LATHE_PANEL_COLUMNS * lathe_sparse_vectors(depth);
  const uint8_t *bytes = values;
  size_t total = 0;
  if (format == LATHE_QC4W_SPARSE) {
    for (size_t pair = 0; pair < vectors / 2; pair++, bytes += 64) {
      total += lathe_sparse_pair_bytes(nibble_mask(bytes, 0), nibble_mask(bytes, 4));
    }
  } else {
    for (size_t v = 0; v < vectors; v++, bytes += 64) total += lathe_count_bits(int8_mask(bytes));
  }
  return total;
}

static uint8_t *pack_int8_panel(const uint8_t *values, size_t vectors, uint8_t *packed, uint64_t *masks) {
  for (size_t v = 0; v < vectors; v++, values += 64) {
    masks[v] = int8_mask(values);
    for (uint64_t mask = masks[v]; mask;) *packed++ = values[lathe_take_lowest_bit(&mask)];
  }
  return packed;
}

static uint8_t *pack_int4_panel(const uint8_t *values, size_t vectors, uint8_t *packed, uint64_t *masks) {
  for (size_t v = 0; v < vectors; v += 2, values += 64) {
    masks[v] = nibble_mask(values, 0);
    masks[v + 1] = nibble_mask(values, 4);
    const size_t bytes = lathe_sparse_pair_bytes(masks[v], masks[v + 1]);
    memset(packed, 0, bytes);
    size_t j = 0;
    for (uint64_t mask = masks[v]; mask;) packed[j++] |= values[lathe_take_lowest_bit(&mask)] & 0x0f;
    j = 0;
    for (uint64_t mask = masks[v + 1]; mask;) packed[j++] |= values[lathe_take_lowest_bit(&mask)] & 0xf0;
    packed += bytes;
  }
  return packed;
}

void lathe_pack_sparse(
    lathe_weight_format format, const void *values, size_t columns, size_t depth, uint32_t start, void *packed,
    uint64_t *masks, uint32_t *starts) {
  const size_t vectors = lathe_sparse_vectors(depth);
  const size_t panel_bytes = format == LATHE_QC4W_SPARSE ? vectors * 32 : vectors * 64;
  const size_t panels = lathe_round_up(columns, LATHE_PANEL_COLUMNS) / LATHE_PANEL_COLUMNS;
  uint8_t *next = packed;
  for (size_t panel = 0; panel < panels; panel++) {
    const uint8_t *from = (const uint8_t *)values + panel * panel_bytes;
    uint64_t *panel_masks = masks + panel * vectors;
    starts[panel] = start + (uint32_t)(next - (uint8_t *)packed);
    next = format == LATHE_QC4W_SPARSE ? pack_int4_panel(from, vectors, next, panel_masks)
                                       : pack_int8_panel(from, vectors, next, panel_masks);
  }
}
