/* Seconds that each operation takes; for measurements, not part of an export. */
#include <time.h>

#include "model.h"
#include "runtime.h"

struct clock {
  double last, *seconds;
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void tick(void *barrier) {
  struct clock *clock = barrier;
  const double time = now();
  *clock->seconds++ = time - clock->last;
  clock->last = time;
}

/* `seconds` has a place for each operation of the blob. */
SPARSIFY_API int sparsify_blob_profile(const void *blob, const float *feats, int frames, void *workspace,
                                       size_t workspace_bytes, float *embedding, double *seconds) {
  const int error = sparsify_prepare(blob, frames, workspace, workspace_bytes, 1);
  if (error) return error;
  struct clock clock = {now(), seconds};
  struct task task = {.blob = blob,
                      .feats = feats,
                      .frames = frames,
                      .embedding = embedding,
                      .threads = 1,
                      .wait = tick,
                      .barrier = &clock};
  sparsify_run(&task, workspace);
  return 0;
}
