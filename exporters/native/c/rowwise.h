/* Element by element and over time, one row after the other: a row's registers stay in the cache. */

struct view {
  float *values;
  int step; /* LANES, or 0 for a register that holds one value in all lanes */
};

/* Vectors are as long as the utterance, rounded up; a scalar is one vector. */
static struct view view_of(const struct engine *e, int register_, float *scalars, size_t stride) {
  if (register_ >= SCALAR_REGISTER)
    return (struct view){scalars + (size_t)(register_ - SCALAR_REGISTER) * LANES, 0};
  return (struct view){e->registers + (size_t)register_ * stride, LANES};
}

#define EACH(expression)                                              \
  for (int i = 0; i < count; i++) {                                   \
    const vf x = load(a.values + (size_t)i * a.step);                 \
    const vf y = load(b.values + (size_t)i * b.step);                 \
    const vf z = load(c.values + (size_t)i * c.step);                 \
    (void)y, (void)z;                                                 \
    store(target.values + (size_t)i * target.step, (expression));     \
  }                                                                   \
  break

enum reduction { SUM, SUM_PRODUCT, MAXIMUM, MINIMUM };

INLINE vf together(enum reduction kind, vf p, vf q) {
  return kind == MAXIMUM ? vmax(p, q) : kind == MINIMUM ? vmin(p, q) : p + q;
}

/* All lanes, in every lane of the result: each round halves how many different ones there are. */
INLINE vf of_lanes(enum reduction kind, vf v) {
  UNROLL for (int different = LANES; different > 1; different /= 2)
    v = together(kind, SHUFFLE(v, v, ZIPPED_LOW), SHUFFLE(v, v, ZIPPED_HIGH));
  return v;
}

/* Which lanes of the vectors from `first` to `end` hold frames of the utterance. */
struct valid {
  int first, end;
  vi lanes[PANEL / LANES + 1];
};

/* All before the last panel does. */
static struct valid valid_of(const struct geometry *g) {
  const int groups = groups_of(g, g->panels - 1), begin = start_of(g, g->panels - 1);
  struct valid valid = {.first = begin / LANES, .end = vectors_in(g->groups)};
  for (int i = valid.first * LANES; i < valid.end * LANES; i++) {
    const int place = i - begin, frame = place % GROUP * groups + place / GROUP;
    const int is_valid = place < 0 || (place < groups * GROUP && begin + frame < g->frames);
    valid.lanes[i / LANES - valid.first][i % LANES] = -is_valid;
  }
  return valid;
}

/* Over all frames, in four parts that do not wait for each other. */
INLINE vf over_time(enum reduction kind, struct view a, struct view b, const struct valid *valid) {
  const vf neutral = splat(kind == MAXIMUM ? -INFINITY : kind == MINIMUM ? INFINITY : 0.0f);
  vf part[4] = {neutral, neutral, neutral, neutral};
  int i = 0;
  for (; i + 4 <= valid->first; i += 4)
    UNROLL for (int k = 0; k < 4; k++) {
      const vf x = load(a.values + (size_t)(i + k) * a.step);
      const vf y = kind == SUM_PRODUCT ? load(b.values + (size_t)(i + k) * b.step) : x;
      part[k] = together(kind, part[k], kind == SUM_PRODUCT ? x * y : x);
    }
  for (; i < valid->end; i++) {
    const vf x = load(a.values + (size_t)i * a.step);
    const vf y = kind == SUM_PRODUCT ? x * load(b.values + (size_t)i * b.step) : x;
    part[0] = together(kind, part[0], i < valid->first ? y : vselect(valid->lanes[i - valid->first], y, neutral));
  }
  return of_lanes(kind, together(kind, together(kind, part[0], part[1]), together(kind, part[2], part[3])));
}

#define OVER_TIME(kind)                                                          \
  store(target.values, over_time(kind, a, b, &valid));                           \
  break

/* A loop that compilers vectorise, unless they are to set errno. */
INLINE vf vsqrt(vf x) {
  float lanes[LANES];
  memcpy(lanes, &x, sizeof x);
  for (int i = 0; i < LANES; i++) lanes[i] = sqrtf(lanes[i]);
  memcpy(&x, lanes, sizeof x);
  return x;
}

static void segment_mean(const float *from, float *to, const ptrdiff_t *places, int frames, int segment) {
  for (int begin = 0; begin < frames; begin += segment) {
    const int end = frames - begin < segment ? frames : begin + segment;
    float sum = 0;
    for (int i = begin; i < end; i++) sum += from[places[i]];
    for (int i = begin; i < end; i++) to[places[i]] = sum / (float)(end - begin);
  }
}

/* Where a load or store has its row number k. */
static int line_of(const struct engine *e, const struct instruction *in, int k) {
  return in->at ? ((const int32_t *)at(e, in->at))[k] : in->first + k * in->step;
}

/* Some rows in some panels; in all of them, if something is reduced over time. */
static void rowwise_part(const struct engine *e, const struct rowwise_op *op, const struct geometry *g,
                         struct range rows, struct range panels) {
  const struct instruction *instructions = at(e, op->instructions_at);
  const size_t stride = (size_t)register_stride(g->frames);
  const int groups = (start_of(g, panels.end) - start_of(g, panels.begin)) / GROUP;
  const int vectors = vectors_in(groups);
  const struct valid valid = valid_of(g);
  float scalars[MOST_SCALARS * LANES];
  for (int k = rows.begin; k < rows.end; k++) {
    for (int n = 0; n < op->instructions; n++) {
      const struct instruction *in = instructions + n;
      const struct view target = view_of(e, in->target, scalars, stride);
      const struct view a = view_of(e, in->a, scalars, stride), b = view_of(e, in->b, scalars, stride);
      const struct view c = view_of(e, in->c, scalars, stride);
      const int count = target.step ? vectors : 1;
      switch (in->code) {
        case R_LOAD: copy_row(e, g, panels, line_of(e, in, k), target.values); break;
        case R_LOAD_SCALAR:
          store(target.values, splat(*row_of(e, 0, line_of(e, in, k))));
          break;
        case R_PARAMETER: store(target.values, splat(((const float *)at(e, in->at))[k])); break;
        case R_CONSTANT: {
          float constant;
          memcpy(&constant, &in->at, sizeof constant);
          store(target.values, splat(constant));
          break;
        }
        case R_EXPRESSION: store(target.values, splat((float)e->expressions[in->at])); break;
        case R_STORE: {
          const int line = line_of(e, in, k);
          for (int p = panels.begin; p < panels.end; p++) {
            float *to = row_of(e, p, line);
            const int begin = start_of(g, p) - start_of(g, panels.begin);
            const float *from = a.values + (size_t)(a.step / LANES) * begin;
            for (int v = 0; v < vectors_in(groups_of(g, p)); v++)
              store(to + v * LANES, load(from + (size_t)v * a.step));
          }
          break;
        }
        case R_STORE_SCALAR:
          store(row_of(e, 0, line_of(e, in, k)), load(a.values));
          break;
        case R_ADD: EACH(x + y);
        case R_SUBTRACT: EACH(x - y);
        case R_MULTIPLY: EACH(x * y);
        case R_DIVIDE: EACH(x / y);
        case R_MAXIMUM: EACH(vmax(x, y));
        case R_MINIMUM: EACH(vmin(x, y));
        case R_AFFINE: {
          const float *parameters = at(e, in->at);
          const float scale = parameters[k], shift = parameters[op->count + k];
          EACH(x * scale + shift);
        }
        case R_RELU: EACH(relu(x));
        case R_SIGMOID: EACH(vsigmoid(x));
        case R_TANH: EACH(vtanh(x));
        case R_EXP: EACH(vexp(x));
        case R_LOG: EACH(vlog(x));
        case R_SQRT: EACH(vsqrt(x));
        case R_ABS: EACH((vf)((vi)x & 0x7fffffff));
        case R_ERF: EACH(verf(x));
        case R_SUM: OVER_TIME(SUM);
        case R_MAX_OVER_TIME: OVER_TIME(MAXIMUM);
        case R_MIN_OVER_TIME: OVER_TIME(MINIMUM);
        case R_SUM_PRODUCT: OVER_TIME(SUM_PRODUCT);
        case R_MULTIPLY_ADD: EACH(x * y + z);
        case R_EXP_DIFFERENCE: EACH(vexp(x - y));
        case R_SQUARED_DIFFERENCE: EACH((x - y) * (x - y));
        case R_SEGMENT_MEAN: segment_mean(a.values, target.values, e->places, g->frames, in->at); break;
      }
    }
  }
}

/* Whether panels have nothing to do with each other. */
static int is_by_panel(const struct instruction *instructions, int count) {
  for (int n = 0; n < count; n++) switch (instructions[n].code) {
      case R_SUM:
      case R_SUM_PRODUCT:
      case R_MAX_OVER_TIME:
      case R_MIN_OVER_TIME:
      case R_SEGMENT_MEAN:
      case R_STORE_SCALAR: return 0;
    }
  return 1;
}

static void run_rowwise(const struct engine *e, const struct rowwise_op *op) {
  const struct geometry g = geometry_of(e, op->op.length);
  const struct instruction *instructions = at(e, op->instructions_at);
  if (g.panels >= e->task->threads && is_by_panel(instructions, op->instructions)) {
    /* As convolutions share the work: what a thread reads, it has written. */
    rowwise_part(e, op, &g, (struct range){0, op->count}, share(e, g.panels));
    return;
  }
  for (int n = 0; n < op->instructions; n++)
    if (instructions[n].code == R_SEGMENT_MEAN) list_places(e, &g);
  rowwise_part(e, op, &g, share(e, op->count), (struct range){0, g.panels});
}
