/* Vectors of LANES floats and the few operations that the engine needs.
 *
 * GNU vector extensions only: another instruction set needs another LANES and target, nothing else.
 */
#ifndef SPARSIFY_VECTOR_H
#define SPARSIFY_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef LANES
#error "define LANES before including vector.h"
#endif

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint16_t vh_unaligned __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef float vf_unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void store(float *p, vf v) { *(vf_unaligned *)p = v; }
/* Minus, as 0 + x is something to compute: it is not x where x is -0. */
INLINE vf splat(float x) { return x - (vf){0}; }
INLINE vf vselect(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }

/* Numbers to multiply vectors with: NEON takes one from a vector, others broadcast it from memory. GCC
 * would load for arm64 as early as it can and then has too few registers: LOAD_NO_EARLIER keeps it from
 * that, and from copying a factor into all lanes. What is `held` is in a register: loads go in pairs. */
#if defined(__aarch64__)
#define LOAD_NO_EARLIER(factors) __asm__ volatile("" : "+w"(factors) : : "memory")
typedef vf factors;
INLINE factors factors_at(const float *p) { return load(p); }
INLINE const void *held(const void *p) {
  __asm__("" : "+r"(p));
  return p;
}
#else
#define LOAD_NO_EARLIER(factors) ((void)0)
typedef const float *factors;
INLINE factors factors_at(const float *p) { return p; }
INLINE const void *held(const void *p) { return p; }
#endif

/* As in PyTorch, NaN stays NaN. */
INLINE vf relu(vf x) { return (vf)((vi)x & ~(x < 0.0f)); }
INLINE vf vmin(vf a, vf b) { return vselect((b < a) | (b != b), b, a); }
INLINE vf vmax(vf a, vf b) { return vselect((b > a) | (b != b), b, a); }

#if LANES == 4
#define ZIPPED_LOW 0, 4, 1, 5
#define ZIPPED_HIGH 2, 6, 3, 7
#elif LANES == 8
#define ZIPPED_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define ZIPPED_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif LANES == 16
#define ZIPPED_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIPPED_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

/* Lane j of row i becomes lane i of row j: each round moves one bit of i and of j. */
INLINE void transpose(vf *rows) {
  UNROLL for (int size = 1; size < LANES; size *= 2) {
    vf zipped[LANES];
    UNROLL for (int i = 0; i < LANES / 2; i++) {
      zipped[2 * i] = SHUFFLE(rows[i], rows[i + LANES / 2], ZIPPED_LOW);
      zipped[2 * i + 1] = SHUFFLE(rows[i], rows[i + LANES / 2], ZIPPED_HIGH);
    }
    UNROLL for (int i = 0; i < LANES; i++) rows[i] = zipped[i];
  }
}

INLINE float sum_lanes(vf v) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += v[i];
  return sum;
}

/* e^x to 2 ulp, 0 below -87, infinity above 88.7 (Cody and Waite's reduction, Taylor series). */
INLINE vf vexp(vf x) {
  const vi small = x < -87.3f, large = x > 88.8f; /* NaN is neither, and stays what it is */
  const vf clamped = vselect(small, splat(0.0f), vselect(large, splat(88.8f), x));
  const vf scaled = clamped * 1.44269504f;
  const vf rounding = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
  const vf n = (scaled + rounding) - rounding;
  vf r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = splat(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  /* 2^n in two factors, as n may be 128. */
  const vi whole = __builtin_convertvector(n, vi), half = whole >> 1;
  const vf low = (vf)((half + 127) << 23), high = (vf)((whole - half + 127) << 23);
  return (vf)((vi)(p * low * high) & ~small);
}

/* log x to 1 ulp, also below the smallest normal number; as logf at 0, infinity and below zero
 * (the polynomial of Cephes, https://netlib.org/cephes). */
INLINE vf vlog(vf x) {
  const vi tiny = x < 1.17549435e-38f;
  const vf scaled = vselect(tiny, x * 8388608.0f, x);
  const vi usual = (scaled > 0.0f) & (scaled <= 3.40282347e38f);
  /* x = 2^n (1 + m) with 1 + m from sqrt(1/2) to sqrt(2), whose bits are root and more. */
  const int32_t one = 0x3f800000, root = 0x3f3504f3;
  const vi bits = (vi)vselect(usual, scaled, splat(1.0f)) + (one - root);
  const vf n = __builtin_convertvector((bits >> 23) - 127 - (tiny & 23), vf);
  const vf m = (vf)((bits & 0x7fffff) + root) - 1.0f;
  const vf square = m * m;
  vf p = splat(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const vf small = p * m * square - n * 2.12194440e-4f - 0.5f * square;
  const vf y = m + small + n * 0.693359375f;
  const vf special = vselect(x == 0.0f, splat(-__builtin_inff()), splat(__builtin_nanf("")));
  return vselect(usual, y, vselect(x > 0.0f, x, special));
}

INLINE vf vsigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }
INLINE vf vtanh(vf x) {
  const vf y = 1.0f - 2.0f / (vexp(2.0f * x) + 1.0f);
  /* Near zero the difference cancels: there the series is exact to 1 ulp. */
  const vf s = x * x, series = x + x * s * (-1.0f / 3 + s * (2.0f / 15 - s * (17.0f / 315)));
  return vselect((x < 0.1f) & (x > -0.1f), series, y);
}

/* erf x to 2e-7 (Abramowitz and Stegun, 7.1.26). */
INLINE vf verf(vf x) {
  const vi sign = (vi)x & INT32_MIN;
  const vf size = (vf)((vi)x ^ sign), t = 1.0f / (1.0f + 0.3275911f * size);
  vf p = splat(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  return (vf)((vi)(1.0f - p * t * vexp(-size * size)) ^ sign);
}

#endif
