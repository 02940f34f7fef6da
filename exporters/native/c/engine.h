/* The interpreter of a blob, compiled once for every instruction set.
 *
 * Before it is included, LANES and RUN (the name of the function) are defined.
 */
#include "runtime.h"
#include "vector.h"

#include <math.h>

/* Vectors of columns that stay in registers: 32 registers in AVX-512 and NEON, 16 elsewhere. */
#if LANES == 16
#define MOST_VECTORS 4
#define MOST_BLOCK_VECTORS 4
#elif defined(__aarch64__)
#define MOST_VECTORS 16
#define MOST_BLOCK_VECTORS 4
#else
#define MOST_VECTORS 8
#define MOST_BLOCK_VECTORS 3
#endif

/* Of more panels, a second-level cache does not hold what a convolution writes. */
#define MOST_CACHED_PANELS 6

/* And of more convolutions in turns, it holds less than they save. */
#define MOST_CONVS 4

struct engine {
  const unsigned char *blob;
  const struct header *header;
  const float *feats;
  float *arena, *registers, *decoded;
  ptrdiff_t *places; /* of frames, where an operation needs a list of them */
  const struct task *task;
  struct halved *halved; /* a panel in half precision, where the arithmetic is */
  int64_t expressions[MOST_EXPRESSIONS]; /* frames times channels are more than 32 bits hold */
};

struct range {
  int begin, end;
};

INLINE const struct operation *after(const struct operation *op) {
  return (const void *)((const int32_t *)op + op->size);
}

INLINE const void *at(const struct engine *e, int32_t position) {
  return e->blob + (size_t)(uint32_t)position * 64;
}

/* What this thread does of `count` like things. */
static struct range share(const struct engine *e, int count) {
  const long long thread = e->task->thread, threads = e->task->threads;
  return (struct range){(int)(count * thread / threads), (int)(count * (thread + 1) / threads)};
}

static struct geometry geometry_of(const struct engine *e, int length) {
  struct geometry g = {.frames = (int)e->expressions[length]};
  g.groups = (g.frames + GROUP - 1) / GROUP;
  g.panels = (g.frames + PANEL - 1) / PANEL;
  g.each = g.groups / g.panels;
  g.longer = g.groups % g.panels;
  return g;
}

INLINE int groups_of(const struct geometry *g, int panel) { return g->each + (panel < g->longer); }

/* Vectors that hold some groups; the last one may be half empty. */
INLINE int vectors_in(int groups) { return (groups * GROUP + LANES - 1) / LANES; }

/* The first frame of a panel. */
INLINE int start_of(const struct geometry *g, int panel) {
  return GROUP * (panel * g->each + (panel < g->longer ? panel : g->longer));
}

/* Where a frame lies in a panel, in floats from the beginning of the row. */
INLINE int place_in(int groups, int frame) { return frame % groups * GROUP + frame / groups; }

INLINE ptrdiff_t panel_floats(const struct engine *e) { return (ptrdiff_t)e->header->lines * LINE; }

INLINE float *row_of(const struct engine *e, int panel, int line) {
  return e->arena + panel * panel_floats(e) + (ptrdiff_t)line * LINE;
}

#include "front_end.h"

#include "kernels.h"
#ifdef HALF_ARITHMETIC
#include "half.h"
#else
#define in_halves(op) 0
#endif

#include "moves.h"
/* It fills halos, which moves.h does. */
#include "conv.h"
#include "rowwise.h"
#include "attention.h"

void RUN(const struct task *task) {
  const struct header *header = task->blob;
  struct engine e = {
      .blob = task->blob,
      .header = header,
      .feats = task->feats,
      .arena = task->arena + (size_t)header->scalar_lines * LINE,
      .registers = task->registers,
      .decoded = task->decoded,
      .places = task->places,
      .task = task,
  };
#ifdef HALF_ARITHMETIC
  struct halved halved = {.values = task->halves};
  e.halved = &halved;
#endif
  int64_t longest;
  sparsify_expressions(header, task->frames, e.expressions, &longest);
  if (task->samples) {
    if (task->thread == 0)
      front_end_features(at(&e, header->front_end_at), task->samples, task->count, task->features,
                         task->front_end);
    if (task->wait) task->wait(task->barrier);
    e.feats = task->features;
  }
  const struct operation *op = at(&e, header->operations_at);
  for (int i = 0; i < header->operations; i++) {
    const int convs = task->wait ? 0 : consecutive_convs(op, header->operations - i);
    if (convs > 1 && geometry_of(&e, op->length).panels > MOST_CACHED_PANELS) {
      op = run_convs(&e, op, convs);
      i += convs - 1;
      continue;
    }
    switch (op->kind) {
      case OP_INPUT: run_input(&e, (const void *)op); break;
      case OP_ZERO: run_zero(&e, (const void *)op); break;
      case OP_HALO: run_halo(&e, (const void *)op); break;
      case OP_GATHER: run_gather(&e, (const void *)op); break;
      case OP_CONV: run_conv(&e, (const void *)op); break;
      case OP_ROWWISE: run_rowwise(&e, (const void *)op); break;
      case OP_ATTENTION: run_attention(&e, (const void *)op); break;
    }
    if (task->wait) task->wait(task->barrier);
    op = after(op);
  }
  if (task->thread == 0) {
    const int32_t *lines = at(&e, header->output_lines_at);
    for (int i = 0; i < header->embedding_dim; i++) task->embedding[i] = *row_of(&e, 0, lines[i]);
  }
}
