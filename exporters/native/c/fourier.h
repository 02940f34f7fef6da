/* Fourier transforms of LANES signals at once, of any length that is made of 2, 4 and 5. */
#ifndef SPARSIFY_FOURIER_H
#define SPARSIFY_FOURIER_H

#include "vector.h"

struct complex {
  vf re, im;
};

INLINE struct complex get_complex(const float *wave, int i) {
  return (struct complex){load(wave + 2 * i * LANES), load(wave + (2 * i + 1) * LANES)};
}

INLINE void put_complex(float *wave, int i, struct complex z) {
  store(wave + 2 * i * LANES, z.re);
  store(wave + (2 * i + 1) * LANES, z.im);
}

INLINE struct complex plus(struct complex a, struct complex b) {
  return (struct complex){a.re + b.re, a.im + b.im};
}

INLINE struct complex minus(struct complex a, struct complex b) {
  return (struct complex){a.re - b.re, a.im - b.im};
}

/* -i z */
INLINE struct complex turned(struct complex z) { return (struct complex){z.im, -z.re}; }

INLINE struct complex scaled(struct complex z, float factor) {
  return (struct complex){z.re * factor, z.im * factor};
}

INLINE struct complex times(struct complex z, const float *w) {
  return (struct complex){z.re * w[0] - z.im * w[1], z.re * w[1] + z.im * w[0]};
}

INLINE void butterfly2(struct complex *z) {
  const struct complex difference = minus(z[0], z[1]);
  z[0] = plus(z[0], z[1]);
  z[1] = difference;
}

INLINE void butterfly4(struct complex *z) {
  const struct complex even = plus(z[0], z[2]), odd = plus(z[1], z[3]);
  const struct complex across = minus(z[0], z[2]), along = turned(minus(z[1], z[3]));
  z[0] = plus(even, odd);
  z[1] = plus(across, along);
  z[2] = minus(even, odd);
  z[3] = minus(across, along);
}

INLINE void butterfly5(struct complex *z) {
  const float cos1 = 0.309016994f, cos2 = -0.809016994f, sin1 = 0.951056516f, sin2 = 0.587785252f;
  const struct complex outer = plus(z[1], z[4]), inner = plus(z[2], z[3]);
  const struct complex outwards = turned(minus(z[1], z[4])), inwards = turned(minus(z[2], z[3]));
  const struct complex a = plus(z[0], plus(scaled(outer, cos1), scaled(inner, cos2)));
  const struct complex b = plus(z[0], plus(scaled(outer, cos2), scaled(inner, cos1)));
  const struct complex c = plus(scaled(outwards, sin1), scaled(inwards, sin2));
  const struct complex d = minus(scaled(outwards, sin2), scaled(inwards, sin1));
  z[0] = plus(z[0], plus(outer, inner));
  z[1] = plus(a, c);
  z[2] = plus(b, d);
  z[3] = minus(b, d);
  z[4] = minus(a, c);
}

/* One stage of a Fourier transform in place, decimated in frequency. */
INLINE void transform_stage(float *wave, int points, int size, const float *twiddles, int radix,
                            void (*butterfly)(struct complex *)) {
  const int step = size / radix;
  for (int block = 0; block < points; block += size) {
    const float *w = twiddles;
    for (int i = block; i < block + step; i++) {
      struct complex z[5];
      UNROLL for (int k = 0; k < radix; k++) z[k] = get_complex(wave, i + k * step);
      butterfly(z);
      put_complex(wave, i, z[0]);
      UNROLL for (int k = 1; k < radix; k++, w += 2)
        put_complex(wave, i + k * step, step > 1 ? times(z[k], w) : z[k]);
    }
  }
}

/* A Fourier transform in place. Its results are out of order, which costs nothing: each is a whole
 * vector, and whoever reads it looks up where it is. */
static void transform(float *wave, int points, int stages, const int32_t *radices,
                      const float *twiddles) {
  for (int stage = 0, size = points; stage < stages; stage++) {
    const int radix = radices[stage];
    if (radix == 2) transform_stage(wave, points, size, twiddles, 2, butterfly2);
    if (radix == 4) transform_stage(wave, points, size, twiddles, 4, butterfly4);
    if (radix == 5) transform_stage(wave, points, size, twiddles, 5, butterfly5);
    size /= radix;
    twiddles += 2 * (radix - 1) * size;
  }
}

#endif
