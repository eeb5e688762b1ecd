// The families of kernels, one file each: what each measures, by bench.h.
#ifndef LATHE_BENCH_FAMILIES_H
#define LATHE_BENCH_FAMILIES_H

void measure_linear(void);
void measure_expansion(void);
void measure_quantize(void);
void measure_vector(void);
void measure_attention(void);
void measure_embedding(void);

#endif
