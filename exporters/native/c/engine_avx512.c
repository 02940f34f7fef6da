#if (defined(__x86_64__) || defined(__i386__)) && !defined(SPARSIFY_NO_AVX512)
#include <math.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#endif
#define LANES 16
#define RUN sparsify_run_avx512
#include "engine.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int sparsify_no_avx512; /* a file is never empty */
#endif
