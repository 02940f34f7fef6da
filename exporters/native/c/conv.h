/* Sparse matrices times panels of activations. */

/* What is done to the sums of an output row before they are stored. */
struct finish {
  const float *bias, *scale, *shift;
  const float *residual; /* of output row 0 */
  size_t residual_stride;
  int flags;
};

INLINE vf finished(vf v, const struct finish *f, int row, size_t column) {
  if (f->flags & CONV_RELU_BEFORE) v = relu(v);
  if (f->flags & CONV_AFFINE) v = v * f->scale[row] + f->shift[row];
  if (f->flags & CONV_RESIDUAL) v += load(f->residual + (size_t)row * f->residual_stride + column);
  if (f->flags & CONV_RELU_AFTER) v = relu(v);
  return v;
}

/* A pass over the rows of a chunk; V vectors of columns stay in registers. */
struct pass {
  const float *x;
  float *y;
  size_t stride; /* of y */
  const uint16_t *rows, *offsets;
  const float *values;
  const int32_t *runs;
  int run_count, first, last;
  struct finish finish;
};

/* Each row has nonzeros at places of its own: V loads and multiply-adds a nonzero. */
INLINE void sparse_rows(const int V, const struct pass *p) {
  const uint16_t *rows = p->rows, *offsets = p->offsets;
  const float *values = p->values, *const x = p->x;
  /* A multiply-add waits for the last one of its sum: eight of them hide the wait. */
  const int sums = V <= 2 ? 4 : V <= 4 ? 2 : 1;
  for (int r = 0; r < p->run_count; r++) {
    const int nonzeros = p->runs[2 * r], count = p->runs[2 * r + 1];
    for (int i = 0; i < count; i++) {
      const int row = *rows++;
      float *const y = p->y + (size_t)row * p->stride;
      vf sum[4][MOST_VECTORS];
      const vf start = splat(p->finish.bias[row]);
      UNROLL for (int v = 0; v < V; v++) sum[0][v] = p->first ? start : load(y + v * LANES);
      UNROLL for (int s = 1; s < sums; s++)
        UNROLL for (int v = 0; v < V; v++) sum[s][v] = splat(0.0f);
      for (int j = 0; j < nonzeros; j += 4) {
        uint64_t four;
        memcpy(&four, offsets, sizeof four);
        UNROLL for (int u = 0; u < 4; u++) {
          /* The u-th offset times GROUP, in one shift and one mask. */
          const float *from = x + ((u ? four >> (16 * u - 3) : four << 3) & 0xffff * GROUP);
          const float value = values[u];
          UNROLL for (int v = 0; v < V; v++) sum[u % sums][v] += value * load(from + v * LANES);
        }
        offsets += 4;
        values += 4;
      }
      UNROLL for (int half = sums / 2; half > 0; half /= 2)
        UNROLL for (int s = 0; s < half; s++)
          UNROLL for (int v = 0; v < V; v++) sum[s][v] += sum[s + half][v];
      if (p->last) {
        UNROLL for (int v = 0; v < V; v++) sum[0][v] = finished(sum[0][v], &p->finish, row, v * LANES);
      }
      UNROLL for (int v = 0; v < V; v++) store(y + v * LANES, sum[0][v]);
    }
  }
}

/* BLOCK rows share their places: V loads for BLOCK * V multiply-adds. Dense layers, too. */
INLINE void block_rows(const int V, const struct pass *p) {
  const uint16_t *rows = p->rows, *offsets = p->offsets;
  const float *values = p->values, *const x = p->x;
  for (int r = 0; r < p->run_count; r++) {
    const int nonzeros = p->runs[2 * r], count = p->runs[2 * r + 1];
    for (int i = 0; i < count; i++, rows += BLOCK) {
      vf sum[BLOCK][MOST_BLOCK_VECTORS];
      UNROLL for (int b = 0; b < BLOCK; b++) {
        const vf start = splat(p->finish.bias[rows[b]]);
        const float *y = p->y + (size_t)rows[b] * p->stride;
        UNROLL for (int v = 0; v < V; v++) sum[b][v] = p->first ? start : load(y + v * LANES);
      }
      for (int j = 0; j < nonzeros; j++) {
        const float *from = x + (size_t)offsets[j] * GROUP;
        vf column[MOST_BLOCK_VECTORS];
        UNROLL for (int v = 0; v < V; v++) column[v] = load(from + v * LANES);
        UNROLL for (int b = 0; b < BLOCK; b++) {
          const vf value = splat(values[b]);
          UNROLL for (int v = 0; v < V; v++) sum[b][v] += value * column[v];
        }
        values += BLOCK;
      }
      offsets += nonzeros;
      /* Backwards: a group that is not full repeats its first row, which is stored last. */
      for (int b = BLOCK - 1; b >= 0; b--) {
        float *y = p->y + (size_t)rows[b] * p->stride;
        UNROLL for (int v = 0; v < V; v++) {
          const vf v_sum = sum[b][v];
          store(y + v * LANES, p->last ? finished(v_sum, &p->finish, rows[b], v * LANES) : v_sum);
        }
      }
    }
  }
}

static void sparse_pass(int vectors, const struct pass *p) {
  switch (vectors) {
    case 1: sparse_rows(1, p); break;
    case 2: sparse_rows(2, p); break;
    case 3: sparse_rows(3, p); break;
    case 4: sparse_rows(4, p); break;
#if MOST_VECTORS > 4
    case 5: sparse_rows(5, p); break;
    case 6: sparse_rows(6, p); break;
    case 7: sparse_rows(7, p); break;
    case 8: sparse_rows(8, p); break;
#endif
  }
}

static void block_pass(int vectors, const struct pass *p) {
  switch (vectors) {
    case 1: block_rows(1, p); break;
    case 2: block_rows(2, p); break;
    case 3: block_rows(3, p); break;
#if MOST_BLOCK_VECTORS > 3
    case 4: block_rows(4, p); break;
#endif
  }
}

/* Half precision to single; values beyond it were refused by the export. */
static void decode_halves(const uint16_t *from, int count, float *to) {
  /* The last vector reads what fills its block of 64 bytes. */
  for (int i = 0; i < count; i += LANES) {
    const vi half = __builtin_convertvector(*(const vh_unaligned *)(from + i), vi);
    const vi bits = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    /* Below the smallest normal number the exponent is that of 2^-14, whose digits are taken off:
     * a number that is subnormal here, too, would count as zero where threads flush such. */
    const vf normal = (vf)(bits + (112 << 23)), small = (vf)(bits + (113 << 23)) - 0x1p-14f;
    const vf value = (vf)((vi)vselect(bits < 1 << 23, small, normal) | sign);
    memcpy(to + i, &value, sizeof(float) * (size_t)(count - i < LANES ? count - i : LANES));
  }
}

/* The values of all chunks, in single precision. */
static const float *decoded_values(const struct engine *e, const struct conv_op *op) {
  const struct chunk *chunks = at(e, op->chunks_at);
  float *to = e->decoded;
  for (int c = 0; c < op->chunks; to += chunks[c++].values)
    decode_halves(at(e, chunks[c].values_at), chunks[c].values, to);
  return e->decoded;
}

/* One frequency of one panel: all chunks, a few vectors of columns at a time. */
static void conv_unit(const struct engine *e, const struct conv_op *op, const float *decoded,
                      const struct geometry *g, int panel, int f) {
  const struct chunk *chunks = at(e, op->chunks_at);
  const float *parameters = at(e, op->parameters_at);
  const float *const x = row_of(e, panel, f * op->input_step);
  float *const y = row_of(e, panel, op->output_line + f * op->output_step);
  const float *const residual = row_of(e, panel, op->residual_line + f * op->residual_step);
  const int vectors = vectors_in(groups_of(g, panel));
  struct pass pass = {.stride = (size_t)op->output_stride * LINE,
                      .finish = {.bias = parameters,
                                 .scale = parameters + op->outputs,
                                 .shift = parameters + 2 * op->outputs,
                                 .residual_stride = (size_t)op->residual_stride * LINE,
                                 .flags = op->flags}};
  for (int c = 0; c < op->chunks; c++) {
    const struct chunk *chunk = chunks + c;
    pass.rows = at(e, chunk->rows_at);
    pass.offsets = at(e, chunk->offsets_at);
    pass.values = decoded ? decoded : at(e, chunk->values_at);
    pass.runs = at(e, chunk->runs_at);
    pass.run_count = chunk->runs;
    pass.first = c == 0;
    pass.last = c == op->chunks - 1;
    const int most = chunk->block == 1 ? MOST_VECTORS : MOST_BLOCK_VECTORS;
    for (int v = 0; v < vectors;) {
      /* Evenly: 8 vectors are 3 + 3 + 2. */
      const int left = vectors - v, parts = (left + most - 1) / most, now = (left + parts - 1) / parts;
      pass.x = x + (ptrdiff_t)chunk->origin * GROUP + v * LANES;
      pass.y = y + v * LANES;
      pass.finish.residual = residual + v * LANES;
      if (chunk->block == 1) sparse_pass(now, &pass);
      else block_pass(now, &pass);
      v += now;
    }
    if (decoded) decoded += chunk->values;
  }
}

/* A panel, and the halo of the one before it, which needs this one, while both are in a cache. */
static void conv_panel(const struct engine *e, const struct conv_op *op, const float *decoded,
                       const struct geometry *g, int panel) {
  for (int f = 0; f < op->frequencies; f++) conv_unit(e, op, decoded, g, panel, f);
  if (panel > 0) fill_halo(e, g, panel - 1, &op->halo, op->left, op->right);
  if (panel == g->panels - 1) fill_halo(e, g, panel, &op->halo, op->left, op->right);
}

static void run_conv(const struct engine *e, const struct conv_op *op) {
  const struct geometry g = geometry_of(e, op->op.length);
  const float *decoded = op->flags & CONV_HALF ? decoded_values(e, op) : NULL;
  if (e->task->threads == 1) {
    for (int p = 0; p < g.panels; p++) conv_panel(e, op, decoded, &g, p);
    return;
  }
  const struct range units = share(e, g.panels * op->frequencies);
  for (int unit = units.begin; unit < units.end; unit++)
    conv_unit(e, op, decoded, &g, unit / op->frequencies, unit % op->frequencies);
  if (!op->halo.count) return;
  e->task->wait(e->task->barrier);
  const struct range panels = share(e, g.panels);
  for (int p = panels.begin; p < panels.end; p++)
    fill_halo(e, &g, p, &op->halo, op->left, op->right);
}

/* Convolutions that follow each other, with the zeros around what they write: how many operations. */
static int consecutive_convs(const struct operation *op, int operations) {
  const int32_t length = op->length;
  int count = 0, convs = 0;
  for (; count < operations && convs < MOST_CONVS; count++, op = after(op)) {
    if ((op->kind != OP_CONV && op->kind != OP_ZERO) || op->length != length) break;
    convs += op->kind == OP_CONV;
  }
  return count;
}

/* Such operations on a long utterance, whose activations no cache holds: each convolution is one panel
 * behind the one before it, so that it reads what has just been written. Returns what comes next. */
static const struct operation *run_convs(const struct engine *e, const struct operation *first,
                                         int count) {
  const struct geometry g = geometry_of(e, first->length);
  const struct operation *op = first;
  for (int step = 0; step < g.panels + MOST_CONVS - 1; step++) {
    op = first;
    int panel = step;
    for (int k = 0; k < count; k++, op = after(op)) {
      const struct conv_op *conv = (const void *)op;
      const int is_there = panel >= 0 && panel < g.panels;
      if (is_there && op->kind == OP_ZERO) zero_panel(e, (const void *)op, panel);
      if (op->kind != OP_CONV) continue;
      if (is_there)
        conv_panel(e, conv, conv->flags & CONV_HALF ? decoded_values(e, conv) : NULL, &g, panel);
      panel--;
    }
  }
  return op;
}
