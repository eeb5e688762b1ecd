// The harness: a kernel, the read probe of its bytes and the peak of its arithmetic are timed in turn, so that all
// three see the machine's quieter and busier moments, and each share is of one such round.
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEAST_ROUNDS = 5, MOST_ROUNDS = 25, MOST_MISSING = 32 };
// What is shorter is repeated until the clock's own steps no longer count.
static const double least_seconds = 300e-6;

static struct {
  const char *family, *kernel;
  size_t rows;  // 0: any
  double seconds;
  bool json;
} wanted = {.seconds = 0.12};

static size_t measured;
static char missing[MOST_MISSING][96];
static size_t missing_count;

// MARK: - What is asked for

// Families are asked for by how they begin: linear_qd8_qc4w stands for those of every group size.
bool is_wanted_family(const char *family) {
  return !wanted.family || strncmp(family, wanted.family, strlen(wanted.family)) == 0;
}

bool is_wanted(const char *family, const char *kernel, uint32_t features) {
  if (!is_wanted_family(family)) return false;
  if (wanted.kernel && strcmp(wanted.kernel, kernel) != 0) return false;
  if ((features & ~lathe_cpu_features()) == 0) return true;
  char name[sizeof missing[0]];
  snprintf(name, sizeof name, "%s %s", family, kernel);
  for (size_t i = 0; i < missing_count; i++) {
    if (strcmp(missing[i], name) == 0) return false;
  }
  if (missing_count < MOST_MISSING) memcpy(missing[missing_count++], name, sizeof name);
  return false;
}

size_t rows_wanted(const size_t *usual, size_t count, uint32_t features, size_t rows[MAXIMUM_ROW_COUNTS]) {
  rows[0] = wanted.rows ? wanted.rows : usual[0];
  if (wanted.rows || features == 0) return 1;
  for (size_t i = 1; i < count; i++) rows[i] = usual[i];
  return count;
}

// MARK: - Memory

static bool prefetches;

// In pieces: eight streams that lie megabytes apart are read slower than a kernel reads its panels.
void read_bytes(const void *base, size_t bytes) {
  enum { PIECE = 1 << 20 };
  for (size_t at = 0; at < bytes; at += PIECE) {
    const size_t left = bytes - at;
    keep(lathe_read_probe((const char *)base + at, left < PIECE ? left : PIECE, prefetches, lathe_cpu_features()));
  }
}

void *filled(size_t bytes, int byte) {
  bytes = lathe_round_up(bytes, 64);
  void *memory = aligned_alloc(64, bytes);
  if (!memory) {
    fprintf(stderr, "kernels: no memory for %zu MB of data.\n", bytes >> 20);
    exit(1);
  }
  return memset(memory, byte, bytes);
}

// MARK: - Time

static double seconds_of(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// Processor time of this thread, which never waits: while other programs have the processor, a kernel that takes many
// milliseconds would lose some of every round, and a probe that takes a few hundred microseconds of hardly any.
static double now(void) { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }

static double time_calls(void (*body)(const void *), const void *context, size_t count) {
  const double start = now();
  for (size_t i = 0; i < count; i++) body(context);
  return now() - start;
}

// How often `body` is called for one reading of the clock. Finding out warms it up, too.
static size_t repeats_of(void (*body)(const void *), const void *context) {
  size_t count = 1;
  while (time_calls(body, context, count) < least_seconds) count *= 2;
  return count;
}

// What is no larger lies in the first cache, and its probe reads half as much there.
enum { FIRST_CACHE_BYTES = 32 << 10, PROBED_BYTES = FIRST_CACHE_BYTES / 2 };
static void probe_first_cache(const void *context) { read_bytes(context, PROBED_BYTES); }

// Finds out whether prefetching makes the probe faster, and leaves it so.
static void choose_prefetching(void (*probe)(const void *), const void *context, size_t count) {
  enum { TRIES = 2 };
  double best[2] = {1e9, 1e9};
  for (int i = 0; i < 2 * TRIES; i++) {
    prefetches = i % 2;
    const double time = time_calls(probe, context, count);
    best[prefetches] = time < best[prefetches] ? time : best[prefetches];
  }
  prefetches = best[true] < best[false];
}

static double time_peak(const peak *p, uint64_t steps) {
  const double start = now();
  p->run(steps);
  return now() - start;
}

static uint64_t peak_steps(const peak *p) {
  uint64_t steps = 1024;
  while (time_peak(p, steps) < least_seconds) steps *= 2;
  return steps;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(const double *values, size_t count) {
  double sorted[MOST_ROUNDS];
  memcpy(sorted, values, count * sizeof *values);
  qsort(sorted, count, sizeof *sorted, ascending);
  return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

static double least(const double *values, size_t count) {
  double least = values[0];
  for (size_t i = 1; i < count; i++) least = values[i] < least ? values[i] : least;
  return least;
}

// Seconds of one `run`, and of what bounds it: reading the same bytes, and doing the same operations at the peak.
typedef struct {
  size_t count;
  double run[MOST_ROUNDS], reading[MOST_ROUNDS], computing[MOST_ROUNDS];
} rounds;

static rounds take_rounds(const measurement *m, const peak *p) {
  rounds r = {0};
  static void *first_cache;
  if (!first_cache) first_cache = filled(PROBED_BYTES, ORDINARY);
  const bool is_small = m->bytes <= FIRST_CACHE_BYTES;
  void (*probe)(const void *) = is_small ? probe_first_cache : m->probe;
  const void *probed = is_small ? first_cache : m->context;
  const size_t runs = repeats_of(m->run, m->context), probes = repeats_of(probe, probed);
  const double scale = is_small ? m->bytes / PROBED_BYTES : 1;
  choose_prefetching(probe, probed, probes);
  const uint64_t steps = p ? peak_steps(p) : 0;
  const double start = seconds_of(CLOCK_MONOTONIC);
  while (r.count < MOST_ROUNDS
         && (r.count < LEAST_ROUNDS || seconds_of(CLOCK_MONOTONIC) - start < wanted.seconds)) {
    r.reading[r.count] = scale * time_calls(probe, probed, probes) / (double)probes;
    r.run[r.count] = time_calls(m->run, m->context, runs) / (double)runs;
    if (p) r.computing[r.count] = time_peak(p, steps) / ((double)steps * p->operations) * m->operations;
    r.count++;
  }
  return r;
}

// MARK: - Printing

static void print_json_text(const char *text) {
  putchar('"');
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') putchar('\\');
    if ((unsigned char)*text >= ' ') putchar(*text);
  }
  putchar('"');
}

// The lowest level of LATHE_ISA at which a kernel may run.
static const char *isa_of(uint32_t features) {
  size_t count;
  const lathe_isa_level *levels = lathe_isa_levels(&count);
  for (size_t i = 0; i < count; i++) {
    if ((features & ~levels[i].allowed) == 0) return levels[i].name;
  }
  return "none";
}

static void processor(char *name, size_t size) {
  snprintf(name, size, "unknown");
  FILE *file = fopen("/proc/cpuinfo", "r");
  if (!file) return;
  char line[256];
  while (fgets(line, sizeof line, file)) {
    char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) != 0 || !colon) continue;
    colon[strcspn(colon, "\n")] = 0;
    snprintf(name, size, "%s", colon + 1 + strspn(colon + 1, " "));
    break;
  }
  fclose(file);
}

static void print_machine(void) {
  char name[256], date[32];
  processor(name, sizeof name);
  const time_t seconds = time(NULL);
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));
  const char *isa = lathe_isa_best()->name;
  if (!wanted.json) {
    printf("%s, %s, features 0x%x, %s, one thread\n", name, isa, lathe_cpu_features(), date);
    printf("%-29s %-18s %4s  %-12s %13s %8s %8s  %s\n", "family", "kernel", "rows", "shape", "median ns", "GB/s",
           "Gop/s", "bound");
    return;
  }
  printf("{\"machine\":{\"cpu\":");
  print_json_text(name);
  printf(",\"isa\":\"%s\",\"features\":%u,\"date\":\"%s\",\"threads\":1,\"seconds\":%g}}\n", isa, lathe_cpu_features(),
         date, wanted.seconds);
}

// What a measurement came to.
typedef struct {
  size_t rounds;
  double median_ns, least_ns, gigabytes, gigaops;  // the last two a second
  const char *bound, *unit;
  double bound_value, percent;
} result;

static result result_of(const measurement *m, const peak *p, const rounds *r) {
  const double time = median(r->run, r->count);
  const double reading = median(r->reading, r->count), computing = median(r->computing, r->count);
  const bool computes = computing > reading;
  const char *reader = m->bytes <= FIRST_CACHE_BYTES ? "first cache" : "read probe";
  double shares[MOST_ROUNDS];
  for (size_t i = 0; i < r->count; i++) shares[i] = 100 * (computes ? r->computing : r->reading)[i] / r->run[i];
  return (result){
      .rounds = r->count, .median_ns = 1e9 * time / m->calls, .least_ns = 1e9 * least(r->run, r->count) / m->calls,
      .gigabytes = 1e-9 * m->bytes / time, .gigaops = 1e-9 * m->operations / time,
      .bound = computes ? p->name : reader, .unit = computes ? "Gop/s" : "GB/s",
      .bound_value = 1e-9 * (computes ? m->operations / computing : m->bytes / reading),
      .percent = median(shares, r->count)};
}

static void print_result(const measurement *m, const result *r) {
  if (!wanted.json) {
    printf("%-29s %-18s %4zu  %-12s %13.0f %8.2f %8.1f  %5.1f %% of %.1f %s %s\n", m->family, m->kernel, m->rows,
           m->shape, r->median_ns, r->gigabytes, r->gigaops, r->percent, r->bound_value, r->unit, r->bound);
  } else {
    printf("{\"family\":\"%s\",\"kernel\":\"%s\",\"isa\":\"%s\",\"shape\":\"%s\",\"rows\":%zu,", m->family, m->kernel,
           isa_of(m->features), m->shape, m->rows);
    printf("\"median_ns\":%.1f,\"min_ns\":%.1f,\"gb_per_s\":%.4f,\"gop_per_s\":%.4f,", r->median_ns, r->least_ns,
           r->gigabytes, r->gigaops);
    printf("\"bound\":\"%s\",\"bound_value\":%.4f,\"bound_unit\":\"%s\",\"percent\":%.2f,\"rounds\":%zu}\n", r->bound,
           r->bound_value, r->unit, r->percent, r->rounds);
  }
  fflush(stdout);
}

void measure(const measurement *m) {
  const peak *p = peak_of(m->arithmetic, m->arithmetic_features ? m->arithmetic_features : m->features);
  const rounds r = take_rounds(m, p);
  const result result = result_of(m, p, &r);
  print_result(m, &result);
  measured++;
}

// MARK: - Command line

static const char usage[] =
    "usage: kernels [--json] [--seconds S] [family [kernel [rows]]]\n"
    "Times every kernel that this machine runs, or those of families that begin so, of that name, for so many rows\n"
    "(1 to 512); - stands for any. --json: one object a line, the first of which describes the machine.\n"
    "--seconds: spent on a measurement, from five rounds to twenty-five.\n";

static int refuse(const char *what, const char *value) {
  fprintf(stderr, "kernels: %s `%s`.\n%s", what, value, usage);
  return 2;
}

static int parse(int count, char **arguments) {
  int place = 0;
  for (int i = 1; i < count; i++) {
    const char *value = arguments[i];
    char *end = NULL;
    if (strcmp(value, "--json") == 0) {
      wanted.json = true;
    } else if (strcmp(value, "--seconds") == 0 && i + 1 < count) {
      value = arguments[++i];
      wanted.seconds = strtod(value, &end);
      if (end == value || *end || !(wanted.seconds >= 0)) return refuse("--seconds wants a number, not", value);
    } else if (strncmp(value, "--", 2) == 0 || place == 3) {
      return refuse("there is no argument", value);
    } else if (place++, strcmp(value, "-") == 0) {
      continue;
    } else if (place == 1) {
      wanted.family = value;
    } else if (place == 2) {
      wanted.kernel = value;
    } else {
      const long rows = strtol(value, &end, 10);
      if (end == value || *end || rows < 1 || rows > MAXIMUM_ROWS) return refuse("rows are 1 to 512, not", value);
      wanted.rows = (size_t)rows;
    }
  }
  return 0;
}

int begin(int count, char **arguments) {
  const int refused = parse(count, arguments);
  if (!refused) print_machine();
  return refused;
}

int finish(void) {
  for (size_t i = 0; i < missing_count; i++) fprintf(stderr, "not run, for want of its instructions: %s\n", missing[i]);
  if (measured > 0) return 0;
  fprintf(stderr, "kernels: nothing that this machine runs matches.\n");
  return 1;
}
