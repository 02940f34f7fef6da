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
typedef float vf_unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE vf splat(float x) { return (vf){0} + x; }
INLINE vf select(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }

/* As in PyTorch, NaN stays NaN. */
INLINE vf relu(vf x) { return (vf)((vi)x & ~(x < 0.0f)); }
INLINE vf vmin(vf a, vf b) { return select(b < a, b, a); }
INLINE vf vmax(vf a, vf b) { return select(b > a, b, a); }

/* Lanes 0 .. count-1 are set. */
INLINE vi first_lanes(int count) {
  vi lane;
  for (int i = 0; i < LANES; i++) lane[i] = i;
  return lane < count;
}

INLINE float sum_lanes(vf v) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += v[i];
  return sum;
}

/* e^x to 2 ulp, 0 below -87, infinity above 88.7 (Cody and Waite's reduction, Taylor series). */
INLINE vf vexp(vf x) {
  const vf clamped = vmin(vmax(x, splat(-87.3f)), splat(88.8f));
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
  vf y = p * low * high;
  y = select(x < -87.3f, splat(0.0f), y);
  return select(x != x, x, y);
}

INLINE vf vsigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }
INLINE vf vtanh(vf x) {
  const vf y = 1.0f - 2.0f / (vexp(2.0f * x) + 1.0f);
  /* Near zero the difference cancels: there the series is exact to 1 ulp. */
  const vf s = x * x, series = x + x * s * (-1.0f / 3 + s * (2.0f / 15 - s * (17.0f / 315)));
  return select((x < 0.1f) & (x > -0.1f), series, y);
}

#endif
