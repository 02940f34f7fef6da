/* For arm64 processors that compute in half precision; only with SPARSIFY_HALF, as embeddings move. */
#include "runtime.h"
#ifdef SPARSIFY_RUNS_HALVES
#include <arm_neon.h>
#include <math.h>
#include <string.h>
#if defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("fullfp16"))), apply_to = function)
#else
#pragma GCC target("+fp16")
#endif
#define LANES 4
#define RUN sparsify_run_half
#define HALF_ARITHMETIC
#include "engine.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif

int sparsify_has_halves(void) {
#if defined(__APPLE__)
  int has = 0;
  size_t size = sizeof has;
  return !sysctlbyname("hw.optional.neon_fp16", &has, &size, NULL, 0) && has;
#elif defined(__linux__)
  return getauxval(AT_HWCAP) >> 10 & 1; /* HWCAP_ASIMDHP */
#else
  return 0;
#endif
}
#endif
typedef int sparsify_no_halves; /* a file is never empty */
