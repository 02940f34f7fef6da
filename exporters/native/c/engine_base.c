/* For any processor: SSE2, NEON and WASM have vectors of four floats. */
#include <math.h>
#include <string.h>
#define LANES 4
#define RUN sparsify_run_base
#include "engine.h"

int sparsify_blob_frames(const void *blob, int count) {
  const struct header *header = blob;
  if (!header->front_end_at) return 0;
  return front_end_frames((const int32_t *)blob + (size_t)header->front_end_at * 16, count);
}

size_t sparsify_front_end_floats(const void *blob) {
  const struct header *header = blob;
  if (!header->front_end_at) return 0;
  return front_end_scratch((const int32_t *)blob + (size_t)header->front_end_at * 16, 0);
}
