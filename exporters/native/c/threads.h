/* One utterance on several cores, with POSIX threads; the rest of the library knows none. */
#ifndef SPARSIFY_THREADS_H
#define SPARSIFY_THREADS_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SPARSIFY_ERROR_THREADS = -7 /* threads cannot be started, or are more than 64 */ };

/* As sparsify_workspace_bytes, for so many threads. */
SPARSIFY_API size_t sparsify_threads_workspace_bytes(int max_frames, int threads);

/* As sparsify_embed; starts `threads - 1` threads, which end before it returns. */
SPARSIFY_API int sparsify_embed_threads(const float *feats, int frames, void *workspace,
                                        size_t workspace_bytes, float *embedding, int threads);

#ifdef __cplusplus
}
#endif

#endif
