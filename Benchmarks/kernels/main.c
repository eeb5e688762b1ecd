// Times every kernel of the tables against what bounds it: make bench-kernels.
#include "bench.h"
#include "families.h"

int main(int count, char **arguments) {
  const int refused = begin(count, arguments);
  if (refused) return refused;
  measure_linear();
  measure_expansion();
  measure_quantize();
  measure_vector();
  measure_attention();
  measure_embedding();
  return finish();
}
