/* The steps of the Bregman optimizers on the CPU, each in one pass over memory.
 *
 * A step is limited by memory traffic: all that happens to a weight happens while it is in
 * registers. Compiled on demand for one type of weights, REAL, and unsigned integers as wide, BITS.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#define CHUNK 32768 /* entries that a thread takes at a time */
#define BLOCK 256   /* entries whose new weights wait in the cache */
#define LARGE (1 << 22) /* entries of which the caches do not keep a pass over several tensors */

/* The entries of one tensor, and what differs from tensor to tensor. */
typedef struct {
    REAL *weight;
    const REAL *gradient;
    REAL *dual;          /* NULL: the weight itself moves */
    const uint8_t *mask; /* NULL: every weight may move */
    REAL *first;         /* momentum, or Adam's first moment */
    REAL *second;        /* Adam's second moment */
    float *steps;        /* Adam: how many there have been */
    int64_t size;
} Slot;

/* What the tensors of a parameter group share. `compiled.py` reads the names here, nothing but doubles,
 * and fills each with what the group has under that name. `limit`, of the soft threshold, is negative
 * where weights do not follow their duals in this pass. */
typedef struct {
    double lr, weight_decay, momentum, nesterov, beta1, beta2, eps, delta, limit;
} Group;

const int64_t group_size = sizeof(Group);

typedef enum { PLAIN, MOMENTUM, NESTEROV, ADAM } Rule;
typedef enum { DUAL_AND_WEIGHT, DUAL_ONLY, WEIGHT_ONLY, MASKED_WEIGHT } Moves;

static inline REAL soft_threshold(REAL v, REAL limit) {
    const REAL inside = v < -limit ? -limit : (v > limit ? limit : v);
    return v - inside; /* +0.0 where nothing is left, never -0.0 */
}

/* The limit rounded towards zero, so that exactly the entries up to the limit are reached. */
static inline REAL rounded_down(double limit) {
    const REAL rounded = (REAL)limit;
    if ((double)rounded <= limit)
        return rounded;
    return sizeof(REAL) == sizeof(float) ? (REAL)nextafterf((float)rounded, 0) : rounded;
}

/* Writes the weights of a block. Nobody reads them soon if they are many: they go around the caches,
 * which spares reading the lines that are about to be overwritten, a seventh of the traffic. */
static inline void write_block(REAL *weight, const REAL *fresh, int size, int large) {
#ifdef __SSE2__
    if (large && size == BLOCK && (uintptr_t)weight % 64 == 0) {
        for (const REAL *end = fresh + BLOCK; fresh < end; fresh += 64 / sizeof(REAL)) {
#if defined(__AVX512F__)
            _mm512_stream_si512((__m512i *)weight, _mm512_load_si512(fresh));
#else
            for (int part = 0; part < 4; part++)
                _mm_stream_si128((__m128i *)weight + part, ((const __m128i *)fresh)[part]);
#endif
            weight += 64 / sizeof(REAL);
        }
        return;
    }
#endif
    memcpy(weight, fresh, size * sizeof(REAL));
}

/* Before other threads look at what `write_block` has written. */
static inline void finish_writing(void) {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

static inline REAL root(REAL x) {
    return sizeof(REAL) == sizeof(float) ? (REAL)sqrtf((float)x) : (REAL)sqrt((double)x);
}

/* Returns how many weights that follow a dual are not zero. `rule`, `moves` and `decays` are constants
 * where this is inlined: one tight loop for each. */
static inline __attribute__((always_inline)) int32_t step_range(const Slot *slot, const Group *group,
                                                             int64_t from, int64_t to, int large,
                                                             Rule rule, Moves moves, int decays) {
    REAL *restrict weight = slot->weight, *restrict dual = slot->dual;
    REAL *restrict first = slot->first, *restrict second = slot->second;
    const REAL *restrict gradient = slot->gradient;
    const uint8_t *restrict mask = slot->mask;
    const REAL lr = group->lr, decay = group->weight_decay, delta = group->delta;
    const REAL limit = rounded_down(group->limit);
    const double average = rule == ADAM ? group->beta1 : group->momentum;
    const REAL beta1 = average, beta2 = group->beta2, epsilon = group->eps;
    const REAL gain1 = 1 - average, gain2 = 1 - group->beta2;
    const double steps = rule == ADAM ? *slot->steps : 0;
    const REAL step_size = group->lr / (1 - pow(group->beta1, steps));
    const REAL root_scale = 1 / sqrt(1 - pow(group->beta2, steps));
    int32_t nonzero = 0;
    for (int64_t start = from; start < to; start += BLOCK) {
        const int size = to - start < BLOCK ? (int)(to - start) : BLOCK;
        REAL fresh[BLOCK] __attribute__((aligned(64)));
        for (int j = 0; j < size; j++) {
            const int64_t i = start + j;
            const REAL shrink = decays ? decay * weight[i] : 0;
            REAL update;
            if (rule == ADAM) {
                const REAL g = gradient[i];
                first[i] += gain1 * (g - first[i]);
                second[i] = beta2 * second[i] + gain2 * g * g;
                update = step_size * first[i] / (root(second[i]) * root_scale + epsilon) + lr * shrink;
            } else {
                update = gain1 * lr * (gradient[i] + shrink);
                if (rule != PLAIN) {
                    first[i] = beta1 * first[i] + update;
                    update = rule == NESTEROV ? beta1 * first[i] + update : first[i];
                }
            }
            if (moves == DUAL_AND_WEIGHT) {
                dual[i] -= update;
                fresh[j] = delta * soft_threshold(dual[i], limit);
                nonzero += fresh[j] != 0;
            } else if (moves == DUAL_ONLY) {
                dual[i] -= update;
            } else {
                weight[i] -= moves == MASKED_WEIGHT && !mask[i] ? 0 : delta * update;
            }
        }
        if (moves == DUAL_AND_WEIGHT)
            write_block(weight + start, fresh, size, large);
    }
    if (moves == DUAL_AND_WEIGHT)
        finish_writing();
    return nonzero;
}

static int32_t step_chunk(const Slot *slot, const Group *group, int64_t from, int64_t to, int large) {
    const Moves moves = slot->mask         ? MASKED_WEIGHT
                        : !slot->dual      ? WEIGHT_ONLY
                        : group->limit < 0 ? DUAL_ONLY
                                           : DUAL_AND_WEIGHT;
    const Rule rule = slot->second      ? ADAM
                      : !slot->first    ? PLAIN
                      : group->nesterov ? NESTEROV
                                        : MOMENTUM;
#define CASE(RULE, MOVES)                                                                          \
    case 4 * RULE + MOVES:                                                                         \
        return group->weight_decay != 0                                                            \
                   ? step_range(slot, group, from, to, large, RULE, MOVES, 1)                      \
                   : step_range(slot, group, from, to, large, RULE, MOVES, 0);
#define CASES(RULE)                                                                                \
    CASE(RULE, DUAL_AND_WEIGHT) CASE(RULE, DUAL_ONLY) CASE(RULE, WEIGHT_ONLY) CASE(RULE, MASKED_WEIGHT)
    switch (4 * rule + moves) { CASES(PLAIN) CASES(MOMENTUM) CASES(NESTEROV) CASES(ADAM) }
    return 0;
}

static int64_t chunks_of(const Slot *slot) { return (slot->size + CHUNK - 1) / CHUNK; }

/* Finds chunk `k` of all tensors: its tensor, and where in it the chunk starts and ends. */
static const Slot *find_chunk(const Slot *slots, int64_t k, int64_t *from, int64_t *to) {
    while (k >= chunks_of(slots))
        k -= chunks_of(slots++);
    *from = k * CHUNK;
    *to = *from + CHUNK < slots->size ? *from + CHUNK : slots->size;
    return slots;
}

static int64_t count_chunks(const Slot *slots, int64_t tensors) {
    int64_t total = 0;
    for (int64_t k = 0; k < tensors; k++)
        total += chunks_of(slots + k);
    return total;
}

static int is_large(const Slot *slots, int64_t tensors) {
    int64_t total = 0;
    for (int64_t k = 0; k < tensors; k++)
        total += slots[k].size;
    return total >= LARGE;
}

/* Moves duals or weights along the gradients, and the weights after their duals if wanted; returns how
 * many of these are not zero. */
int64_t step(const Slot *slots, int64_t tensors, int threads, const Group *group) {
    const int64_t chunks = count_chunks(slots, tensors);
    const int large = is_large(slots, tensors);
    for (int64_t k = 0; k < tensors; k++)
        if (slots[k].steps)
            *slots[k].steps += 1;
    int64_t nonzero = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : nonzero)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t from, to;
        const Slot *slot = find_chunk(slots, k, &from, &to);
        nonzero += step_chunk(slot, group, from, to, large);
    }
    return nonzero;
}

/* The weights from their duals, w = delta * S_limit(v); returns how many are not zero. */
int64_t prox(const Slot *slots, int64_t tensors, int threads, const Group *group) {
    const int64_t chunks = count_chunks(slots, tensors);
    const int large = is_large(slots, tensors);
    int64_t nonzero = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : nonzero)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t from, to;
        const Slot *slot = find_chunk(slots, k, &from, &to);
        const REAL delta = group->delta, limit = rounded_down(group->limit);
        int32_t count = 0;
        for (; from < to; from += BLOCK) {
            const int size = to - from < BLOCK ? (int)(to - from) : BLOCK;
            const REAL *restrict dual = slot->dual + from;
            REAL fresh[BLOCK] __attribute__((aligned(64)));
            for (int j = 0; j < size; j++) {
                fresh[j] = delta * soft_threshold(dual[j], limit);
                count += fresh[j] != 0;
            }
            write_block(slot->weight + from, fresh, size, large);
        }
        finish_writing();
        nonzero += count;
    }
    return nonzero;
}

/* The number of weights that are not zero. */
int64_t count_nonzero(const Slot *slots, int64_t tensors, int threads) {
    const int64_t chunks = count_chunks(slots, tensors);
    int64_t nonzero = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : nonzero)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t from, to;
        const REAL *restrict weight = find_chunk(slots, k, &from, &to)->weight;
        int32_t count = 0;
        for (int64_t i = from; i < to; i++)
            count += weight[i] != 0;
        nonzero += count;
    }
    return nonzero;
}

#define GLANCE 64 /* entries that are counted at once */

typedef struct {
    BITS first, span; /* of all bins */
    int width;        /* of one bin is 2^width */
    int64_t *counts, below, above;
} Bins;

/* Counts up to a block of entries |v|/scale by their bit patterns, by which nonnegative floats are
 * ordered. The quotient is rounded up, so that scale times it reaches |v|. Few entries lie within
 * narrow bins: most blocks need nothing but their two counts. */
static inline __attribute__((always_inline)) void count_block(const REAL *v, int size, double scale,
                                                              int scales, Bins *bins) {
    BITS offset[GLANCE];
    int low = 0, inside = 0;
    for (int j = 0; j < size; j++) {
        const REAL size_of_v = v[j] < 0 ? -v[j] : v[j];
        const REAL threshold = scales ? size_of_v / (REAL)scale : size_of_v;
        BITS bits;
        memcpy(&bits, &threshold, sizeof bits);
        bits &= (BITS)-1 >> 1; /* -0.0 is 0 */
        if (scales)
            bits += (double)threshold * scale < (double)size_of_v;
        offset[j] = bits - bins->first;
        low += bits < bins->first;
        inside += offset[j] < bins->span;
    }
    bins->below += low;
    bins->above += size - low - inside;
    for (int j = 0; inside && j < size; j++)
        if (offset[j] < bins->span)
            bins->counts[offset[j] >> bins->width]++;
}

/* Adds to `counts` the number of thresholds |dual|/scale whose bit patterns lie below the bins, in each
 * of `count` intervals of 2^width from `start`, and above them. Returns 0 if memory is short. */
int histogram(const Slot *slots, int64_t tensors, int threads, double scale, int64_t start,
              int width, int64_t count, int64_t *counts) {
    const int64_t chunks = count_chunks(slots, tensors);
    int complete = 1;
#pragma omp parallel num_threads(threads)
    {
        Bins own = {start, (BITS)count << width, width, calloc(count, sizeof(int64_t)), 0, 0};
        if (!own.counts) {
#pragma omp atomic write
            complete = 0;
        }
#pragma omp for schedule(static)
        for (int64_t k = 0; k < chunks; k++) {
            int64_t i, to;
            const REAL *dual = find_chunk(slots, k, &i, &to)->dual;
            for (; own.counts && scale == 1 && i + GLANCE <= to; i += GLANCE)
                count_block(dual + i, GLANCE, 1, 0, &own);
            for (; own.counts && i < to; i += GLANCE)
                count_block(dual + i, (int)(to - i < GLANCE ? to - i : GLANCE), scale, 1, &own);
        }
#pragma omp critical
        {
            counts[0] += own.below;
            counts[count + 1] += own.above;
            for (int64_t b = 0; own.counts && b < count; b++)
                counts[b + 1] += own.counts[b];
        }
        free(own.counts);
    }
    return complete;
}
