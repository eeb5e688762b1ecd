// Expansion of every other weight format to int8 panels, a few panels at a time into a scratch that stays in cache, as
// the linear layers do it. The bytes are those read and those written; the probe reads both, from where they lie.
#include <stdio.h>

#include "families.h"
#include "matrices.h"

enum { PANELS_AT_ONCE = 12 };  // all of the shape's 48 are done in four calls
static const matrix_shape shape = {3072, 768};
static int8_t *scratch;
static size_t scratch_bytes;

typedef struct {
  const matrices *matrices;
  const lathe_expand_kernel *kernel;
  size_t copies;
} subject;

static void run(const void *context) {
  const subject *s = context;
  for (size_t i = 0; i < s->copies; i++) {
    const lathe_weights weights = matrix_weights(s->matrices, i);
    for (size_t panel = 0; panel < shape.columns / 16; panel += PANELS_AT_ONCE) {
      s->kernel->run(&weights, panel, panel + PANELS_AT_ONCE, scratch);
    }
  }
}

static void probe(const void *context) {
  const subject *s = context;
  for (size_t i = 0; i < s->copies; i++) {
    probe_matrix(s->matrices, i);
    for (size_t panel = 0; panel < shape.columns / 16; panel += PANELS_AT_ONCE) read_bytes(scratch, scratch_bytes);
  }
}

void measure_expansion(void) {
  size_t count;
  const lathe_expand_kernel *kernels = lathe_expand_kernels(&count);
  for (size_t e = 0; e < ENCODINGS; e++) {
    char family[64];
    snprintf(family, sizeof family, "expand_%s", encodings[e].name);
    if (encodings[e].float32 || !is_wanted_family(family)) continue;
    scratch_bytes = PANELS_AT_ONCE * 16 * shape.depth;
    if (!scratch) scratch = filled(scratch_bytes, 0);
    const matrices matrices = make_matrices(&encodings[e], shape);
    for (size_t i = 0; i < count; i++) {
      if (kernels[i].format != encodings[e].format) continue;
      if (!is_wanted(family, kernels[i].name, kernels[i].features)) continue;
      const subject s = {&matrices, &kernels[i], kernels[i].features ? matrices.copies : 1};
      const size_t bytes = matrix_bytes(&matrices) + lathe_qc8w_bytes(shape.columns, shape.depth);
      measurement m = {
          .family = family, .kernel = kernels[i].name, .features = kernels[i].features, .calls = (double)s.copies,
          .bytes = (double)(bytes * s.copies), .run = run, .probe = probe, .context = &s};
      snprintf(m.shape, sizeof m.shape, "%zux%zu", shape.depth, shape.columns);
      measure(&m);
    }
  }
}
