/* Runs blobs where a page that nobody may touch lies before or after everything they are given.
 *
 * driver guards BLOB…: every length up to MOST, and LONG, twice; a wrong access ends the program, a difference fails it.
 * driver threads FRAMES…: the blob that is linked in, by several threads and by several callers.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime.h"
#include "threads.h"

enum { PAGE = 4096, MOST = 140, LONG = 450, CALLERS = 3 };

extern const struct header sparsify_blob;

struct place {
  void *mapped;
  size_t bytes;
  void *content;
};

/* Memory between two pages without access; it ends or begins at one of them. */
static struct place placed(size_t size, int at_end) {
  const size_t whole = (size + PAGE - 1) / PAGE * PAGE;
  struct place p = {.bytes = whole + 2 * PAGE};
  p.mapped = mmap(NULL, p.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p.mapped == MAP_FAILED || mprotect((char *)p.mapped + PAGE, whole, PROT_READ | PROT_WRITE))
    abort();
  p.content = (char *)p.mapped + PAGE + (at_end ? whole - size : 0);
  return p;
}

static void fill(float *values, int count, unsigned seed) {
  for (int i = 0; i < count; i++) {
    seed = seed * 1664525u + 1013904223u;
    values[i] = (float)(int)(seed >> 8) * 0x1p-22f - 2.0f;
  }
}

/* Embeds with everything at one end of its pages, in a workspace that is full of something. */
static int embed(const void *blob, size_t blob_bytes, int frames, int at_end, int byte, float *out) {
  const struct header *header = blob;
  const size_t size = sparsify_blob_workspace(blob, frames, 1);
  struct place places[] = {placed(blob_bytes, at_end), placed(size, at_end),
                           placed(sizeof(float) * (size_t)(frames * header->feature_dim), at_end),
                           placed(sizeof(float) * (size_t)header->embedding_dim, at_end)};
  float *feats = places[2].content, *embedding = places[3].content;
  memcpy(places[0].content, blob, blob_bytes);
  mprotect((char *)places[0].mapped + PAGE, places[0].bytes - 2 * PAGE, PROT_READ);
  memset(places[1].content, byte, size);
  fill(feats, frames * header->feature_dim, (unsigned)frames);
  const int code =
      sparsify_blob_embed(places[0].content, feats, frames, places[1].content, size, embedding);
  memcpy(out, embedding, sizeof(float) * (size_t)header->embedding_dim);
  for (int i = 0; i < 4; i++) munmap(places[i].mapped, places[i].bytes);
  return code;
}

static int guards(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) return 1;
  const size_t size = (size_t)ftell(file);
  void *blob = aligned_alloc(64, size);
  rewind(file);
  if (!blob || fread(blob, 1, size, file) != size) return 1;
  fclose(file);
  const size_t bytes = sizeof(float) * (size_t)((const struct header *)blob)->embedding_dim;
  float *first = calloc(2, bytes), *second = first + bytes / sizeof(float);
  int wrong = 0, done = 0;
  for (int frames = 1; frames <= LONG; frames += frames < MOST ? 1 : LONG - MOST) {
    const int code = embed(blob, size, frames, 1, 0xff, first);
    wrong += code != embed(blob, size, frames, 0, 0x3f, second);
    wrong += code != 0 && code != SPARSIFY_ERROR_TOO_SHORT;
    wrong += code == 0 && memcmp(first, second, bytes) != 0;
    done += code == 0;
  }
  free(first);
  free(blob);
  printf("%s: %d lengths, %d wrong\n", path, done, wrong);
  return wrong != 0 || done < MOST / 2;
}

struct caller {
  pthread_t thread;
  const float *feats;
  int frames, code;
  float *embedding;
};

static void *call(void *opaque) {
  struct caller *c = opaque;
  const size_t size = sparsify_blob_workspace(&sparsify_blob, c->frames, 1);
  void *workspace = aligned_alloc(64, size);
  for (int i = 0; i < 5 && !c->code; i++)
    c->code = sparsify_blob_embed(&sparsify_blob, c->feats, c->frames, workspace, size, c->embedding);
  free(workspace);
  return NULL;
}

static int threads(int frames) {
  const size_t dim = (size_t)sparsify_blob.embedding_dim, bytes = sizeof(float) * dim;
  float *feats = malloc(sizeof(float) * (size_t)(frames * sparsify_blob.feature_dim));
  float *embeddings = malloc((CALLERS + 1) * bytes);
  fill(feats, frames * sparsify_blob.feature_dim, (unsigned)frames);
  struct caller callers[CALLERS];
  int wrong = 0;
  for (int i = 0; i < CALLERS; i++) {
    callers[i] = (struct caller){.feats = feats, .frames = frames, .embedding = embeddings + i * dim};
    if (pthread_create(&callers[i].thread, NULL, call, callers + i)) abort();
  }
  for (int i = 0; i < CALLERS; i++) {
    pthread_join(callers[i].thread, NULL);
    wrong += callers[i].code || memcmp(callers[i].embedding, embeddings, bytes);
  }
  for (int count = 1; count <= 5; count++) {
    const size_t size = sparsify_threads_workspace_bytes(frames, count);
    struct place workspace = placed(size, 1);
    float *embedding = embeddings + CALLERS * dim;
    wrong += sparsify_embed_threads(feats, frames, workspace.content, size, embedding, count) != 0;
    wrong += memcmp(embedding, embeddings, bytes) != 0;
    wrong += sparsify_embed_threads(feats, frames, workspace.content, size - 64, embedding, count) !=
             SPARSIFY_ERROR_WORKSPACE;
    munmap(workspace.mapped, workspace.bytes);
  }
  wrong += sparsify_embed_threads(feats, frames, feats, 0, embeddings, 65) != SPARSIFY_ERROR_THREADS;
  wrong += sparsify_embed_threads(feats, frames, feats, 0, embeddings, 0) != SPARSIFY_ERROR_ARGUMENT;
  wrong += sparsify_threads_workspace_bytes(frames, 65) != 0;
  free(embeddings);
  free(feats);
  printf("%d frames: %d wrong\n", frames, wrong);
  return wrong != 0;
}

int main(int count, char **arguments) {
  int wrong = count < 3;
  for (int i = 2; i < count; i++)
    wrong |= strcmp(arguments[1], "guards") ? threads(atoi(arguments[i])) : guards(arguments[i]);
  return wrong;
}
