/* Convolutions: sparse matrices times panels of activations. */

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

/* The values of all chunks in single precision, unless they are used as they are stored. */
static const float *decoded_values(const struct engine *e, const struct conv_op *op) {
  if (!(op->flags & CONV_HALF) || in_halves(op)) return NULL;
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
#ifdef HALF_ARITHMETIC
    if (in_halves(op)) {
      half_chunk(e, op, chunk, g, panel, f, y, residual, &pass);
      continue;
    }
#endif
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
  const float *decoded = decoded_values(e, op);
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
      if (is_there) conv_panel(e, conv, decoded_values(e, conv), &g, panel);
      panel--;
    }
  }
  return op;
}
