/* Products of a convolution whose weights are mostly zero, and the gradient of those that are not.
 *
 * A weight (O, I, K...) is a matrix of O rows. Its nonzeros are listed row by row, each with the place
 * where the input that it multiplies begins: a plane of zero-padded input lies in one piece, so that
 * an offset says channel and position in the kernel. Frames are taken in vectors, as many at a time as
 * there are registers for sums; so a value is loaded once, and the input comes from a cache that holds
 * an example of a batch. Sums do not depend on the number of threads. */
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define MOST 10 /* vectors of sums; with a value and a row of input they fit 16 registers */

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* The nonzeros of a matrix. Row r has those from start[r] up to start[r + 1]. */
typedef struct {
    int64_t rows, columns;
    int32_t *start;  /* rows + 1 */
    int32_t *column; /* all that follows has an entry for each nonzero */
    int32_t *offset;
    float *value;
} Sparse;

/* Lists the nonzeros of a matrix; `offsets` has one entry for each of its columns. */
void list_nonzeros(const float *matrix, const int32_t *offsets, Sparse *sparse) {
    int32_t count = 0;
    for (int64_t row = 0; row < sparse->rows; row++, matrix += sparse->columns) {
        sparse->start[row] = count;
        for (int64_t column = 0; column < sparse->columns; column++) {
            if (matrix[column] != 0) {
                sparse->column[count] = (int32_t)column;
                sparse->offset[count] = offsets[column];
                sparse->value[count++] = matrix[column];
            }
        }
    }
    sparse->start[sparse->rows] = count;
}

/* `width` vectors of output frames of all channels, from the same frames of the input on. */
static inline __attribute__((always_inline)) void
multiply_tile(const Sparse *sparse, const float *input, float *output, int64_t stride, int64_t frames,
              const int width) {
    for (int64_t row = 0; row < sparse->rows; row++, output += stride) {
        vector sums[MOST];
        for (int i = 0; i < width; i++)
            sums[i] = (vector){0};
        for (int32_t n = sparse->start[row]; n < sparse->start[row + 1]; n++) {
            const vector *from = (const vector *)(input + sparse->offset[n]);
            for (int i = 0; i < width; i++)
                sums[i] += sparse->value[n] * from[i];
        }
        if (frames >= width * LANES)
            memcpy(output, sums, (size_t)width * sizeof(vector));
        else
            memcpy(output, sums, (size_t)frames * sizeof(float));
    }
}

/* Adds to the gradient of every nonzero the products of `width` vectors of frames. */
static inline __attribute__((always_inline)) void
correlate_tile(const Sparse *sparse, int64_t first, int64_t last, const float *input,
               const float *slopes, int64_t stride, int64_t frames, float *gradients,
               const int width) {
    for (int64_t row = first; row < last; row++) {
        vector own[MOST];
        if (frames >= width * LANES) {
            memcpy(own, slopes + row * stride, (size_t)width * sizeof(vector));
        } else { /* what lies behind the last frame does not count */
            memset(own, 0, (size_t)width * sizeof(vector));
            memcpy(own, slopes + row * stride, (size_t)frames * sizeof(float));
        }
        for (int32_t n = sparse->start[row]; n < sparse->start[row + 1]; n++) {
            const vector *from = (const vector *)(input + sparse->offset[n]);
            vector products = own[0] * from[0];
            for (int i = 1; i < width; i++)
                products += own[i] * from[i];
            float sum = 0;
            for (int i = 0; i < LANES; i++)
                sum += products[i];
            gradients[n] += sum;
        }
    }
}

#define FOR_WIDTH(width, CALL)                                                                           \
    switch (width) {                                                                                     \
    case 1: CALL(1); break;                                                                              \
    case 2: CALL(2); break;                                                                              \
    case 3: CALL(3); break;                                                                              \
    case 4: CALL(4); break;                                                                              \
    case 5: CALL(5); break;                                                                              \
    case 6: CALL(6); break;                                                                              \
    case 7: CALL(7); break;                                                                              \
    case 8: CALL(8); break;                                                                              \
    case 9: CALL(9); break;                                                                              \
    default: CALL(10);                                                                                   \
    }

/* How many vectors to take at a time, so that all pieces are about equally wide. */
static int64_t width_of(int64_t frames) {
    const int64_t vectors = (frames + LANES - 1) / LANES, pieces = (vectors + MOST - 1) / MOST;
    return pieces ? (vectors + pieces - 1) / pieces : 1;
}

/* Where the examples of a batch lie. Reading goes up to `slack` entries beyond the end of one, so the
 * last of them, as many as that takes, are copies with room behind them. */
typedef struct {
    const float *examples, *copies;
    int64_t count, copied, stride, size;
} Batch;

const int64_t slack = MOST * LANES;

static const float *example_of(const Batch *batch, int64_t example) {
    const int64_t copy = example - (batch->count - batch->copied);
    return copy < 0 ? batch->examples + example * batch->stride : batch->copies + copy * batch->size;
}

/* output (batch, rows, frames) = sparse * batch. */
void multiply(const Sparse *sparse, const Batch *batch, float *output, int64_t frames, int threads) {
    const int64_t width = width_of(frames);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t example = 0; example < batch->count; example++) {
        const float *from = example_of(batch, example);
        float *to = output + example * sparse->rows * frames;
        for (int64_t frame = 0; frame < frames; frame += width * LANES) {
#define CALL(w) multiply_tile(sparse, from + frame, to + frame, frames, frames - frame, w)
            FOR_WIDTH(width, CALL)
#undef CALL
        }
    }
}

/* gradient (rows, columns), zero but for the nonzeros, from slopes (batch, rows, frames) by the output;
 * `sums` has room for the nonzeros. */
void correlate(const Sparse *sparse, const Batch *batch, const float *slopes, float *gradient,
               float *sums, int64_t frames, int threads) {
    const int64_t width = width_of(frames), rows = sparse->rows;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t part = 0; part < threads; part++) {
        const int64_t first = rows * part / threads, last = rows * (part + 1) / threads;
        const int32_t begin = sparse->start[first], end = sparse->start[last];
        memset(sums + begin, 0, (size_t)(end - begin) * sizeof(float));
        for (int64_t example = 0; example < batch->count; example++) {
            const float *from = example_of(batch, example), *own = slopes + example * rows * frames;
            for (int64_t frame = 0; frame < frames; frame += width * LANES) {
#define CALL(w)                                                                                          \
    correlate_tile(sparse, first, last, from + frame, own + frame, frames, frames - frame, sums, w)
                FOR_WIDTH(width, CALL)
#undef CALL
            }
        }
        memset(gradient + first * sparse->columns, 0,
               (size_t)((last - first) * sparse->columns) * sizeof(float));
        for (int64_t row = first; row < last; row++)
            for (int32_t n = sparse->start[row]; n < sparse->start[row + 1]; n++)
                gradient[row * sparse->columns + sparse->column[n]] = sums[n];
    }
}
