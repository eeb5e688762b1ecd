// The AMX kernel of Sources/CKernels, compiled with the tile instructions emulated in plain C, so that its logic is
// tested on machines without AMX. The rest of it still needs AVX-512.
#ifndef LATHE_AMX_EMULATION_H
#define LATHE_AMX_EMULATION_H

#include "CKernels.h"

// The processor's features that the emulated kernel needs; all of them on machines where it cannot be built.
uint32_t lathe_amx_emulation_features(void);

void lathe_linear_qd8_qc8w_amx_emulated(
    const lathe_linear_qd8 *operation, size_t panel_begin, size_t panel_end);

// The first thing done since the last call that a processor would have answered with an exception, or that leaves the
// tiles in use after the kernel has returned; NULL if there was none.
const char *lathe_amx_emulation_violation(void);

#endif
