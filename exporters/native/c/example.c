/* Prints the embedding of a WAV, one value a line, or the cosine of those of two; with --repeat N how
 * long the embedding of one takes, the median of N times.
 *
 * The WAV holds PCM of 8, 16, 24 or 32 bits or floats of 32, at the sample rate of the model. Channels
 * are averaged, and samples beyond full scale brought back by dividing by the peak.
 */
#include "model.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  BAD_INPUT = 2,
  PCM = 1,
  FLOATS = 3,
  EXTENSIBLE = 0xfffe,
  MOST_CHANNELS = 1024,
  MOST_SAMPLES = 1 << 30,
  MOST_REPEATS = 100000,
  BUFFER = 1 << 16
};

/* Writers to pipes leave such sizes: unknown. */
static const uint32_t UNKNOWN_SIZE = 0x7fff0000;

/* What a WAV says of its samples, and those that were read. */
struct recording {
  unsigned format, channels, bits;
  uint32_t rate;
  float *samples;
  size_t count;
};

static uint32_t number(const unsigned char *bytes, int count) {
  uint32_t value = 0;
  for (int i = 0; i < count; i++) value |= (uint32_t)bytes[i] << (8 * i);
  return value;
}

/* Also of what cannot seek, such as a pipe. */
static int skip(FILE *file, uint64_t count) {
  unsigned char buffer[4096];
  while (count > 0) {
    const size_t wanted = count < sizeof buffer ? (size_t)count : sizeof buffer;
    if (fread(buffer, 1, wanted, file) != wanted) return 0;
    count -= wanted;
  }
  return 1;
}

/* Reads the chunk that describes the samples. Returns NULL, or what is wrong. */
static const char *read_format(FILE *file, uint32_t size, struct recording *r) {
  unsigned char bytes[40] = {0};
  const size_t used = size < sizeof bytes ? size : sizeof bytes;
  if (size < 16 || fread(bytes, 1, used, file) != used ||
      !skip(file, (uint64_t)(size - used) + size % 2))
    return "its header is damaged";
  r->format = number(bytes, 2);
  if (r->format == EXTENSIBLE) r->format = number(bytes + 24, 2);
  r->channels = number(bytes + 2, 2);
  r->rate = number(bytes + 4, 4);
  r->bits = number(bytes + 14, 2);
  const int whole = r->bits == 8 || r->bits == 16 || r->bits == 24 || r->bits == 32;
  const int pcm = r->format == PCM && whole;
  if (!pcm && !(r->format == FLOATS && r->bits == 32))
    return "it holds neither PCM of 8, 16, 24 or 32 bits nor floats of 32 bits";
  if (r->channels < 1 || r->channels > MOST_CHANNELS) return "its number of channels is impossible";
  if (number(bytes + 12, 2) != r->channels * r->bits / 8) return "its header is damaged";
  return NULL;
}

static float sample(const struct recording *r, const unsigned char *bytes) {
  if (r->format == PCM && r->bits == 8) return ((float)bytes[0] - 128.0f) / 128.0f;
  if (r->format == PCM)
    return (float)(int32_t)(number(bytes, (int)r->bits / 8) << (32 - r->bits)) / 2147483648.0f;
  const uint32_t word = number(bytes, 4);
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

/* The mean of the channels. */
static float frame(const struct recording *r, const unsigned char *bytes) {
  float sum = 0;
  for (unsigned channel = 0; channel < r->channels; channel++)
    sum += sample(r, bytes + channel * (r->bits / 8));
  return sum / (float)r->channels;
}

/* Makes room for more samples, twice as much each time it does not suffice. */
static int reserve(struct recording *r, size_t *room, size_t more) {
  if (r->count + more <= *room) return 1;
  const size_t wanted = 2 * *room + more;
  float *samples = realloc(r->samples, wanted * sizeof *samples);
  if (!samples) return 0;
  r->samples = samples;
  *room = wanted;
  return 1;
}

/* Reads samples up to the announced end, or to that of the file: memory is only taken for what is
 * there. Returns NULL, or what is wrong. */
static const char *read_samples(FILE *file, uint32_t size, struct recording *r) {
  unsigned char buffer[BUFFER];
  const size_t width = r->channels * (r->bits / 8);
  const int known = size < UNKNOWN_SIZE;
  const size_t announced = size / width;
  size_t room = 0;
  while (!known || r->count < announced) {
    size_t wanted = sizeof buffer / width;
    if (known && announced - r->count < wanted) wanted = announced - r->count;
    const size_t got = fread(buffer, width, wanted, file);
    if (r->count + got > MOST_SAMPLES) return "it is too long: cut it into utterances";
    if (!reserve(r, &room, got)) return "there is not enough memory";
    for (size_t i = 0; i < got; i++) r->samples[r->count++] = frame(r, buffer + i * width);
    if (got < wanted) break;
  }
  if (ferror(file)) return "it cannot be read to its end";
  if (known && (double)r->count < 0.98 * (double)announced) return "it is truncated";
  return r->count ? NULL : "it has no samples";
}

static const char *read_wav(FILE *file, struct recording *r) {
  unsigned char bytes[12];
  if (fread(bytes, 1, 12, file) != 12 || memcmp(bytes, "RIFF", 4) || memcmp(bytes + 8, "WAVE", 4))
    return "it is no WAV";
  while (fread(bytes, 1, 8, file) == 8) {
    const uint32_t size = number(bytes + 4, 4);
    if (!memcmp(bytes, "fmt ", 4)) {
      const char *wrong = read_format(file, size, r);
      if (wrong) return wrong;
    } else if (!memcmp(bytes, "data", 4)) {
      return r->channels ? read_samples(file, size, r) : "its header is damaged";
    } else if (!skip(file, (uint64_t)size + size % 2)) {
      break;
    }
  }
  return "it has no samples";
}

/* Divides by the peak if that exceeds full scale. Returns whether all samples are numbers. */
static int bring_to_scale(struct recording *r) {
  float peak = 1;
  for (size_t i = 0; i < r->count; i++) {
    if (!isfinite(r->samples[i])) return 0;
    peak = fmaxf(peak, fabsf(r->samples[i]));
  }
  for (size_t i = 0; i < r->count; i++) r->samples[i] /= peak;
  return 1;
}

static int complain(const char *path, const char *reason) {
  fprintf(stderr, "cannot embed %s: %s\n", path, reason);
  return 0;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  const double first = *(const double *)a, second = *(const double *)b;
  return (first > second) - (first < second);
}

/* Embeds again and again, and prints how long that takes. Returns an error of the model. */
static int measure(const struct recording *r, void *workspace, size_t bytes, int repeats,
                   float *embedding) {
  static double seconds[MOST_REPEATS];
  for (int i = 0; i < repeats; i++) {
    const double begin = now();
    const int error = sparsify_embed_audio(r->samples, (int)r->count, workspace, bytes, embedding);
    if (error) return error;
    seconds[i] = now() - begin;
  }
  qsort(seconds, (size_t)repeats, sizeof *seconds, ascending);
  const double median = seconds[repeats / 2], audio = (double)r->count / r->rate;
  printf("%s: %.3f ms for %.2f s of audio, real-time factor %.5f (median of %d)\n",
         sparsify_instructions(), 1e3 * median, audio, median / audio, repeats);
  return 0;
}

static int embed_samples(const char *path, const struct recording *r, int repeats,
                         float *embedding) {
  if (r->rate != (uint32_t)sparsify_sample_rate()) {
    fprintf(stderr, "cannot embed %s: it is at %lu Hz, and the model at %d Hz: resample it\n", path,
            (unsigned long)r->rate, sparsify_sample_rate());
    return 0;
  }
  const int frames = sparsify_frames((int)r->count);
  if (frames < 1) return complain(path, sparsify_error(SPARSIFY_ERROR_TOO_SHORT));
  const size_t bytes = (sparsify_workspace_bytes(frames) + 63) / 64 * 64;
  void *workspace = bytes ? aligned_alloc(64, bytes) : NULL;
  if (!workspace) return complain(path, "there is not enough memory");
  const int error =
      repeats ? measure(r, workspace, bytes, repeats, embedding)
              : sparsify_embed_audio(r->samples, (int)r->count, workspace, bytes, embedding);
  free(workspace);
  return error ? complain(path, sparsify_error(error)) : 1;
}

/* Returns whether it worked; if not, it has said why. */
static int embed_file(const char *path, int repeats, float *embedding) {
  struct recording r = {0};
  FILE *file = fopen(path, "rb");
  if (!file) return complain(path, "it cannot be opened");
  const char *wrong = read_wav(file, &r);
  fclose(file);
  if (!wrong && !bring_to_scale(&r)) wrong = "it has samples that are not finite";
  const int embedded = wrong ? complain(path, wrong) : embed_samples(path, &r, repeats, embedding);
  free(r.samples);
  return embedded;
}

static double cosine(const float *a, const float *b, int count) {
  double product = 0, first = 0, second = 0;
  for (int i = 0; i < count; i++) {
    product += (double)a[i] * b[i];
    first += (double)a[i] * a[i];
    second += (double)b[i] * b[i];
  }
  return product / sqrt(first * second);
}

static int run(int files, char **paths, int repeats, float *embeddings) {
  const int dim = sparsify_embedding_dim();
  for (int i = 0; i < files; i++)
    if (!embed_file(paths[i], repeats, embeddings + (size_t)i * (size_t)dim)) return BAD_INPUT;
  if (files == 2)
    printf("%.6f\n", cosine(embeddings, embeddings + dim, dim));
  else if (!repeats)
    for (int i = 0; i < dim; i++) printf("%.9g\n", embeddings[i]);
  return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A whole number up to MOST_REPEATS, or 0. */
static int repeats_in(const char *text) {
  char *end;
  const long value = strtol(text, &end, 10);
  return *end || value < 1 || value > MOST_REPEATS ? 0 : (int)value;
}

int main(int argc, char **argv) {
  const int timed = argc > 1 && !strcmp(argv[1], "--repeat");
  const int repeats = timed && argc > 2 ? repeats_in(argv[2]) : 0, first = timed ? 3 : 1, files = argc - first;
  if (files < 1 || files > 2 || (timed && (!repeats || files > 1))) {
    fprintf(stderr, "usage: %s FILE.wav [FILE2.wav]\n       %s --repeat 1..%d FILE.wav\n",
            argc ? argv[0] : "example", argc ? argv[0] : "example", MOST_REPEATS);
    return BAD_INPUT;
  }
  float *embeddings = malloc(2 * (size_t)sparsify_embedding_dim() * sizeof *embeddings);
  const int status = embeddings ? run(files, argv + first, repeats, embeddings) : EXIT_FAILURE;
  free(embeddings);
  return status;
}
