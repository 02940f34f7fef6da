/* Embeds what comes through a pipe, in a library for another machine; not part of an export.
 *
 * A request is a number of frames and their features, an answer an error code and the embedding.
 * Numbers are of the machine's own kind.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef int number_function(void);
typedef size_t bytes_function(int);
typedef int embed_function(const float *, int, void *, size_t, float *);

static void *resized(void *memory, size_t bytes) {
  free(memory);
  memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!memory) exit(3);
  return memory;
}

int main(int count, char **arguments) {
  void *library = count == 2 ? dlopen(arguments[1], RTLD_NOW) : NULL;
  if (!library) return 2;
  number_function *feature_dim = __extension__(number_function *)dlsym(library, "sparsify_feature_dim");
  number_function *embedding_dim = __extension__(number_function *)dlsym(library, "sparsify_embedding_dim");
  bytes_function *workspace_bytes = __extension__(bytes_function *)dlsym(library, "sparsify_workspace_bytes");
  embed_function *embed = __extension__(embed_function *)dlsym(library, "sparsify_embed");
  if (!feature_dim || !embedding_dim || !workspace_bytes || !embed) return 2;
  const size_t bins = (size_t)feature_dim(), values = (size_t)embedding_dim();
  void *feats = NULL, *workspace = NULL, *embedding = resized(NULL, sizeof(float) * values);
  int32_t frames, most = 0;
  while (fread(&frames, sizeof frames, 1, stdin) == 1) {
    if (frames > most) {
      most = frames;
      feats = resized(feats, sizeof(float) * bins * (size_t)frames);
      workspace = resized(workspace, workspace_bytes(frames));
    }
    if (fread(feats, sizeof(float) * bins, (size_t)frames, stdin) != (size_t)frames) return 1;
    const int32_t code = embed(feats, frames, workspace, workspace_bytes(frames), embedding);
    fwrite(&code, sizeof code, 1, stdout);
    fwrite(embedding, sizeof(float), values, stdout);
    fflush(stdout);
  }
  return 0;
}
