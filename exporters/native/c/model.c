#include "threads.h"

#include "runtime.h"

/* weights.bin, linked in by weights.S. */
extern const struct header sparsify_blob;

int sparsify_feature_dim(void) { return sparsify_blob.feature_dim; }

int sparsify_embedding_dim(void) { return sparsify_blob.embedding_dim; }

int sparsify_sample_rate(void) { return sparsify_blob.sample_rate; }

int sparsify_frames(int count) { return sparsify_blob_frames(&sparsify_blob, count); }

size_t sparsify_workspace_bytes(int max_frames) {
  return sparsify_blob_workspace(&sparsify_blob, max_frames, 1);
}

int sparsify_embed(const float *feats, int frames, void *workspace, size_t workspace_bytes,
                   float *embedding) {
  return sparsify_blob_embed(&sparsify_blob, feats, frames, workspace, workspace_bytes, embedding);
}

int sparsify_embed_audio(const float *samples, int count, void *workspace, size_t workspace_bytes,
                         float *embedding) {
  return sparsify_blob_embed_audio(&sparsify_blob, samples, count, workspace, workspace_bytes,
                                   embedding);
}

const char *sparsify_instructions(void) { return sparsify_isa(); }

const char *sparsify_error(int code) {
  switch (code) {
    case 0: return "no error";
    case SPARSIFY_ERROR_ARGUMENT: return "a pointer is NULL, or a number is not positive";
    case SPARSIFY_ERROR_TOO_SHORT: return "the utterance is shorter than the network needs";
    case SPARSIFY_ERROR_TOO_LONG: return "the utterance has more than 2^24 frames";
    case SPARSIFY_ERROR_WORKSPACE: return "the workspace is too small for so many frames";
    case SPARSIFY_ERROR_ALIGNMENT: return "the workspace does not begin at a multiple of 64 bytes";
    case SPARSIFY_ERROR_FEATURES: return "the library has no front end: give it features";
    case SPARSIFY_ERROR_THREADS: return "threads cannot be started, or are more than 64";
    default: return "unknown error";
  }
}
