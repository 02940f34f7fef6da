/* One speaker-embedding network, which depends on nothing but libc and libm.
 *
 * No function allocates memory or keeps state: any number of threads may call them at once, each
 * with a workspace of its own.
 */
#ifndef SPARSIFY_MODEL_H
#define SPARSIFY_MODEL_H

#include <stddef.h>

#if defined(_WIN32)
#define SPARSIFY_API
#else
#define SPARSIFY_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
  SPARSIFY_ERROR_ARGUMENT = -1,  /* a pointer is NULL, or there is not one thread */
  SPARSIFY_ERROR_TOO_SHORT = -2, /* fewer frames or samples than the network needs */
  SPARSIFY_ERROR_TOO_LONG = -3,  /* more frames than can be counted (2^24) */
  SPARSIFY_ERROR_WORKSPACE = -4, /* the workspace is too small for that many frames */
  SPARSIFY_ERROR_ALIGNMENT = -5, /* the workspace does not begin at a multiple of 64 bytes */
  SPARSIFY_ERROR_FEATURES = -6   /* the library was made without a front end: give features */
  /* threads.h has one more. */
};

/* Features of a frame, and values of an embedding. */
SPARSIFY_API int sparsify_feature_dim(void);
SPARSIFY_API int sparsify_embedding_dim(void);

/* Samples a second that sparsify_embed_audio expects. */
SPARSIFY_API int sparsify_sample_rate(void);

/* Frames of `count` samples; 0 if they are shorter than one. */
SPARSIFY_API int sparsify_frames(int count);

/* Bytes that the calls below need for up to `max_frames` frames; 0 if that is not a number of
 * frames. The workspace begins at a multiple of 64 bytes (aligned_alloc). Its content is arbitrary
 * before and after a call. */
SPARSIFY_API size_t sparsify_workspace_bytes(int max_frames);

/* Embeds features (frames × feature_dim, one frame after the other). Returns 0, or an error above,
 * and then writes nothing. */
SPARSIFY_API int sparsify_embed(const float *feats, int frames, void *workspace,
                                size_t workspace_bytes, float *embedding);

/* The same from samples in [-1, 1]: computes sparsify_frames(count) frames of features first. */
SPARSIFY_API int sparsify_embed_audio(const float *samples, int count, void *workspace,
                                      size_t workspace_bytes, float *embedding);

/* Which of the kernels this processor runs: "avx512", "avx2", "neon", "neon-fp16" or
 * "base". */
SPARSIFY_API const char *sparsify_instructions(void);

/* What an error says, in a sentence; for 0, that there is none. */
SPARSIFY_API const char *sparsify_error(int code);

#ifdef __cplusplus
}
#endif

#endif
