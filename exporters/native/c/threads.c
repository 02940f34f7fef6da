#ifdef __linux__
#define _GNU_SOURCE /* for the processors that a thread may use */
#endif
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "runtime.h"

enum { MOST_THREADS = 64, SPINS = 100000 };

extern const struct header sparsify_blob;

/* All wait until the last arrives. Operations take microseconds, so a thread that waits looks again
 * and again before it sleeps. It must sleep in the end: where other programs are busy, the last thread
 * may need its processor. */
struct barrier {
  atomic_int arrived, round;
  int threads, started; /* whether all threads are there: 0 not yet, 1 yes, -1 never */
  pthread_mutex_t lock;
  pthread_cond_t moved;
};

static void next_round(struct barrier *b) {
  pthread_mutex_lock(&b->lock);
  atomic_fetch_add_explicit(&b->round, 1, memory_order_release);
  pthread_cond_broadcast(&b->moved);
  pthread_mutex_unlock(&b->lock);
}

static void wait_for_round(struct barrier *b, int round) {
  for (int i = 0; i < SPINS; i++)
    if (atomic_load_explicit(&b->round, memory_order_acquire) != round) return;
  pthread_mutex_lock(&b->lock);
  while (atomic_load_explicit(&b->round, memory_order_relaxed) == round)
    pthread_cond_wait(&b->moved, &b->lock);
  pthread_mutex_unlock(&b->lock);
}

static void barrier_wait(void *opaque) {
  struct barrier *b = opaque;
  const int round = atomic_load_explicit(&b->round, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == b->threads - 1) {
    atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
    next_round(b);
  } else {
    wait_for_round(b, round);
  }
}

struct worker {
  struct task task;
  void *workspace;
  pthread_t thread;
};

static void *work(void *opaque) {
  struct worker *w = opaque;
  struct barrier *b = w->task.barrier;
  wait_for_round(b, 0);
  if (b->started > 0) sparsify_run(&w->task, w->workspace);
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
  struct barrier barrier = {
      .threads = threads, .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};
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
  barrier.started = started == threads ? 1 : -1;
  next_round(&barrier);
  if (started == threads) sparsify_run(&workers[0].task, workspace);
  for (int i = 1; i < started; i++) pthread_join(workers[i].thread, NULL);
  return started == threads ? 0 : SPARSIFY_ERROR_THREADS;
}
