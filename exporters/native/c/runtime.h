/* What runs a blob, whichever instructions the processor has. */
#ifndef SPARSIFY_RUNTIME_H
#define SPARSIFY_RUNTIME_H

#include "program.h"

/* One thread's part of embedding one utterance. */
struct task {
  const void *blob;
  const float *feats;
  const float *samples; /* what features are computed from; none if these are given */
  int count;
  int frames;
  float *arena, *registers, *decoded, *features, *front_end, *embedding;
  ptrdiff_t *places;
  void *halves; /* of a panel in half precision */
  int thread, threads;
  void (*wait)(void *barrier); /* for the other threads, after each operation; none if alone */
  void *barrier;
};

size_t sparsify_blob_workspace(const void *blob, int max_frames, int threads);
int sparsify_blob_embed(const void *blob, const float *feats, int frames, void *workspace,
                        size_t workspace_bytes, float *embedding);
int sparsify_prepare(const void *blob, int frames, void *workspace, size_t workspace_bytes,
                     int threads);
void sparsify_run(struct task *task, void *workspace);
int sparsify_blob_frames(const void *blob, int count);
size_t sparsify_front_end_floats(const void *blob);
int sparsify_blob_embed_audio(const void *blob, const float *samples, int count, void *workspace,
                              size_t workspace_bytes, float *embedding);

/* Evaluates the expressions of a blob, and finds the longest length. Returns whether every length is
 * at least what it must be. */
int sparsify_expressions(const struct header *header, int frames, int64_t *values, int64_t *longest);

/* Floats from one register of a rowwise operation to the next. The last vector of a panel, which may
 * begin at any group, may reach past the last group. */
static inline uint64_t register_stride(int64_t frames) {
  return ((uint64_t)frames + GROUP + LINE - 1) / LINE * LINE;
}

/* Arithmetic in half precision has an engine of its own, which is left out unless it is asked for. */
#if defined(SPARSIFY_HALF) && defined(__aarch64__)
#define SPARSIFY_RUNS_HALVES
#endif

const char *sparsify_isa(void);
int sparsify_has_halves(void);

void sparsify_run_base(const struct task *task);
void sparsify_run_avx2(const struct task *task);
void sparsify_run_avx512(const struct task *task);
void sparsify_run_half(const struct task *task);

#endif
