// The choice of a token among those that may be drawn, without ordering all of them.
//
// Candidates far below the best are many and weigh little, so they stay in one heap as long as they can; the near ones lie in
// buckets of magnitude, in order from bucket to bucket and in any order within. A running sum over a heap or a bucket mostly
// has the same bits whatever the order (add_unordered says when). Where it has not, and where a border must be found (of
// top-k, top-p, min-p, or the token drawn), the heap is put into buckets and the bucket sorted and summed one after another.
// So every sum is, to the bit, the one over all candidates in their order.
#pragma clang fp contract(off)
#ifdef __FAST_MATH__
#error "Lathe's results are defined by IEEE arithmetic: compile without -ffast-math."
#endif

#include "CKernels.h"

#include <string.h>

enum { MOST_BUCKETS = 256, CANDIDATES_PER_BUCKET = 16 };
// exp(−18) < 2⁻²⁵: added to a sum of at least 1 it rounds to nothing.
#define FARTHEST 18.0f
// What is farther away is rarely drawn.
#define MIDDLE 9.0f

// MARK: - Sorting keys

enum { FEW_KEYS = 32, DIGIT_BITS = 11, DIGITS = 3 };

static void insert(uint64_t *keys, size_t count) {
  for (size_t next = 1; next < count; next++) {
    const uint64_t key = keys[next];
    size_t place = next;
    for (; place > 0 && keys[place - 1] > key; place--) keys[place] = keys[place - 1];
    keys[place] = key;
  }
}

// Stable passes over the upper half. Digits that are the same in all keys need none.
void lathe_sort_keys(uint64_t *keys, uint64_t *other, size_t count) {
  if (count <= FEW_KEYS) return insert(keys, count);
  // Few keys take few bits, for a pass costs its table; those of one bucket differ in few.
  const unsigned bits = count > 1024 ? DIGIT_BITS : 8;
  uint64_t differing = 0;
  for (size_t i = 1; i < count; i++) differing |= keys[i] ^ keys[0];
  differing >>= 32;
  uint64_t *from = keys, *to = other;
  uint32_t starts[1 << DIGIT_BITS];
  while (differing != 0) {
    // From the lowest bit that differs on: what lies below is the same in all.
    const unsigned low = (unsigned)__builtin_ctzll(differing), shift = 32 + low;
    const uint64_t mask = (1u << bits) - 1;
    memset(starts, 0, (mask + 1) * sizeof *starts);
    for (size_t i = 0; i < count; i++) starts[from[i] >> shift & mask]++;
    for (uint32_t digit = 0, sum = 0; digit <= mask; digit++) {
      const uint32_t here = starts[digit];
      starts[digit] = sum;
      sum += here;
    }
    for (size_t i = 0; i < count; i++) to[starts[from[i] >> shift & mask]++] = from[i];
    uint64_t *swapped = from;
    from = to;
    to = swapped;
    differing &= ~(mask << low);
  }
  if (from != keys) memcpy(keys, from, count * sizeof *keys);
}

// MARK: - Parts

// Candidates that follow each other in the order, near or far.
typedef struct {
  const lathe_vector_kernel *vector;
  uint64_t *keys;       // [count], by bucket
  float *weights;       // of them
  uint64_t *spare;      // room for as many keys
  uint32_t *ends;       // of each bucket
  float *before;        // the sum before each bucket
  uint8_t *is_ordered;  // of each bucket
  size_t first;         // how many candidates come before
  size_t buckets, count;
  bool is_heap;         // nothing in order yet
  float sum_before, sum_after;
} part;

// Where the parts of the scratch begin, in bytes.
typedef struct {
  size_t keys, collected, row, tables, all;
} layout;
enum { TABLE_BYTES = MOST_BUCKETS * (4 + 4 + 1) };

static layout layout_of(size_t count) {
  const size_t padded = lathe_round_up(count, 16);
  layout l;
  l.keys = 0;
  // Once in buckets, the collected keys make room for the weights, and with the row after them for sorting.
  l.collected = l.keys + 8 * padded;
  l.row = l.collected + 8 * padded;
  l.tables = l.row + 4 * padded;
  l.all = l.tables + 2 * TABLE_BYTES;
  return l;
}

size_t lathe_choice_scratch_bytes(size_t count) { return layout_of(count).all; }
float *lathe_choice_row(void *scratch, size_t count) { return (float *)((char *)scratch + layout_of(count).row); }

static part part_of(const lathe_vector_kernel *vector, char *scratch, const layout *l, int number) {
  char *tables = scratch + l->tables + number * TABLE_BYTES;
  return (part){
      .vector = vector,
      .spare = (uint64_t *)(scratch + l->collected + (l->row - l->collected) / 2),
      .ends = (uint32_t *)tables,
      .before = (float *)(tables + 4 * MOST_BUCKETS),
      .is_ordered = (uint8_t *)(tables + 8 * MOST_BUCKETS),
  };
}

// MARK: - Buckets

static float magnitude_of(uint64_t key) {
  const uint32_t bits = (uint32_t)(key >> 32);
  float magnitude;
  memcpy(&magnitude, &bits, sizeof bits);
  return magnitude;
}

// From the magnitude to a bucket, ascending.
typedef struct {
  float least, scale, last;
} measure;

// Near candidates may all be very near (at a high temperature), and are few where they are not; of the far ones none is
// looked at for this.
static measure measure_of(const uint64_t *keys, size_t count, bool is_near, size_t buckets) {
  if (!is_near) return (measure){MIDDLE, (float)buckets / (FARTHEST - MIDDLE), (float)(buckets - 1)};
  uint64_t greatest = 0;
  for (size_t i = 0; i < count; i++) greatest = keys[i] > greatest ? keys[i] : greatest;
  return (measure){0, (float)buckets / magnitude_of(greatest), (float)(buckets - 1)};
}

// What is not a number (where all magnitudes are 0) goes into the last one.
static size_t bucket_of(uint64_t key, measure m) {
  const float place = (magnitude_of(key) - m.least) * m.scale;
  return (size_t)(int32_t)(place < m.last ? place : m.last);
}

static size_t begin_of(const part *p, size_t bucket) { return bucket == 0 ? 0 : p->ends[bucket - 1]; }

static void put_in_order(part *p, size_t bucket) {
  if (p->is_ordered[bucket]) return;
  p->is_ordered[bucket] = 1;
  const size_t begin = begin_of(p, bucket), count = p->ends[bucket] - begin;
  lathe_sort_keys(p->keys + begin, p->spare, count);
  p->vector->exp_ranks(p->keys + begin, count, p->weights + begin);
}

// Distributes the first `most` of these keys to p->keys, and whatever shares the last one's bucket; cuts that off.
// `numbers` is room for as many.
static void distribute(part *p, const uint64_t *from, size_t count, size_t most, uint16_t *numbers) {
  p->is_heap = false;
  p->buckets = count / CANDIDATES_PER_BUCKET;
  if (p->buckets < 1) p->buckets = 1;
  if (p->buckets > MOST_BUCKETS) p->buckets = MOST_BUCKETS;
  const measure m = measure_of(from, count, p->first == 0, p->buckets);
  memset(p->is_ordered, 0, p->buckets);
  memset(p->ends, 0, p->buckets * sizeof *p->ends);
  for (size_t i = 0; i < count; i++) numbers[i] = (uint16_t)bucket_of(from[i], m);
  for (size_t i = 0; i < count; i++) p->ends[numbers[i]]++;
  // Each bucket's begin, which ends up as its end.
  uint32_t sum = 0;
  size_t bucket = 0;
  for (; bucket < p->buckets && sum < most; bucket++) {
    const uint32_t here = p->ends[bucket];
    p->ends[bucket] = sum;
    sum += here;
  }
  p->buckets = bucket;
  p->count = sum;
  for (size_t i = 0; i < count; i++) {
    const size_t b = numbers[i];
    if (b < p->buckets) p->keys[p->ends[b]++] = from[i];
  }
  p->vector->exp_ranks(p->keys, p->count, p->weights);
  if (p->count > most) {
    put_in_order(p, p->buckets - 1);
    p->count = p->ends[p->buckets - 1] = (uint32_t)most;
  }
}

// The sum after a bucket.
static float sum_after(part *p, size_t bucket, float sum) {
  const size_t begin = begin_of(p, bucket), end = p->ends[bucket];
  if (begin == end) return sum;
  const float unordered = p->vector->add_unordered(sum, p->weights + begin, end - begin);
  if (unordered == unordered) return unordered;
  put_in_order(p, bucket);
  for (size_t i = begin; i < end; i++) sum += p->weights[i];
  return sum;
}

static void sum_buckets(part *p) {
  float sum = p->sum_before;
  for (size_t bucket = 0; bucket < p->buckets; bucket++) {
    p->before[bucket] = sum;
    sum = sum_after(p, bucket, sum);
  }
  p->sum_after = sum;
}

// Puts a heap into buckets; its sum stays what it was.
static void open_heap(part *p) {
  if (!p->is_heap) return;
  memcpy(p->spare, p->keys, p->count * sizeof *p->keys);
  distribute(p, p->spare, p->count, p->count, (uint16_t *)p->weights);
  sum_buckets(p);
}

// MARK: - Borders

// How many of the first candidates are left, and their sum.
typedef struct {
  size_t count;
  float sum;
} kept;

static bool reaches(float sum, float target, bool exceeds) { return exceeds ? sum > target : sum >= target; }

// Up to and including the first candidate at which the running sum reaches `target`, or exceeds it.
static kept until(part parts[2], float target, bool exceeds, kept all) {
  part *p = &parts[reaches(parts[0].sum_after, target, exceeds) ? 0 : 1];
  if (p->count == 0) return all;
  open_heap(p);
  size_t bucket = 0;
  while (bucket + 1 < p->buckets && !reaches(p->before[bucket + 1], target, exceeds)) bucket++;
  put_in_order(p, bucket);
  float sum = p->before[bucket];
  for (size_t i = begin_of(p, bucket); i < p->ends[bucket] && p->first + i < all.count; i++) {
    sum += p->weights[i];
    if (reaches(sum, target, exceeds)) return (kept){p->first + i + 1, sum};
  }
  return all;
}

static size_t first_below(const part *p, float min_p, size_t begin, size_t end) {
  while (begin < end && !(p->weights[begin] < min_p)) begin++;
  return begin;
}

// Those before the first one whose weight is below `min_p`.
static kept above(part parts[2], float min_p, kept all) {
  for (part *p = parts; p < parts + 2; p++) {
    if (p->count == 0 || first_below(p, min_p, 0, p->count) == p->count) continue;
    open_heap(p);
    size_t bucket = 0;
    while (first_below(p, min_p, begin_of(p, bucket), p->ends[bucket]) == p->ends[bucket]) bucket++;
    put_in_order(p, bucket);
    const size_t begin = begin_of(p, bucket), first = first_below(p, min_p, begin, p->ends[bucket]);
    if (p->first + first >= all.count) return all;
    float sum = p->before[bucket];
    for (size_t i = begin; i < first; i++) sum += p->weights[i];
    // Never none: the best one's weight is exp(0) = 1, which no min-p is above.
    return (kept){p->first + first, sum};
  }
  return all;
}

size_t lathe_choose(const lathe_vector_kernel *vector, const lathe_choice *choice, void *scratch) {
  const layout l = layout_of(choice->count);
  char *base = scratch;
  part parts[2] = {part_of(vector, base, &l, 0), part_of(vector, base, &l, 1)};
  part *near = &parts[0], *far = &parts[1];
  uint64_t *collected = (uint64_t *)(base + l.collected);
  const float floor = choice->best - FARTHEST * choice->temperature;
  far->keys = (uint64_t *)(base + l.keys);
  const lathe_candidate_counts counts = vector->candidates(
      choice->logits, choice->count, choice->best, floor, choice->temperature, MIDDLE, collected, far->keys);
  near->keys = far->keys + counts.far;
  near->weights = (float *)collected;
  distribute(near, collected, counts.near, choice->top_k, (uint16_t *)(base + l.row));
  sum_buckets(near);
  far->weights = near->weights + near->count;
  far->first = near->count;
  far->sum_before = far->sum_after = near->sum_after;
  if (counts.far > 0 && counts.near < choice->top_k) {
    far->count = counts.far;
    far->is_heap = true;
    vector->exp_ranks(far->keys, far->count, far->weights);
    if (counts.near + counts.far > choice->top_k) {
      memcpy(far->spare, far->keys, far->count * sizeof *far->keys);
      distribute(far, far->spare, counts.far, choice->top_k - counts.near, (uint16_t *)far->weights);
      sum_buckets(far);
    } else {
      far->sum_after = vector->add_unordered(far->sum_before, far->weights, far->count);
      if (far->sum_after != far->sum_after) open_heap(far);
    }
  }
  kept left = {far->first + far->count, far->sum_after};
  if (choice->top_p < 1) left = until(parts, choice->top_p * left.sum, false, left);
  if (choice->min_p > 0) left = above(parts, choice->min_p, left);
  const kept drawn = until(parts, choice->random * left.sum, true, left);
  const size_t place = drawn.count - 1;
  return (uint32_t)(place < far->first ? near->keys[place] : far->keys[place - far->first]);
}
