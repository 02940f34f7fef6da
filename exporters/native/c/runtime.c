#include "runtime.h"

#include "model.h"

enum { MOST_FRAMES = 1 << 24, ALIGNMENT = 64 };

int sparsify_expressions(const struct header *header, int frames, int64_t *values,
                         int64_t *longest) {
  const int32_t *word = (const int32_t *)header + (size_t)header->expressions_at * 16;
  int possible = 1;
  *longest = frames;
  for (int i = 0; i < header->expressions; i++) {
    int64_t stack[16];
    int top = -1;
    const int least = *word++;
    for (; *word != E_END; word++) {
      if (*word == E_CONSTANT) {
        stack[++top] = *++word;
        continue;
      }
      if (*word == E_FRAMES) {
        stack[++top] = frames;
        continue;
      }
      const int64_t b = stack[top--], a = stack[top];
      switch (*word) {
        case E_ADD: stack[top] = a + b; break;
        case E_MULTIPLY: stack[top] = a * b; break;
        case E_FLOOR_DIVIDE: stack[top] = a / b - (a % b < 0); break; /* b is positive */
        case E_MAX: stack[top] = a > b ? a : b; break;
        case E_MIN: stack[top] = a < b ? a : b; break;
        case E_MODULO: stack[top] = (a % b + b) % b; break;
      }
    }
    word++;
    values[i] = stack[0];
    if (least == INT32_MIN) continue; /* not a length */
    possible &= values[i] >= least;
    if (values[i] > *longest) *longest = values[i];
  }
  return possible;
}

static uint64_t whole(uint64_t floats) { return (floats + 15) / 16 * 16; }

/* Where things lie in a workspace, in floats from its beginning: more than 32 bits may hold. */
struct layout {
  uint64_t registers, decoded, places, halves, per_thread, feats, front_end, floats;
};

static struct layout layout_of(const struct header *header, int frames, int threads) {
  int64_t values[MOST_EXPRESSIONS], longest;
  sparsify_expressions(header, frames, values, &longest);
  const uint64_t panels = ((uint64_t)longest + PANEL - 1) / PANEL;
  struct layout l;
  l.registers = (panels * (uint64_t)header->lines + (uint64_t)header->scalar_lines) * LINE;
  /* In a thread's part. */
  l.decoded = (uint64_t)header->registers * register_stride(longest);
  l.places = l.decoded + whole((uint64_t)header->decoded);
  l.halves = l.places;
  if (header->places) l.halves += register_stride(longest) * (sizeof(ptrdiff_t) / sizeof(float));
  l.per_thread = l.halves;
#ifdef SPARSIFY_RUNS_HALVES
  if (header->decoded) l.per_thread += whole((uint64_t)header->lines * LINE / 2);
#endif
  l.feats = l.registers + (uint64_t)threads * l.per_thread;
  l.front_end = l.feats + whole((uint64_t)frames * (uint64_t)header->feature_dim);
  l.floats = l.front_end + whole(sparsify_front_end_floats(header));
  return l;
}

size_t sparsify_blob_workspace(const void *blob, int max_frames, int threads) {
  if (max_frames < 1 || max_frames > MOST_FRAMES || threads < 1) return 0;
  const uint64_t bytes = sizeof(float) * layout_of(blob, max_frames, threads).floats;
  return bytes > PTRDIFF_MAX ? 0 : (size_t)bytes;
}

typedef void (*runner)(const struct task *);

/* The widest instructions that the processor has. */
static runner best_runner(const char **name) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
#ifndef SPARSIFY_NO_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    *name = "avx512";
    return sparsify_run_avx512;
  }
#endif
#ifndef SPARSIFY_NO_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    *name = "avx2";
    return sparsify_run_avx2;
  }
#endif
#endif
#ifdef SPARSIFY_RUNS_HALVES
  if (sparsify_has_halves()) {
    *name = "neon-fp16";
    return sparsify_run_half;
  }
#endif
#if defined(__aarch64__)
  *name = "neon";
#elif defined(__wasm_simd128__)
  *name = "simd128";
#else
  *name = "base";
#endif
  return sparsify_run_base;
}

const char *sparsify_isa(void) {
  const char *name;
  best_runner(&name);
  return name;
}

int sparsify_prepare(const void *blob, int frames, void *workspace, size_t workspace_bytes,
                     int threads) {
  int64_t values[MOST_EXPRESSIONS], longest;
  if (!workspace || threads < 1) return SPARSIFY_ERROR_ARGUMENT;
  if (frames < 1) return SPARSIFY_ERROR_TOO_SHORT;
  if (frames > MOST_FRAMES) return SPARSIFY_ERROR_TOO_LONG;
  if ((uintptr_t)workspace % ALIGNMENT) return SPARSIFY_ERROR_ALIGNMENT;
  if (!sparsify_expressions(blob, frames, values, &longest)) return SPARSIFY_ERROR_TOO_SHORT;
  const size_t needed = sparsify_blob_workspace(blob, frames, threads);
  if (!needed) return SPARSIFY_ERROR_TOO_LONG;
  return workspace_bytes < needed ? SPARSIFY_ERROR_WORKSPACE : 0;
}

void sparsify_run(struct task *task, void *workspace) {
  const struct header *header = task->blob;
  const struct layout l = layout_of(header, task->frames, task->threads);
  float *floats = workspace;
  task->arena = floats;
  task->registers = floats + l.registers + (size_t)task->thread * l.per_thread;
  task->decoded = task->registers + l.decoded;
  task->places = (ptrdiff_t *)(void *)(task->registers + l.places);
  task->halves = task->registers + l.halves;
  task->features = floats + l.feats;
  task->front_end = floats + l.front_end;
  const char *name;
  best_runner(&name)(task);
}

int sparsify_blob_embed(const void *blob, const float *feats, int frames, void *workspace,
                        size_t workspace_bytes, float *embedding) {
  if (!feats || !embedding) return SPARSIFY_ERROR_ARGUMENT;
  const int error = sparsify_prepare(blob, frames, workspace, workspace_bytes, 1);
  if (error) return error;
  struct task task = {
      .blob = blob, .feats = feats, .frames = frames, .embedding = embedding, .threads = 1};
  sparsify_run(&task, workspace);
  return 0;
}

int sparsify_blob_embed_audio(const void *blob, const float *samples, int count, void *workspace,
                              size_t workspace_bytes, float *embedding) {
  const struct header *header = blob;
  if (!header->front_end_at) return SPARSIFY_ERROR_FEATURES;
  if (!samples || !embedding) return SPARSIFY_ERROR_ARGUMENT;
  const int frames = sparsify_blob_frames(blob, count);
  const int error = sparsify_prepare(blob, frames, workspace, workspace_bytes, 1);
  if (error) return error;
  struct task task = {.blob = blob,
                      .samples = samples,
                      .count = count,
                      .frames = frames,
                      .embedding = embedding,
                      .threads = 1};
  sparsify_run(&task, workspace);
  return 0;
}
