/* Samples to log-mel features, LANES frames at once: each lane of a vector belongs to one frame.
 *
 * The numbers are those of sparsify.audio.features.Filterbank, whose windows, filters and constants
 * lie in a section of the blob. Its positions count words from its beginning.
 *
 * Both compute in float32. A transform in it rounds every frequency by about 1e-7 of the loudest
 * one's amplitude, so a filter that holds far less energy than its frame differs most: by a few
 * thousandths at 100 dB below, by less than 1e-5 in the mean over all features of speech.
 */
#ifndef SPARSIFY_FRONT_END_H
#define SPARSIFY_FRONT_END_H

#include "fourier.h"
#include "vector.h"

#include <math.h>

enum { FRONT_END_MOST_LANES = 16 };

struct front_end {
  int32_t length, shift;  /* of a frame, in samples */
  int32_t first;          /* sample at which the first frame begins; negative before the audio */
  int32_t extra;          /* n samples give (n + extra) / shift frames */
  int32_t mirrored;       /* whether the audio goes on mirrored beyond its ends, or as zeros */
  int32_t centred;        /* whether the mean of a frame is subtracted from it */
  int32_t levelled;       /* whether all audio is brought to mean 0 and deviation 1, and pre-emphasised
                             as a whole; then the power of each frequency is kept within the bounds of
                             the energies, too */
  int32_t points;         /* complex numbers that are transformed: half as many as real ones */
  int32_t stages, bins;
  float preemphasis;
  float floor, ceiling;   /* of the energies */
  float added;            /* to them, before their logarithm is taken */
  float unit;             /* of the features, times the natural logarithm of an energy */
  float range;            /* of the features, below the largest one */
  int32_t window_at;      /* float[length] */
  int32_t radices_at;     /* int32[stages] */
  int32_t twiddles_at;    /* for each stage float[size / radix][radix - 1][2] */
  int32_t halves_at;      /* float[points / 2 + 1][2]: what makes two real transforms of one complex */
  int32_t places_at;      /* int32[points + 1]: the vector that holds the power of a frequency */
  int32_t spans_at;       /* int32[bins][2]: first frequency and frequencies of a filter */
  int32_t weights_at;     /* float: the filters, one after the other */
};

/* Frames that `count` samples give; 0 if they are shorter than one. */
static inline int front_end_frames(const int32_t *section, int count) {
  const struct front_end *f = (const struct front_end *)section;
  return count < f->length ? 0 : (int)(((int64_t)count + f->extra) / f->shift);
}

/* Floats of a copied frame, read in whole vectors by any instruction set. */
INLINE size_t copied_frame(const struct front_end *f) {
  return ((size_t)f->length + FRONT_END_MOST_LANES - 1) / FRONT_END_MOST_LANES *
         FRONT_END_MOST_LANES;
}

/* Floats that front_end_features needs besides, for any number of samples. */
static inline size_t front_end_scratch(const int32_t *section, int count) {
  const struct front_end *f = (const struct front_end *)section;
  (void)count;
  return FRONT_END_MOST_LANES * (2 * (size_t)f->points + copied_frame(f));
}

static float sample_at(const struct front_end *f, const float *samples, int64_t count, int64_t i) {
  if (i >= 0 && i < count) return samples[i];
  if (!f->mirrored) return 0.0f;
  return samples[i < 0 ? -1 - i : 2 * count - 1 - i];
}

/* What brings audio to mean 0 and deviation 1. */
struct level {
  double mean, factor;
};

/* The mean of samples, or of their squared differences to one; in four parts that do not wait. */
static double mean_of(const float *samples, int count, const double *centre) {
  double part[4] = {0, 0, 0, 0};
  for (int i = 0; i < count; i++) {
    const double x = centre ? samples[i] - *centre : samples[i];
    part[i % 4] += centre ? x * x : x;
  }
  return (part[0] + part[1] + part[2] + part[3]) / count;
}

static struct level level_of(const struct front_end *f, const float *samples, int count) {
  struct level level = {0, 1};
  if (!f->levelled) return level;
  level.mean = mean_of(samples, count, NULL);
  level.factor = 1 / (sqrt(mean_of(samples, count, &level.mean)) + f->floor);
  return level;
}

/* A frame of levelled audio, pre-emphasised; before the first sample is taken to be the second one. */
static void copy_levelled(const struct front_end *f, const struct level *level, const float *samples,
                          int64_t count, int64_t start, float *copy) {
  for (int i = 0; i < f->length; i++) {
    const int64_t n = start + i;
    copy[i] = 0.0f;
    if (n < 0 || n >= count) continue;
    const float x = (float)((samples[n] - level->mean) * level->factor);
    const float previous = (float)((samples[n ? n - 1 : 1] - level->mean) * level->factor);
    copy[i] = x - f->preemphasis * previous;
  }
}

/* Where each lane's frame lies. Those near the ends are copied, as whole vectors are read; lanes
 * beyond the last frame repeat it. */
static void locate_frames(const struct front_end *f, const struct level *level, const float *samples,
                          int64_t count, int begin, int frames, float *copies, const float **lanes) {
  for (int lane = 0; lane < LANES; lane++) {
    if (begin + lane >= frames) {
      lanes[lane] = lanes[lane - 1];
      continue;
    }
    const int64_t start = (int64_t)(begin + lane) * f->shift + f->first;
    if (!f->levelled && start >= 0 && start + f->length + LANES - 1 <= count) {
      lanes[lane] = samples + start;
      continue;
    }
    float *copy = copies + (size_t)lane * copied_frame(f);
    if (f->levelled) copy_levelled(f, level, samples, count, start, copy);
    else
      for (int i = 0; i < f->length; i++) copy[i] = sample_at(f, samples, count, start + i);
    lanes[lane] = copy;
  }
}

/* Transposes the frames, one sample of all lanes after the other, and returns their sums: of blocks
 * first, then of these with Kahan's compensation, so that an offset leaves no more than its last
 * bit. */
static vf transpose_frames(const struct front_end *f, const float *const *lanes, float *wave) {
  vf sum = splat(0.0f), excess = splat(0.0f);
  for (int begin = 0; begin < f->length; begin += LANES) {
    const int used = f->length - begin < LANES ? f->length - begin : LANES;
    vf rows[LANES], block = splat(0.0f);
    UNROLL for (int lane = 0; lane < LANES; lane++) rows[lane] = load(lanes[lane] + begin);
    transpose(rows);
    for (int i = 0; i < used; i++) {
      store(wave + (begin + i) * LANES, rows[i]);
      block += rows[i];
    }
    const vf term = block - excess, total = sum + term;
    excess = (total - sum) - term;
    sum = total;
  }
  return sum;
}

static void window_frames(const struct front_end *f, const float *window, vf sum, float *wave) {
  const vf mean = f->centred ? sum / (float)f->length : splat(0.0f);
  const float preemphasis = f->levelled ? 0.0f : f->preemphasis;
  vf previous = load(wave) - mean;
  for (int i = 0; i < f->length; i++) {
    const vf x = load(wave + i * LANES) - mean;
    store(wave + i * LANES, (x - preemphasis * previous) * window[i]);
    previous = x;
  }
  for (int i = f->length; i < 2 * f->points; i++) store(wave + i * LANES, splat(0.0f));
}

INLINE vf power(struct complex z) { return z.re * z.re + z.im * z.im; }

/* Even samples were the real parts, odd ones the imaginary parts: separates their transforms E and
 * O and leaves 4 |E + w O|^2, the power spectrum of the real frame. */
static void power_spectrum(const struct front_end *f, const int32_t *section, float *wave) {
  const int32_t *places = section + f->places_at;
  const float *halves = (const float *)(section + f->halves_at);
  const struct complex ends = get_complex(wave, 0);
  const vf lowest = 2.0f * (ends.re + ends.im), highest = 2.0f * (ends.re - ends.im);
  put_complex(wave, 0, (struct complex){lowest * lowest, highest * highest});
  for (int k = 1; k <= f->points / 2; k++) {
    float *low = wave + places[k] * LANES, *high = wave + places[f->points - k] * LANES;
    const struct complex a = get_complex(low, 0), b = get_complex(high, 0);
    const struct complex conjugate = {b.re, -b.im};
    const struct complex even = plus(a, conjugate);
    const struct complex odd = times(turned(minus(a, conjugate)), halves + 2 * k);
    store(low, power(plus(even, odd)));
    store(high, power(minus(even, odd)));
  }
}

/* Keeps four times the power of each frequency within the bounds of the energies. */
static void bound_powers(const struct front_end *f, const int32_t *section, float *wave) {
  const int32_t *places = section + f->places_at;
  const vf least = splat(4 * f->floor), most = splat(4 * f->ceiling);
  for (int k = 0; k <= f->points; k++) {
    float *power_at = wave + places[k] * LANES;
    store(power_at, vmin(vmax(load(power_at), least), most));
  }
}

/* The logarithms of the filters' energies, for `frames` lanes; returns the largest or, if `loudest`
 * is, that. */
static vf log_energies(const struct front_end *f, const int32_t *section, const float *wave,
                       float *feats, int frames, vf loudest) {
  const int32_t *places = section + f->places_at, *spans = section + f->spans_at;
  const float *weights = (const float *)(section + f->weights_at);
  for (int begin = 0; begin < f->bins; begin += LANES) {
    const int bins = f->bins - begin < LANES ? f->bins - begin : LANES;
    vf rows[LANES];
    for (int i = 0; i < bins; i++, spans += 2) {
      vf energy = splat(0.0f);
      for (int k = spans[0]; k < spans[0] + spans[1]; k++)
        energy += load(wave + places[k] * LANES) * *weights++;
      energy = vmin(vmax(energy, splat(f->floor)), splat(f->ceiling));
      rows[i] = vlog(energy + f->added) * f->unit;
      loudest = vmax(loudest, rows[i]);
    }
    for (int i = bins; i < LANES; i++) rows[i] = splat(0.0f);
    transpose(rows);
    for (int lane = 0; lane < frames; lane++)
      memcpy(feats + (size_t)lane * (size_t)f->bins + begin, &rows[lane],
             sizeof(float) * (size_t)bins);
  }
  return loudest;
}

/* Raises up to LANES columns of features to a least value, and subtracts their means. */
static void subtract_means(float *feats, int frames, size_t stride, int columns, float least) {
  const size_t bytes = sizeof(float) * (size_t)columns;
  vf sum = splat(0.0f), excess = splat(0.0f), x = splat(0.0f);
  for (int t = 0; t < frames; t++) {
    memcpy(&x, feats + (size_t)t * stride, bytes);
    const vf term = vmax(x, splat(least)) - excess, total = sum + term;
    excess = (total - sum) - term;
    sum = total;
  }
  const vf mean = sum / (float)frames;
  for (int t = 0; t < frames; t++) {
    memcpy(&x, feats + (size_t)t * stride, bytes);
    x = vmax(x, splat(least)) - mean;
    memcpy(feats + (size_t)t * stride, &x, bytes);
  }
}

/* Features (front_end_frames × bins) of samples in [-1, 1], their means over time subtracted. */
static inline void front_end_features(const int32_t *section, const float *samples, int count,
                                      float *feats, float *scratch) {
  const struct front_end *f = (const struct front_end *)section;
  const int frames = front_end_frames(section, count);
  const size_t bins = (size_t)f->bins;
  float *wave = scratch, *copies = scratch + 2 * (size_t)f->points * LANES;
  vf loudest = splat(-__builtin_inff());
  const struct level level = level_of(f, samples, count);
  for (int begin = 0; begin < frames; begin += LANES) {
    const float *lanes[LANES];
    locate_frames(f, &level, samples, count, begin, frames, copies, lanes);
    const vf sum = transpose_frames(f, lanes, wave);
    window_frames(f, (const float *)(section + f->window_at), sum, wave);
    transform(wave, f->points, f->stages, section + f->radices_at,
              (const float *)(section + f->twiddles_at));
    power_spectrum(f, section, wave);
    if (f->levelled) bound_powers(f, section, wave);
    loudest = log_energies(f, section, wave, feats + (size_t)begin * bins,
                           frames - begin < LANES ? frames - begin : LANES, loudest);
  }
  float largest = loudest[0];
  for (int lane = 1; lane < LANES; lane++)
    if (loudest[lane] > largest) largest = loudest[lane];
  for (int begin = 0; begin < f->bins; begin += LANES) {
    const int columns = f->bins - begin < LANES ? f->bins - begin : LANES;
    /* The usual case with a constant number of bytes, for which compilers need no memcpy. */
    if (columns == LANES)
      subtract_means(feats + begin, frames, bins, LANES, largest - f->range);
    else
      subtract_means(feats + begin, frames, bins, columns, largest - f->range);
  }
}

#endif
