#pragma clang fp contract(off)

// The tile instructions as Intel's manual defines them (Software Developer's Manual, volume 2, TDPBUSD and the others),
// stricter where it pays: what the manual leaves to the programmer is a violation here.
#include "AMXEmulation.h"

// Each thread has its own tiles, as a processor core has.
static _Thread_local const char *violation;

const char *lathe_amx_emulation_violation(void) {
  const char *first = violation;
  violation = NULL;
  return first;
}

#if defined(__x86_64__)
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

enum { TILES_OF_PALETTE = 8, ROWS_OF_PALETTE = 16, BYTES_OF_PALETTE = 64 };

static _Thread_local bool configured;
static _Thread_local struct {
  size_t rows, bytes;
  bool written;  // reading a tile that only its configuration has zeroed is taken for a mistake
  uint8_t at[ROWS_OF_PALETTE][BYTES_OF_PALETTE];
} tile[TILES_OF_PALETTE];

static bool require(bool condition, const char *message) {
  if (!condition && !violation) violation = message;
  return condition;
}

static void emulated_loadconfig(const void *memory) {
  uint8_t bytes[64];
  memcpy(bytes, memory, sizeof bytes);
  require(bytes[0] == 1, "the palette is not 1");
  require(bytes[1] == 0, "the start row is not 0");
  for (int i = 2; i < 16; i++) require(bytes[i] == 0, "a reserved byte of the configuration is set");
  memset(tile, 0, sizeof tile);
  for (int i = 0; i < 16; i++) {
    uint16_t row_bytes;
    memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
    uint8_t rows = bytes[48 + i];
    if (i >= TILES_OF_PALETTE) {
      require(row_bytes == 0 && rows == 0, "a tile beyond the eighth is configured");
      continue;
    }
    require(rows <= ROWS_OF_PALETTE, "a tile has more than 16 rows");
    require(row_bytes <= BYTES_OF_PALETTE, "a row of a tile has more than 64 bytes");
    require((rows == 0) == (row_bytes == 0), "a tile has rows without bytes, or bytes without rows");
    require(row_bytes % 4 == 0, "the bytes of a tile's row are no multiple of 4");
    tile[i].rows = rows <= ROWS_OF_PALETTE ? rows : 0;
    tile[i].bytes = row_bytes <= BYTES_OF_PALETTE ? row_bytes : 0;
  }
  configured = true;
}

static void emulated_release(void) {
  require(configured, "tiles are released that were not configured");
  memset(tile, 0, sizeof tile);
  configured = false;
}

static bool usable(int t) {
  return require(configured, "a tile is used without a configuration") &&
         require(tile[t].rows > 0, "a tile is used that has no rows");
}

static void emulated_zero(int t) {
  if (!usable(t)) return;
  memset(tile[t].at, 0, sizeof tile[t].at);
  tile[t].written = true;
}

static void emulated_loadd(int t, const void *base, size_t stride) {
  if (!usable(t)) return;
  memset(tile[t].at, 0, sizeof tile[t].at);
  for (size_t r = 0; r < tile[t].rows; r++) memcpy(tile[t].at[r], (const char *)base + r * stride, tile[t].bytes);
  tile[t].written = true;
}

static void emulated_stored(int t, void *base, size_t stride) {
  if (!usable(t) || !require(tile[t].written, "a tile is stored before it was written")) return;
  for (size_t r = 0; r < tile[t].rows; r++) memcpy((char *)base + r * stride, tile[t].at[r], tile[t].bytes);
}

// sums[m][n] += Σ_k Σ_i u8 a[m][4k+i] · s8 b[k][4n+i], each group of four added to the sum before the next, wrapping.
static void emulated_dpbusd(int c, int a, int b) {
  if (!usable(c) || !usable(a) || !usable(b)) return;
  require(c != a && c != b && a != b, "TDPBUSD names a tile twice");
  require(tile[c].rows == tile[a].rows, "TDPBUSD: the sums and the first factor differ in rows");
  require(tile[c].bytes == tile[b].bytes, "TDPBUSD: the sums and the second factor differ in columns");
  require(tile[a].bytes / 4 == tile[b].rows, "TDPBUSD: the factors differ in depth");
  require(tile[a].written && tile[b].written && tile[c].written, "TDPBUSD reads a tile before it was written");
  for (size_t m = 0; m < tile[c].rows; m++) {
    for (size_t k = 0; k < tile[a].bytes / 4; k++) {
      for (size_t n = 0; n < tile[c].bytes / 4; n++) {
        uint32_t sum;
        memcpy(&sum, &tile[c].at[m][4 * n], sizeof sum);
        for (size_t i = 0; i < 4; i++) {
          sum += (uint32_t)((int32_t)tile[a].at[m][4 * k + i] * (int8_t)tile[b].at[k][4 * n + i]);
        }
        memcpy(&tile[c].at[m][4 * n], &sum, sizeof sum);
      }
    }
  }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_dpbusd
#define _tile_loadconfig emulated_loadconfig
#define _tile_release emulated_release
#define _tile_zero emulated_zero
#define _tile_loadd emulated_loadd
#define _tile_stream_loadd emulated_loadd
#define _tile_stored emulated_stored
#define _tile_dpbusd emulated_dpbusd

#define lathe_linear_qd8_qc8w_amx lathe_linear_qd8_qc8w_amx_on_emulated_tiles
#include "../../../Sources/CKernels/linear_qd8/qc8w_amx.c"

uint32_t lathe_amx_emulation_features(void) { return LATHE_CPU_AVX2 | LATHE_CPU_AVX512; }

void lathe_linear_qd8_qc8w_amx_emulated(
    const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  lathe_linear_qd8_qc8w_amx_on_emulated_tiles(operation, panel_begin, panel_end);
  require(!configured, "the tiles are still in use after the kernel has returned");
}
#else
uint32_t lathe_amx_emulation_features(void) { return UINT32_MAX; }
void lathe_linear_qd8_qc8w_amx_emulated(
    const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end) {
  (void)operation, (void)panel_begin, (void)panel_end;
  violation = "there is no AMX on this architecture";
}
#endif
