#if (defined(__x86_64__) || defined(__i386__)) && !defined(SPARSIFY_NO_AVX2)
#include <math.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define LANES 8
#define RUN sparsify_run_avx2
#include "engine.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int sparsify_no_avx2; /* a file is never empty */
#endif
