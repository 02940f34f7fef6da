/* The steps of the Bregman optimizers on the CPU, each in one pass over memory.
 *
 * A step is limited by memory traffic: all that happens to a weight happens while it is in
 * registers. Compiled on demand for one type of weights, -DREAL=float or -DREAL=double.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 32768 /* entries that a thread takes at a time */

/* The entries of one tensor, and what differs from tensor to tensor. */
typedef struct {
    REAL *weight;
    const REAL *gradient;
    REAL *dual;          /* NULL: the weight itself moves */
    const uint8_t *mask; /* NULL: every weight may move */
    REAL *first;         /* momentum, or Adam's first moment */
    REAL *second;        /* Adam's second moment */
    int64_t size;
    double step_size;  /* Adam: lr / (1 - beta1^t) */
    double root_scale; /* Adam: 1 / sqrt(1 - beta2^t) */
} Slot;

typedef enum { PLAIN, MOMENTUM, NESTEROV, ADAM } Rule;

/* What the tensors of a parameter group share. */
typedef struct {
    double lr, decay, delta;
    double limit;          /* of the soft threshold */
    double momentum;       /* or Adam's beta1 */
    double beta2, epsilon; /* Adam */
    int32_t rule;
    int32_t prox; /* whether the weight follows the dual in this pass */
} Group;

typedef enum { DUAL_AND_WEIGHT, DUAL_ONLY, WEIGHT_ONLY, MASKED_WEIGHT } Moves;

static inline REAL soft_threshold(REAL v, REAL limit) {
    const REAL inside = v < -limit ? -limit : (v > limit ? limit : v);
    return v - inside; /* +0.0 where nothing is left, never -0.0 */
}

static inline REAL root(REAL x) {
    return sizeof(REAL) == sizeof(float) ? (REAL)sqrtf((float)x) : (REAL)sqrt((double)x);
}

/* `rule`, `moves` and `decays` are constants where this is inlined: one tight loop for each. */
static inline __attribute__((always_inline)) void step_range(const Slot *slot, const Group *group,
                                                             int64_t from, int64_t to, Rule rule,
                                                             Moves moves, int decays) {
    REAL *restrict weight = slot->weight, *restrict dual = slot->dual;
    REAL *restrict first = slot->first, *restrict second = slot->second;
    const REAL *restrict gradient = slot->gradient;
    const uint8_t *restrict mask = slot->mask;
    const REAL lr = group->lr, decay = group->decay, delta = group->delta, limit = group->limit;
    const REAL beta1 = group->momentum, beta2 = group->beta2, epsilon = group->epsilon;
    const REAL gain1 = 1 - group->momentum, gain2 = 1 - group->beta2;
    const REAL step_size = slot->step_size, root_scale = slot->root_scale;
    for (int64_t i = from; i < to; i++) {
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
            weight[i] = delta * soft_threshold(dual[i], limit);
        } else if (moves == DUAL_ONLY) {
            dual[i] -= update;
        } else {
            weight[i] -= moves == MASKED_WEIGHT && !mask[i] ? 0 : delta * update;
        }
    }
}

static void step_chunk(const Slot *slot, const Group *group, int64_t from, int64_t to) {
    const Moves moves = slot->mask    ? MASKED_WEIGHT
                        : !slot->dual ? WEIGHT_ONLY
                        : group->prox ? DUAL_AND_WEIGHT
                                      : DUAL_ONLY;
#define CASE(RULE, MOVES)                                                                          \
    case 4 * RULE + MOVES:                                                                         \
        if (group->decay != 0)                                                                     \
            step_range(slot, group, from, to, RULE, MOVES, 1);                                     \
        else                                                                                       \
            step_range(slot, group, from, to, RULE, MOVES, 0);                                     \
        break;
#define CASES(RULE)                                                                                \
    CASE(RULE, DUAL_AND_WEIGHT) CASE(RULE, DUAL_ONLY) CASE(RULE, WEIGHT_ONLY) CASE(RULE, MASKED_WEIGHT)
    switch (4 * group->rule + moves) { CASES(PLAIN) CASES(MOMENTUM) CASES(NESTEROV) CASES(ADAM) }
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

/* Moves duals or weights along the gradients, and the weights after their duals if wanted. */
void step(const Slot *slots, int64_t tensors, int threads, const Group *group) {
    const int64_t chunks = count_chunks(slots, tensors);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t from, to;
        const Slot *slot = find_chunk(slots, k, &from, &to);
        step_chunk(slot, group, from, to);
    }
}

/* The weights from their duals, w = delta * S_limit(v). */
void prox(const Slot *slots, int64_t tensors, int threads, const Group *group) {
    const int64_t chunks = count_chunks(slots, tensors);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t from, to;
        const Slot *slot = find_chunk(slots, k, &from, &to);
        REAL *restrict weight = slot->weight;
        const REAL *restrict dual = slot->dual;
        const REAL delta = group->delta, limit = group->limit;
        for (int64_t i = from; i < to; i++)
            weight[i] = delta * soft_threshold(dual[i], limit);
    }
}

#define BLOCK 64

/* The bit pattern of |v|/divisor: nonnegative floats are ordered like their patterns. */
static inline uint64_t pattern(REAL v, REAL divisor) {
    if (sizeof(REAL) == sizeof(float)) {
        const float threshold = fabsf((float)v) / (float)divisor;
        uint32_t bits;
        memcpy(&bits, &threshold, sizeof bits);
        return bits;
    }
    const double threshold = fabs((double)v) / (double)divisor;
    uint64_t bits;
    memcpy(&bits, &threshold, sizeof bits);
    return bits;
}

/* Adds to `counts` the number of entries |dual|/scale whose bit patterns lie below the bins, in each
 * of `bins` intervals of 2^width from `start`, and above them. Returns 0 if memory is short. */
int histogram(const Slot *slots, int64_t tensors, int threads, double scale, uint64_t start,
              int width, int64_t bins, int64_t *counts) {
    const int64_t chunks = count_chunks(slots, tensors);
    const uint64_t end = start + ((uint64_t)bins << width); /* up to 2^63 */
    const REAL divisor = scale;
    int complete = 1;
#pragma omp parallel num_threads(threads)
    {
        int64_t *own = calloc(bins, sizeof *own), below = 0, above = 0;
        if (!own) {
#pragma omp atomic write
            complete = 0;
        }
#pragma omp for schedule(static)
        for (int64_t k = 0; k < chunks; k++) {
            int64_t from, to;
            const REAL *restrict dual = find_chunk(slots, k, &from, &to)->dual;
            for (int64_t i = from; own && i < to; i += BLOCK) {
                /* Most blocks lie outside narrow bins: count those without a branch per entry. */
                const int64_t stop = i + BLOCK < to ? i + BLOCK : to;
                int64_t low = 0, high = 0;
                for (int64_t j = i; j < stop; j++) {
                    const uint64_t bits = pattern(dual[j], divisor);
                    low += bits < start;
                    high += bits >= end;
                }
                below += low;
                above += high;
                for (int64_t j = i; low + high < stop - i && j < stop; j++) {
                    const uint64_t bits = pattern(dual[j], divisor);
                    if (bits >= start && bits < end)
                        own[(bits - start) >> width]++;
                }
            }
        }
#pragma omp critical
        {
            counts[0] += below;
            counts[bins + 1] += above;
            for (int64_t b = 0; own && b < bins; b++)
                counts[b + 1] += own[b];
        }
        free(own);
    }
    return complete;
}
