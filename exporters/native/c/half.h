/* Convolutions in half precision, where their values are stored in it: a group of frames is one vector.
 *
 * Up to HALF_PRODUCTS products are summed in it, and such sums in single precision, as is all that has
 * one value an utterance.
 */
#include <arm_neon.h>

enum { HALF_PRODUCTS = 32, MOST_GROUPS = PANEL / GROUP, MOST_BLOCK_GROUPS = 2 };

__extension__ typedef _Float16 half;
typedef half vh __attribute__((vector_size(2 * GROUP)));
typedef half vh_of_memory __attribute__((vector_size(2 * GROUP), aligned(2), may_alias));

INLINE vh load_group(const half *p) { return *(const vh_of_memory *)p; }

/* Four values, to be taken one by one. */
INLINE vh half_factors_at(const half *p) {
  return (vh)vcombine_f16(vld1_f16((const float16_t *)p), vdup_n_f16(0));
}

/* Adds to the sums of a group, which are two vectors. */
INLINE void add_group(vf *sums, vh group) {
  sums[0] += (vf)vcvt_f32_f16(vget_low_f16((float16x8_t)group));
  sums[1] += (vf)vcvt_high_f32_f16((float16x8_t)group);
}

/* As sparse_rows; V groups stay in registers. */
INLINE void half_sparse_rows(const int V, const struct pass *p) {
  const uint16_t *rows = p->rows, *offsets = p->offsets;
  const half *values = p->values, *const x = p->x;
  for (int r = 0; r < p->run_count; r++) {
    const int nonzeros = p->runs[2 * r], count = p->runs[2 * r + 1];
    for (int i = 0; i < count; i++) {
      const int row = *rows++;
      float *const y = p->y + (size_t)row * p->stride;
      vf sum[2 * MOST_GROUPS];
      start_sums(2 * V, p, row, y, sum);
      for (int j = 0; j < nonzeros;) {
        const int end = nonzeros - j < HALF_PRODUCTS ? nonzeros : j + HALF_PRODUCTS;
        vh part[MOST_GROUPS];
        UNROLL for (int v = 0; v < V; v++) part[v] = (vh){0};
        for (; j <= end - 4; j += 4) {
          uint64_t four;
          memcpy(&four, offsets, sizeof four);
          vh value = half_factors_at(values);
          UNROLL for (int u = 0; u < 4; u++) {
            const half *from = held(x + group_at(four, u));
            UNROLL for (int v = 0; v < V; v++) {
              if (v % 4 == 0) LOAD_NO_EARLIER(value);
              part[v] += value[u] * load_group(from + v * GROUP);
            }
          }
          offsets += 4;
          values += 4;
        }
        const int left = end - j;
        UNROLL for (int u = 0; u < 3; u++) {
          if (u == left) break;
          const half *from = held(x + (size_t)offsets[u] * GROUP);
          vh value = (vh)vdupq_n_f16(values[u]);
          UNROLL for (int v = 0; v < V; v++) {
            if (v % 4 == 0) LOAD_NO_EARLIER(value);
            part[v] += value * load_group(from + v * GROUP);
          }
        }
        offsets += left;
        values += left;
        j = end;
        UNROLL for (int v = 0; v < V; v++) add_group(sum + 2 * v, part[v]);
      }
      store_sums(2 * V, p, row, y, sum);
    }
  }
}

/* As block_rows. */
INLINE void half_block_rows(const int V, const struct pass *p) {
  const uint16_t *rows = p->rows, *offsets = p->offsets;
  const half *values = p->values, *const x = p->x;
  for (int r = 0; r < p->run_count; r++) {
    const int nonzeros = p->runs[2 * r], count = p->runs[2 * r + 1];
    for (int i = 0; i < count; i++, rows += BLOCK) {
      vf sum[BLOCK][2 * MOST_BLOCK_GROUPS];
      UNROLL for (int b = 0; b < BLOCK; b++)
        start_sums(2 * V, p, rows[b], p->y + (size_t)rows[b] * p->stride, sum[b]);
      for (int j = 0; j < nonzeros;) {
        const int end = nonzeros - j < HALF_PRODUCTS ? nonzeros : j + HALF_PRODUCTS;
        vh part[BLOCK][MOST_BLOCK_GROUPS];
        UNROLL for (int b = 0; b < BLOCK; b++)
          UNROLL for (int v = 0; v < V; v++) part[b][v] = (vh){0};
        for (; j < end; j++, values += BLOCK) {
          const half *from = x + (size_t)*offsets++ * GROUP;
          const vh value = half_factors_at(values);
          UNROLL for (int v = 0; v < V; v++) {
            const vh column = load_group(from + v * GROUP);
            UNROLL for (int b = 0; b < BLOCK; b++) part[b][v] += value[b] * column;
          }
        }
        UNROLL for (int b = 0; b < BLOCK; b++)
          UNROLL for (int v = 0; v < V; v++) add_group(sum[b] + 2 * v, part[b][v]);
      }
      UNROLL for (int b = BLOCK - 1; b >= 0; b--)
        store_sums(2 * V, p, rows[b], p->y + (size_t)rows[b] * p->stride, sum[b]);
    }
  }
}

static void half_pass(int block, int groups, const struct pass *p) {
  if (block == BLOCK) {
    if (groups == 1) half_block_rows(1, p);
    else half_block_rows(2, p);
    return;
  }
  switch (groups) {
    case 1: half_sparse_rows(1, p); break;
    case 2: half_sparse_rows(2, p); break;
    case 3: half_sparse_rows(3, p); break;
    case 4: half_sparse_rows(4, p); break;
    case 5: half_sparse_rows(5, p); break;
    case 6: half_sparse_rows(6, p); break;
    case 7: half_sparse_rows(7, p); break;
    case 8: half_sparse_rows(8, p); break;
  }
}

/* What a convolution reads of a panel, in half precision; kept for its other frequencies. */
struct halved {
  half *values;
  const struct conv_op *op;
  int panel;
  ptrdiff_t begin; /* groups from the panel's first line */
};

/* Lines before the panels hold what has one value an utterance. */
INLINE int in_halves(const struct conv_op *op) {
  return (op->flags & CONV_HALF) && op->output_line >= 0;
}

/* The farthest that a chunk reads, in groups from its origin. */
static int farthest(const struct engine *e, const struct chunk *chunk) {
  const uint16_t *offsets = at(e, chunk->offsets_at);
  int most = 0;
  for (int i = 0; i < chunk->values / chunk->block; i++) most = offsets[i] > most ? offsets[i] : most;
  return most;
}

static void halve_panel(const struct engine *e, const struct conv_op *op, const struct geometry *g,
                        int panel) {
  const struct chunk *chunks = at(e, op->chunks_at);
  ptrdiff_t begin = PTRDIFF_MAX, end = PTRDIFF_MIN;
  for (int c = 0; c < op->chunks; c++) {
    const ptrdiff_t last = chunks[c].origin + farthest(e, chunks + c) + groups_of(g, panel);
    begin = chunks[c].origin < begin ? chunks[c].origin : begin;
    end = last > end ? last : end;
  }
  const ptrdiff_t moved = (ptrdiff_t)(op->frequencies - 1) * op->input_step * (LINE / GROUP);
  begin += moved < 0 ? moved : 0;
  end += moved > 0 ? moved : 0;
  const float *from = row_of(e, panel, 0) + begin * GROUP;
  float16_t *to = (float16_t *)e->halved->values;
  for (ptrdiff_t i = 0; i < (end - begin) * GROUP; i += GROUP) {
    const float16x4_t low = vcvt_f16_f32(vld1q_f32(from + i));
    vst1q_f16(to + i, vcvt_high_f16_f32(low, vld1q_f32(from + i + GROUP / 2)));
  }
  *e->halved = (struct halved){e->halved->values, op, panel, begin};
}

/* A chunk at one frequency of one panel. */
static void half_chunk(const struct engine *e, const struct conv_op *op, const struct chunk *chunk,
                       const struct geometry *g, int panel, int f, float *y, const float *residual,
                       struct pass *pass) {
  const struct halved *h = e->halved;
  if (h->op != op || h->panel != panel) halve_panel(e, op, g, panel);
  const ptrdiff_t first = chunk->origin + (ptrdiff_t)f * op->input_step * (LINE / GROUP) - h->begin;
  const int groups = groups_of(g, panel), most = chunk->block == 1 ? MOST_GROUPS : MOST_BLOCK_GROUPS;
  for (int k = 0; k < groups;) {
    const int now = groups - k < most ? groups - k : most;
    pass->x = h->values + (first + k) * GROUP;
    pass->y = y + k * GROUP;
    pass->finish.residual = residual + k * GROUP;
    half_pass(chunk->block, now, pass);
    k += now;
  }
}
