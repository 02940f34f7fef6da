/* Attention: what each frame takes of all others. Products and shares of a panel of keys at a time are in
 * a cache, so that no utterance is too long for the workspace; each lane of a vector is a query.
 */

enum { QUERY_VECTORS = 2, KEYS = 4, VALUES = 4 };

/* Of a head: the lines of its rows. */
struct head {
  const int32_t *queries, *keys, *values, *targets;
};

/* Keys of a panel, and what queries have of them. */
struct shares {
  int count;
  int places[PANEL]; /* of the keys in their rows */
  vf of[PANEL][QUERY_VECTORS];
};

/* The products of queries with all keys of a panel that are frames of the utterance, and the highest. */
INLINE void products(const int V, const struct engine *e, const struct attention_op *op,
                     const struct geometry *g, const struct head *head, const float *queries,
                     int panel, struct shares *shares, vf *highest) {
  const int groups = groups_of(g, panel), begin = start_of(g, panel);
  shares->count = 0;
  for (int place = 0; place < groups * GROUP; place += KEYS) {
    vf sum[KEYS][QUERY_VECTORS];
    UNROLL for (int i = 0; i < KEYS; i++)
      UNROLL for (int v = 0; v < V; v++) sum[i][v] = splat(0.0f);
    for (int c = 0; c < op->width; c++) {
      const float *query = queries + (ptrdiff_t)head->queries[c] * LINE;
      const float *key = row_of(e, panel, head->keys[c]) + place;
      vf column[QUERY_VECTORS];
      UNROLL for (int v = 0; v < V; v++) column[v] = load(query + v * LANES);
      UNROLL for (int i = 0; i < KEYS; i++)
        UNROLL for (int v = 0; v < V; v++) sum[i][v] += key[i] * column[v];
    }
    for (int i = 0; i < KEYS; i++) {
      const int frame = begin + (place + i) % GROUP * groups + (place + i) / GROUP;
      if (frame >= g->frames) continue;
      shares->places[shares->count] = place + i;
      for (int v = 0; v < V; v++) {
        const vf product = sum[i][v] * op->scale;
        highest[v] = vmax(highest[v], product);
        shares->of[shares->count][v] = product;
      }
      shares->count++;
    }
  }
}

/* Adds shares of some values to the sums of earlier panels, whose shares were greater by 1 / `factor`. */
INLINE void weigh(const int V, const int count, const struct engine *e, const int32_t *values,
                  const int32_t *targets, float *out, int panel, const struct shares *shares,
                  const vf *factor, const vf *total) {
  vf sum[VALUES][QUERY_VECTORS];
  const float *value[VALUES];
  UNROLL for (int c = 0; c < count; c++) {
    value[c] = row_of(e, panel, values[c]);
    const float *from = out + (ptrdiff_t)targets[c] * LINE;
    UNROLL for (int v = 0; v < V; v++)
      sum[c][v] = panel ? load(from + v * LANES) * factor[v] : splat(0.0f);
  }
  for (int j = 0; j < shares->count; j++) {
    const int place = shares->places[j];
    UNROLL for (int c = 0; c < count; c++)
      UNROLL for (int v = 0; v < V; v++) sum[c][v] += value[c][place] * shares->of[j][v];
  }
  UNROLL for (int c = 0; c < count; c++)
    UNROLL for (int v = 0; v < V; v++)
      store(out + (ptrdiff_t)targets[c] * LINE + v * LANES, total ? sum[c][v] / total[v] : sum[c][v]);
}

/* Some vectors of queries of one head, at `out` from the beginning of their panel. */
INLINE void attend(const int V, const struct engine *e, const struct attention_op *op,
                   const struct geometry *keys, const struct head *head, float *out) {
  vf highest[QUERY_VECTORS], total[QUERY_VECTORS];
  UNROLL for (int v = 0; v < V; v++) highest[v] = splat(-INFINITY), total[v] = splat(0.0f);
  for (int p = 0; p < keys->panels; p++) {
    struct shares shares;
    vf factor[QUERY_VECTORS], before[QUERY_VECTORS];
    UNROLL for (int v = 0; v < V; v++) before[v] = highest[v];
    products(V, e, op, keys, head, out, p, &shares, highest);
    UNROLL for (int v = 0; v < V; v++) {
      factor[v] = vexp(before[v] - highest[v]);
      total[v] *= factor[v];
    }
    for (int j = 0; j < shares.count; j++)
      UNROLL for (int v = 0; v < V; v++) {
        shares.of[j][v] = vexp(shares.of[j][v] - highest[v]);
        total[v] += shares.of[j][v];
      }
    const vf *whole = p == keys->panels - 1 ? total : NULL;
    int c = 0;
    for (; c + VALUES <= op->value_width; c += VALUES)
      weigh(V, VALUES, e, head->values + c, head->targets + c, out, p, &shares, factor, whole);
    for (; c < op->value_width; c++)
      weigh(V, 1, e, head->values + c, head->targets + c, out, p, &shares, factor, whole);
  }
}

static void run_attention(const struct engine *e, const struct attention_op *op) {
  const struct geometry g = geometry_of(e, op->op.length), keys = geometry_of(e, op->key_length);
  const struct range units = share(e, op->heads * g.panels);
  for (int unit = units.begin; unit < units.end; unit++) {
    const int h = unit / g.panels, panel = unit % g.panels, vectors = vectors_in(groups_of(&g, panel));
    const struct head head = {
        .queries = (const int32_t *)at(e, op->queries_at) + (ptrdiff_t)h * op->width,
        .keys = (const int32_t *)at(e, op->keys_at) + (ptrdiff_t)h * op->width,
        .values = (const int32_t *)at(e, op->values_at) + (ptrdiff_t)h * op->value_width,
        .targets = (const int32_t *)at(e, op->targets_at) + (ptrdiff_t)h * op->value_width,
    };
    float *out = row_of(e, panel, 0);
    int v = 0;
    for (; v + QUERY_VECTORS <= vectors; v += QUERY_VECTORS)
      attend(QUERY_VECTORS, e, op, &keys, &head, out + v * LANES);
    if (v < vectors) attend(1, e, op, &keys, &head, out + v * LANES);
  }
}
