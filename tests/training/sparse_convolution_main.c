/* Compares the code before it with loops, in arrays that are exactly as large as they must be. */
#include <stdio.h>
#include <stdlib.h>
static int32_t next = 1;
static int draw(int most) {
    next = (int32_t)((next * 69069u + 1u) & 0x7fffffff);
    return (next >> 8) % most;
}
static float *numbers(int64_t size, int share) {
    float *x = malloc((size_t)size * sizeof(float)); /* exactly, so that one more is noticed */
    for (int64_t i = 0; i < size; i++) x[i] = draw(100) < share ? draw(1000) / 500.0f - 1 : 0;
    return x;
}
int main(void) {
    for (int round = 0; round < 400; round++) {
        const int rows = 1 + draw(7), channels = 1 + draw(5), kernel = 1 + draw(3), batch = 1 + draw(3);
        const int frames = 1 + draw(300), plane = frames + kernel - 1, columns = channels * kernel;
        const int size = channels * plane;
        int32_t *offsets = malloc((size_t)columns * sizeof(int32_t));
        for (int c = 0; c < columns; c++) offsets[c] = c / kernel * plane + c % kernel;
        float *matrix = numbers(rows * columns, draw(60)), *x = numbers(batch * size, 100);
        float *slopes = numbers(batch * rows * frames, 100), *gradient = numbers(rows * columns, 0);
        float *output = numbers(batch * rows * frames, 0), *last = numbers(batch * size + slack, 0);
        const int copied = slack / size + 1 < batch ? (int)slack / size + 1 : batch;
        memcpy(last, x + (batch - copied) * size, (size_t)(copied * size) * sizeof(float));
        int count = 0;
        for (int i = 0; i < rows * columns; i++) count += matrix[i] != 0;
        const size_t room = (size_t)(count ? count : 1) * 4;
        Sparse s = {rows, columns, malloc((size_t)(rows + 1) * 4), malloc(room), malloc(room), malloc(room)};
        float *sums = malloc(room);
        Batch input = {x, last, batch, copied, size, size};
        list_nonzeros(matrix, offsets, &s);
        multiply(&s, &input, output, frames, 1 + draw(3));
        correlate(&s, &input, slopes, gradient, sums, frames, 1 + draw(3));
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) {
                double sum = 0;
                for (int b = 0; b < batch; b++)
                    for (int t = 0; t < frames; t++)
                        sum += (double)slopes[(b * rows + r) * frames + t] * x[b * size + offsets[c] + t];
                const double wrong = gradient[r * columns + c] - (matrix[r * columns + c] != 0 ? sum : 0);
                if (wrong * wrong > 1e-4) return 1;
            }
        for (int b = 0; b < batch; b++)
            for (int r = 0; r < rows; r++)
                for (int t = 0; t < frames; t++) {
                    double sum = 0;
                    for (int c = 0; c < columns; c++)
                        sum += (double)matrix[r * columns + c] * x[b * size + offsets[c] + t];
                    const double wrong = output[(b * rows + r) * frames + t] - sum;
                    if (wrong * wrong > 1e-8) return 2;
                }
        void *made[] = {offsets, matrix, x, slopes, gradient, output, last, s.start, s.column, s.offset, s.value, sums};
        for (size_t i = 0; i < sizeof made / sizeof *made; i++) free(made[i]);
    }
    return 0;
}
