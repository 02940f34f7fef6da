/* Operations that move frames without computing. */

static void run_input(const struct engine *e, const struct input_op *op) {
  const struct geometry g = geometry_of(e, op->op.length);
  const struct range panels = share(e, g.panels);
  for (int p = panels.begin; p < panels.end; p++) {
    const int begin = start_of(&g, p), groups = groups_of(&g, p);
    for (int k = 0; k < op->rows.count; k++) {
      float *row = row_of(e, p, op->rows.line + k * op->rows.stride);
      for (int v = 0; v < groups; v++)
        for (int i = 0; i < GROUP; i++) {
          const int t = begin + i * groups + v;
          row[v * GROUP + i] = t < g.frames ? e->feats[(size_t)t * op->rows.count + k] : 0.0f;
        }
    }
  }
}

static void zero_panel(const struct engine *e, const struct zero_op *op, int panel) {
  const size_t floats = (size_t)op->rows.count * op->rows.stride * LINE;
  memset(row_of(e, panel, op->rows.line) - op->left * GROUP, 0, sizeof(float) * floats);
}

static void run_zero(const struct engine *e, const struct zero_op *op) {
  const struct geometry g = geometry_of(e, op->op.length);
  const struct range panels = share(e, g.panels);
  for (int p = panels.begin; p < panels.end; p++) zero_panel(e, op, p);
}

#define NOWHERE PTRDIFF_MIN /* what is read from there is zero */

/* Fills the group that begins with frame `first` of a panel, one before its first group or after its
 * last one, from the other groups and from the neighbouring panels. */
static void halo_group(const struct engine *e, const struct geometry *g, int panel, int first,
                       const struct rows *rows) {
  const int groups = groups_of(g, panel);
  ptrdiff_t from[GROUP];
  int own = 0;
  for (int i = 0; i < GROUP; i++) {
    const int t = i * groups + first, other = t < 0 ? panel - 1 : t < groups * GROUP ? panel : panel + 1;
    own += other == panel;
    from[i] = NOWHERE;
    if (other < 0 || other == g->panels) continue;
    if (other != panel && t + start_of(g, panel) >= g->frames) continue;
    const int frame = t + start_of(g, panel) - start_of(g, other);
    from[i] = place_in(groups_of(g, other), frame) + (other - panel) * panel_floats(e);
  }
  /* As a rule, the frames of another group one lane further, and one from a neighbour. */
  const int one_lane = own == GROUP - 1, begin = first < 0, edge = first < 0 ? 0 : GROUP - 1;
  for (int k = 0; k < rows->count; k++) {
    float *row = row_of(e, panel, rows->line + k * rows->stride), *to = row + first * GROUP;
    if (one_lane) {
      memcpy(to + begin, row + from[begin], sizeof(float) * (GROUP - 1));
      to[edge] = from[edge] == NOWHERE ? 0.0f : row[from[edge]];
    } else {
      for (int i = 0; i < GROUP; i++) to[i] = from[i] == NOWHERE ? 0.0f : row[from[i]];
    }
  }
}

/* The halo of a panel, when its neighbours are there. */
static void fill_halo(const struct engine *e, const struct geometry *g, int panel,
                      const struct rows *rows, int left, int right) {
  const int groups = groups_of(g, panel), beyond = g->frames - start_of(g, panel);
  for (int t = beyond; t < beyond + right && t < groups * GROUP; t++) {
    float *row = row_of(e, panel, rows->line) + place_in(groups, t);
    for (int k = 0; k < rows->count; k++) row[(ptrdiff_t)k * rows->stride * LINE] = 0.0f;
  }
  for (int i = 1; i <= left; i++) halo_group(e, g, panel, -i, rows);
  for (int i = 0; i < right; i++) halo_group(e, g, panel, groups + i, rows);
}

static void run_halo(const struct engine *e, const struct halo_op *op) {
  const struct geometry g = geometry_of(e, op->op.length);
  const struct range panels = share(e, g.panels);
  for (int p = panels.begin; p < panels.end; p++)
    fill_halo(e, &g, p, &op->rows, op->left, op->right);
}

/* A row of some panels, one panel after the other. */
static void copy_row(const struct engine *e, const struct geometry *g, struct range panels, int line,
                     float *to) {
  for (int p = panels.begin; p < panels.end; p++) {
    const float *from = row_of(e, p, line);
    float *target = to + start_of(g, p) - start_of(g, panels.begin);
    const int vectors = vectors_in(groups_of(g, p));
    for (int v = 0; v < vectors; v++) store(target + v * LANES, load(from + v * LANES));
  }
}

/* Lists where the frames of such a copy lie. */
static void list_places(const struct engine *e, const struct geometry *g) {
  for (int p = 0, t = 0; p < g->panels; p++) {
    const int groups = groups_of(g, p), begin = start_of(g, p);
    for (; t < begin + groups * GROUP && t < g->frames; t++)
      e->places[t] = begin + place_in(groups, t - begin);
  }
}

/* The frame that is read for frame t, or -1 for a zero. */
INLINE int64_t padded_frame(int64_t t, int frames, int padding) {
  if (padding == PAD_REFLECT) t = t < 0 ? -t : t >= frames ? 2 * (int64_t)(frames - 1) - t : t;
  if (padding == PAD_REPLICATE) t = t < 0 ? 0 : t >= frames ? frames - 1 : t;
  return t < 0 || t >= frames ? -1 : t;
}

/* Where a frame lies, in floats from the beginning of its row in the first panel. */
static ptrdiff_t place_of(const struct engine *e, const struct geometry *g, int frame) {
  const int edge = start_of(g, g->longer); /* before it, panels have one group more */
  const int panel = frame < edge ? frame / (GROUP * (g->each + 1)) : g->longer + (frame - edge) / (GROUP * g->each);
  return panel * panel_floats(e) + place_in(groups_of(g, panel), frame - start_of(g, panel));
}

static void run_gather(const struct engine *e, const struct gather_op *op) {
  const struct geometry from = geometry_of(e, op->source_length), to = geometry_of(e, op->op.length);
  const int32_t *sources = at(e, op->sources_at), *targets = at(e, op->targets_at);
  const struct range rows = share(e, op->count);
  ptrdiff_t *places = e->places; /* where each place of the target is read; -1: zero */
  for (int p = 0; p < to.panels; p++) {
    const int groups = groups_of(&to, p);
    for (int v = 0; v < groups; v++)
      for (int i = 0; i < GROUP; i++) {
        const int64_t t = start_of(&to, p) + i * groups + v;
        const int64_t read =
            t < to.frames ? padded_frame(t / op->repeat * op->stride + op->offset, from.frames, op->padding) : -1;
        *places++ = read < 0 ? -1 : place_of(e, &from, (int)read);
      }
  }
  for (int p = 0; p < to.panels; p++) {
    const ptrdiff_t *place = e->places + start_of(&to, p);
    const int columns = groups_of(&to, p) * GROUP;
    for (int k = rows.begin; k < rows.end; k++) {
      const float *source = row_of(e, 0, sources[k]);
      float *row = row_of(e, p, targets[k]);
      for (int i = 0; i < columns; i++) { /* without a branch */
        const float value = source[place[i] < 0 ? 0 : place[i]];
        row[i] = place[i] < 0 ? 0.0f : value;
      }
    }
  }
}
