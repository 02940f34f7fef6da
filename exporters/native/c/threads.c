#ifdef __linux__
#define _GNU_SOURCE /* for the processors that a thread may use */
#endif
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "runtime.h"

enum { MOST_THREADS = 64, SPINS = 4000 };

extern const struct header sparsify_blob;

/* All wait until the last arrives. Operations take microseconds, so a lock would cost too much. */
struct barrier {
  atomic_int arrived, round, begun; /* begun: 0 not yet, 1 go, -1 give up */
  int threads;
};

static void pause_for(int spins) {
  if (spins > SPINS) sched_yield();
}

static void barrier_wait(void *opaque) {
  struct barrier *b = opaque;
  const int round = atomic_load_explicit(&b->round, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == b->threads - 1) {
    atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&b->round, round + 1, memory_order_release);
    return;
  }
  for (int i = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round; i++) pause_for(i);
}

struct worker {
  struct task task;
  void *workspace;
  pthread_t thread;
};

static void *work(void *opaque) {
  struct worker *w = opaque;
  struct barrier *b = w->task.barrier;
  int begun;
  for (int i = 0; !(begun = atomic_load_explicit(&b->begun, memory_order_acquire)); i++) pause_for(i);
  if (begun > 0) sparsify_run(&w->task, w->workspace);
  return NULL;
}

/* Lets new threads begin anywhere but on the caller's processor, where they would wait for it: what
 * takes a few milliseconds is over before a scheduler moves them. */
static void begin_elsewhere(pthread_attr_t *attributes) {
#if defined(__linux__) && !defined(__ANDROID__)
  cpu_set_t processors;
  if (sched_getaffinity(0, sizeof processors, &processors)) return;
  CPU_CLR(sched_getcpu(), &processors);
  if (CPU_COUNT(&processors)) pthread_attr_setaffinity_np(attributes, sizeof processors, &processors);
#else
  (void)attributes;
#endif
}

size_t sparsify_threads_workspace_bytes(int max_frames, int threads) {
  return threads > MOST_THREADS ? 0 : sparsify_blob_workspace(&sparsify_blob, max_frames, threads);
}

int sparsify_embed_threads(const float *feats, int frames, void *workspace, size_t workspace_bytes,
                           float *embedding, int threads) {
  if (!feats || !embedding || threads < 1) return SPARSIFY_ERROR_ARGUMENT;
  if (threads > MOST_THREADS) return SPARSIFY_ERROR_THREADS;
  const int error = sparsify_prepare(&sparsify_blob, frames, workspace, workspace_bytes, threads);
  if (error) return error;
  struct barrier barrier = {.threads = threads};
  struct worker workers[MOST_THREADS];
  int started = 1;
  for (int i = 0; i < threads; i++) {
    workers[i].workspace = workspace;
    workers[i].task = (struct task){.blob = &sparsify_blob,
                                    .feats = feats,
                                    .frames = frames,
                                    .embedding = embedding,
                                    .thread = i,
                                    .threads = threads,
                                    .wait = barrier_wait,
                                    .barrier = &barrier};
  }
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes)) return SPARSIFY_ERROR_THREADS;
  begin_elsewhere(&attributes);
  while (started < threads &&
         !pthread_create(&workers[started].thread, &attributes, work, workers + started))
    started++;
  pthread_attr_destroy(&attributes);
  atomic_store_explicit(&barrier.begun, started == threads ? 1 : -1, memory_order_release);
  if (started == threads) sparsify_run(&workers[0].task, workspace);
  for (int i = 1; i < started; i++) pthread_join(workers[i].thread, NULL);
  return started == threads ? 0 : SPARSIFY_ERROR_THREADS;
}
