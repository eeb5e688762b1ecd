// Walks the kernel tables of this machine: digests against the committed ones, shapes against the scalar definitions.
//
//     kernels GOLDEN [--digests-only] LEVEL…
//
// GOLDEN is Tests/Golden/kernels.json. Each LEVEL (of lathe_isa_levels) must be one that this machine has, the last of
// them its best. Exit: 0 where every bit agreed, 1 where one did not or a level was not tested, 2 for anything else.
#include <stdio.h>
#include <string.h>

#include "support.h"

// The level brought a kernel, and it was compared.
static bool was_tested(const char *level, bool shapes) {
  return account_of("digests", level) > 0 && (!shapes || account_of("linear_qd8", level) > 0);
}

// What the tables choose at a level, for each format as it is kept in memory: nothing of a level but the scalar one may be
// left to the definitions.
static void test_dispatch(const lathe_isa_level *level) {
  static const char *const names[LATHE_WEIGHT_FORMATS] = {"qc8w", "qc4w", "qc8w_sparse", "qc4w_sparse"};
  const uint32_t features = level->allowed & lathe_cpu_features();
  printf("  dispatch at %s, by rows:", level->name);
  for (int format = 0; format < LATHE_WEIGHT_FORMATS; format++) {
    const lathe_weight_format kept = lathe_linear_qd8_resident_format((lathe_weight_format)format, features);
    printf("%s %s%s%s", format ? ";" : "", names[format], (int)kept == format ? "" : " kept as ",
           (int)kept == format ? "" : names[kept]);
    for (size_t rows = 1; rows <= 64; rows *= 8) {
      const lathe_linear_qd8_choice choice = lathe_linear_qd8_choose(kept, features, rows);
      printf(", %zu: %s%s%s", rows, choice.expand ? choice.expand->name : "", choice.expand ? " expansion " : "",
             choice.kernel->name);
      const bool vectorized = choice.kernel->features != 0 && (!choice.expand || choice.expand->features != 0);
      account("dispatch", level->name, vectorized || level->required == 0, "%s, %zu rows", names[format], rows);
    }
  }
  printf("\n");
  account("dispatch", level->name, lathe_quantize_select(features)->features || level->required == 0, "quantize");
  account("dispatch", level->name, lathe_linear_f32_select(features)->features || level->required == 0, "linear_f32");
  account("dispatch", level->name, lathe_vector_select(features)->features || level->required == 0, "vector");
}

int main(int count, char **arguments) {
  if (count < 2) {
    fprintf(stderr, "usage: %s Tests/Golden/kernels.json [--digests-only] LEVEL...\n", arguments[0]);
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  golden_load(arguments[1]);
  const bool shapes = count < 3 || strcmp(arguments[2], "--digests-only") != 0;
  const int first_level = shapes ? 2 : 3;
  test_digests();
  if (shapes) {
    test_linear_shapes();
    test_vector_shapes();
  }
  test_float_environment();
  size_t levels;
  const lathe_isa_level *level = lathe_isa_levels(&levels);
  for (size_t i = 0; i < levels; i++) {
    if (can_run(level[i].required)) test_dispatch(&level[i]);
  }
  account_print();

  int status = account_failures() == 0 ? 0 : 1;
  if (golden_missed() > 0) {
    printf("%zu committed digests were met by no kernel\n", golden_missed());
    status = 1;
  }
  for (int i = first_level; i < count; i++) {
    const lathe_isa_level *wanted = lathe_isa_named(arguments[i]);
    if (!wanted || !can_run(wanted->required)) {
      printf("this machine should have the level %s\n", arguments[i]);
      status = 1;
    } else if (!was_tested(arguments[i], shapes)) {
      printf("no kernel of the level %s was compared\n", arguments[i]);
      status = 1;
    }
  }
  if (count > first_level && strcmp(lathe_isa_best()->name, arguments[count - 1]) != 0) {
    printf("the best level is %s, not %s\n", lathe_isa_best()->name, arguments[count - 1]);
    status = 1;
  }
  printf("  %s: features %#x, best level %s\n", status == 0 ? "equal" : "NOT EQUAL", lathe_cpu_features(),
         lathe_isa_best()->name);
  return status;
}
