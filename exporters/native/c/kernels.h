/* Sparse matrices times panels of activations. */

/* What is done to the sums of an output row before they are stored. */
struct finish {
  const float *bias, *scale, *shift;
  const float *residual; /* of output row 0 */
  size_t residual_stride;
  int flags;
};

INLINE void finish(const int V, const struct finish *f, int row, vf *sum) {
  const int flags = f->flags;
  if (flags & CONV_RELU_BEFORE) UNROLL for (int v = 0; v < V; v++) sum[v] = relu(sum[v]);
  if (flags & CONV_AFFINE) {
    const float scale = f->scale[row], shift = f->shift[row];
    UNROLL for (int v = 0; v < V; v++) sum[v] = sum[v] * scale + shift;
  }
  if (flags & CONV_RESIDUAL) {
    const float *residual = f->residual + (size_t)row * f->residual_stride;
    UNROLL for (int v = 0; v < V; v++) sum[v] += load(residual + v * LANES);
  }
  if (flags & CONV_RELU_AFTER) UNROLL for (int v = 0; v < V; v++) sum[v] = relu(sum[v]);
}

/* A pass over the rows of a chunk; V vectors of columns stay in registers. */
struct pass {
  const void *x, *values; /* single or half precision */
  float *y;
  size_t stride; /* of y */
  const uint16_t *rows, *offsets;
  const int32_t *runs;
  int run_count, first, last;
  struct finish finish;
};

/* The sums of a row before a chunk: its bias, or what the chunks before this one have left. */
INLINE void start_sums(const int V, const struct pass *p, int row, const float *y, vf *sum) {
  const vf start = splat(p->finish.bias[row]);
  UNROLL for (int v = 0; v < V; v++) sum[v] = p->first ? start : load(y + v * LANES);
}

INLINE void store_sums(const int V, const struct pass *p, int row, float *y, vf *sum) {
  if (p->last) finish(V, &p->finish, row, sum);
  UNROLL for (int v = 0; v < V; v++) store(y + v * LANES, sum[v]);
}

/* The u-th of four offsets, times GROUP. */
INLINE size_t group_at(uint64_t four, int u) {
#if defined(__aarch64__)
  return (four >> (16 * u) & 0xffff) * GROUP; /* a bit field, and a shift in an addition */
#else
  return (u ? four >> (16 * u - 3) : four << 3) & 0xffff * GROUP; /* one shift and one mask */
#endif
}

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
      start_sums(V, p, row, y, sum[0]);
      UNROLL for (int s = 1; s < sums; s++)
        UNROLL for (int v = 0; v < V; v++) sum[s][v] = splat(0.0f);
      for (int j = 0; j < nonzeros / 4; j++) {
        uint64_t four;
        memcpy(&four, offsets, sizeof four);
        factors value = factors_at(values);
        UNROLL for (int u = 0; u < 4; u++) {
          const float *from = held(x + group_at(four, u));
          UNROLL for (int v = 0; v < V; v++) {
            if (v % 4 == 0) LOAD_NO_EARLIER(value);
            sum[u % sums][v] += value[u] * load(from + v * LANES);
          }
        }
        offsets += 4;
        values += 4;
      }
      /* Rows of a run have equally many left, so that this ends as predicted. */
      const int left = nonzeros % 4;
      UNROLL for (int u = 0; u < 3; u++) {
        if (u == left) break;
        const float *from = held(x + (size_t)offsets[u] * GROUP);
        float value = values[u];
        UNROLL for (int v = 0; v < V; v++) {
          if (v % 4 == 0) LOAD_NO_EARLIER(value);
          sum[u % sums][v] += value * load(from + v * LANES);
        }
      }
      offsets += left;
      values += left;
      UNROLL for (int s = sums - 1; s > 0; s--)
        UNROLL for (int v = 0; v < V; v++) sum[s / 2][v] += sum[s][v];
      store_sums(V, p, row, y, sum[0]);
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
      UNROLL for (int b = 0; b < BLOCK; b++)
        start_sums(V, p, rows[b], p->y + (size_t)rows[b] * p->stride, sum[b]);
      for (int j = 0; j < nonzeros; j++) {
        const float *from = x + (size_t)offsets[j] * GROUP;
        vf column[MOST_BLOCK_VECTORS];
        UNROLL for (int v = 0; v < V; v++) column[v] = load(from + v * LANES);
        const factors value = factors_at(values);
        UNROLL for (int b = 0; b < BLOCK; b++) {
          const vf factor = splat(value[b]);
          UNROLL for (int v = 0; v < V; v++) sum[b][v] += factor * column[v];
        }
        values += BLOCK;
      }
      offsets += nonzeros;
      /* Backwards: a group that is not full repeats its first row, which is stored last. */
      UNROLL for (int b = BLOCK - 1; b >= 0; b--)
        store_sums(V, p, rows[b], p->y + (size_t)rows[b] * p->stride, sum[b]);
    }
  }
}

static void sparse_pass(int vectors, const struct pass *p) {
  switch (vectors) {
    case 2: sparse_rows(2, p); break;
    case 4: sparse_rows(4, p); break;
#if MOST_VECTORS == 16 /* a panel at once, and groups of two vectors */
    case 6: sparse_rows(6, p); break;
    case 8: sparse_rows(8, p); break;
    case 10: sparse_rows(10, p); break;
    case 12: sparse_rows(12, p); break;
    case 14: sparse_rows(14, p); break;
    case 16: sparse_rows(16, p); break;
#else
    case 1: sparse_rows(1, p); break;
    case 3: sparse_rows(3, p); break;
#if MOST_VECTORS == 8
    case 5: sparse_rows(5, p); break;
    case 6: sparse_rows(6, p); break;
    case 7: sparse_rows(7, p); break;
    case 8: sparse_rows(8, p); break;
#endif
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

