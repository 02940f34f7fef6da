/* Operations that move frames without computing. */

static void run_input(const struct engine *e, const struct input_op *op) {
  const struct geometry g = geometry_of(e, op->op.length);
  const struct range panels = share(e, g.panels);
  for (int p = panels.begin; p < panels.end; p++) {
    const int begin = start_of(&g, p), columns = vectors_of(&g, p) * LANES;
    for (int k = 0; k < op->count; k++) {
      float *row = row_of(e, p, op->row + k);
      for (int i = 0; i < columns; i++) {
        const int t = begin + i;
        row[i] = t < g.frames ? e->feats[(size_t)t * op->count + k] : 0.0f;
      }
    }
  }
}

static void run_zero(const struct engine *e, const struct zero_op *op) {
  const struct geometry g = geometry_of(e, op->op.length);
  const struct range panels = share(e, g.panels);
  for (int p = panels.begin; p < panels.end; p++)
    memset(row_of(e, p, op->row) - HALO, 0, sizeof(float) * ROW * (size_t)op->count);
}

/* Copies into the margins of rows what lies beside them in the neighbouring panels, or zeros. */
static void run_halo(const struct engine *e, const struct halo_op *op) {
  const struct geometry g = geometry_of(e, op->op.length);
  const struct range panels = share(e, g.panels);
  for (int p = panels.begin; p < panels.end; p++) {
    const int width = columns_of(&g, p);
    const int before = p > 0 ? columns_of(&g, p - 1) : 0;
    const size_t panel = (size_t)e->header->rows * ROW;
    float *row = row_of(e, p, op->row);
    for (int k = 0; k < op->count; k++, row += ROW) {
      for (int i = 1; i <= op->left; i++) row[-i] = p > 0 ? (row - panel)[before - i] : 0.0f;
      for (int i = 0; i < op->right; i++)
        row[width + i] = p + 1 < g.panels ? (row + panel)[i] : 0.0f;
    }
  }
}

/* A row of all panels, put together. */
static void copy_row(const struct engine *e, const struct geometry *g, int row, float *to) {
  for (int p = 0; p < g->panels; p++) {
    const float *from = row_of(e, p, row);
    float *target = to + start_of(g, p);
    for (int v = 0; v < vectors_of(g, p); v++) store(target + v * LANES, load(from + v * LANES));
  }
}

static void pad_row(float *row, int frames, int margin, int padding) {
  for (int i = 0; i < margin; i++) {
    float before = 0, after = 0;
    if (padding == PAD_REFLECT && i + 1 < frames) {
      before = row[i + 1];
      after = row[frames - 2 - i];
    } else if (padding == PAD_REPLICATE) {
      before = row[0];
      after = row[frames - 1];
    }
    row[-1 - i] = before;
    row[frames + i] = after;
  }
}

static void run_gather(const struct engine *e, const struct gather_op *op) {
  const struct geometry from = geometry_of(e, op->source_length), to = geometry_of(e, op->op.length);
  const int32_t *sources = at(e, op->sources_at), *targets = at(e, op->targets_at);
  const struct range rows = share(e, op->count);
  for (int k = rows.begin; k < rows.end; k++) {
    float *whole = e->registers + e->header->margin;
    copy_row(e, &from, sources[k], whole);
    pad_row(whole, from.frames, e->header->margin, op->padding);
    for (int p = 0; p < to.panels; p++) {
      float *row = row_of(e, p, targets[k]);
      const int begin = start_of(&to, p), columns = columns_of(&to, p);
      const float *first = whole + (ptrdiff_t)op->stride * begin + op->offset;
      const int vectors = vectors_of(&to, p);
      if (op->stride == 1)
        for (int v = 0; v < vectors; v++) store(row + v * LANES, load(first + v * LANES));
      else if (op->stride == 2) /* a loop that compilers vectorise */
        for (int i = 0; i < columns; i++) row[i] = first[2 * i];
      else
        for (int i = 0; i < columns; i++) row[i] = first[(ptrdiff_t)op->stride * i];
      for (int i = columns; i < vectors * LANES; i++) row[i] = 0.0f;
    }
  }
}
