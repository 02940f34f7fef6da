/* The blob that an export writes: a network as a list of operations, and its weights.
 *
 * It is a sequence of 32-bit words. Positions in it count blocks of 64 bytes from its beginning.
 *
 * Activations lie in one arena, in panels of up to 64 frames. A row has the frames of one channel (at
 * one frequency) in a panel. Rows begin at lines of 16 floats, so that all distances inside a panel are
 * constants, whatever the number of frames. What has one value per utterance lies before the first
 * panel, in lines with numbers below zero.
 *
 * The frames of a row lie in up to 8 groups of 8. Of `groups` groups, group v has the frames v,
 * v + groups, v + 2 groups and so on. Thus a row that is read some frames later begins some groups
 * later: a convolution over time reads whole vectors at whole groups, never across them. What lies past
 * the ends of a panel, its halo, is in groups before the first one and after the last one.
 */
#ifndef SPARSIFY_PROGRAM_H
#define SPARSIFY_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
  PANEL = 64,            /* frames of a panel, at most */
  GROUP = 8,             /* frames whose neighbours lie in the next group */
  LINE = 16,             /* floats: 64 bytes, a cache line */
  MOST_EXPRESSIONS = 64, /* lengths and other numbers that depend on the number of frames */
  MOST_SCALARS = 32,     /* registers of a rowwise operation that hold one value a row */
  BLOCK = 4,             /* output rows that share a pattern */
  BLOB_VERSION = 3
};

struct header {
  int32_t magic, version;
  int32_t feature_dim, embedding_dim, sample_rate;
  int32_t lines;              /* of a panel */
  int32_t scalar_lines;       /* before the first panel, for what has one value per utterance */
  int32_t registers;          /* vectors as long as the utterance that rowwise operations need */
  int32_t places;             /* whether an operation needs to know where each frame lies */
  int32_t decoded;            /* floats of the largest matrix that is stored in half precision */
  int32_t expressions, expressions_at;
  int32_t operations, operations_at;
  int32_t output_lines_at;    /* int32[embedding_dim] */
  int32_t front_end_at;       /* 0 where the features cannot be computed here */
};

/* For a stack machine. Each expression begins with the least value it may have, INT32_MIN if it is no
 * length; the first is the frames. */
enum expression_code { E_END, E_CONSTANT, E_FRAMES, E_ADD, E_MULTIPLY, E_FLOOR_DIVIDE, E_MAX, E_MIN, E_MODULO };

enum operation_kind { OP_INPUT, OP_ZERO, OP_HALO, OP_GATHER, OP_CONV, OP_ROWWISE, OP_ATTENTION };

/* Every operation begins so; `size` words lead to the next one. */
struct operation {
  int32_t kind, size, length; /* length: index of an expression, the frames of what is written */
};

/* `count` rows, each `stride` lines after the one before. */
struct rows {
  int32_t line, stride, count;
};

struct input_op {
  struct operation op;
  struct rows rows;
};

struct zero_op {
  struct operation op;
  struct rows rows;
  int32_t left; /* frames of the halo before each row */
};

struct halo_op {
  struct operation op;
  struct rows rows;
  int32_t left, right; /* frames */
};

enum { PAD_ZERO, PAD_REFLECT, PAD_REPLICATE };

/* Frame i of a row becomes frame stride * (i / repeat) + offset of another, or what pads it. */
struct gather_op {
  struct operation op;
  int32_t source_length, stride, offset, repeat, padding, count;
  int32_t sources_at, targets_at; /* lines: int32[count] */
};

enum { CONV_RELU_BEFORE = 1, CONV_AFFINE = 2, CONV_RESIDUAL = 4, CONV_RELU_AFTER = 8, CONV_HALF = 16 };

/* Sparse matrix times panel, at each of `frequencies` positions. */
struct conv_op {
  struct operation op;
  int32_t frequencies, outputs;
  /* In lines; a step leads to the next frequency, a stride to the next output. */
  int32_t input_step, output_line, output_step, output_stride;
  int32_t residual_line, residual_step, residual_stride;
  int32_t flags;
  int32_t parameters_at; /* float[3][outputs]: bias and, with CONV_AFFINE, scale and shift */
  int32_t chunks, chunks_at;
  struct rows halo; /* what of the output needs one: no rows where there is none */
  int32_t left, right;
};

/* The columns of a matrix that one pass reads. */
struct chunk {
  int32_t origin;   /* in groups from the panel's first line; offsets count from here */
  int32_t block;    /* 1: each row has a pattern of its own; BLOCK: that many rows share one */
  int32_t runs;     /* of rows (groups) with equally many nonzeros */
  int32_t values;   /* number of stored values, padding included */
  int32_t runs_at;  /* int32[runs][2]: nonzeros of a row, rows */
  int32_t rows_at;  /* uint16: which output row */
  int32_t offsets_at, values_at;
};

enum rowwise_code {
  R_LOAD, R_LOAD_SCALAR, R_PARAMETER, R_CONSTANT, R_EXPRESSION, R_STORE, R_STORE_SCALAR,
  R_ADD, R_SUBTRACT, R_MULTIPLY, R_DIVIDE, R_MAXIMUM, R_MINIMUM,
  R_AFFINE,
  R_RELU, R_SIGMOID, R_TANH, R_EXP, R_LOG, R_SQRT, R_ABS, R_ERF,
  R_SUM, R_MAX_OVER_TIME, R_MIN_OVER_TIME,
  R_SEGMENT_MEAN,
  R_SUM_PRODUCT, R_MULTIPLY_ADD, R_EXP_DIFFERENCE, R_SQUARED_DIFFERENCE
};

/* Registers >= SCALAR_REGISTER hold one value. */
enum { SCALAR_REGISTER = 1 << 16 };

struct instruction {
  int32_t code, target, a, b, c;
  int32_t at;          /* of parameters or lines, an expression, a constant's bits, a segment's length */
  int32_t first, step; /* where a load or store has no lines (int32[count]): those of its rows */
};

struct rowwise_op {
  struct operation op;
  int32_t count, instructions, instructions_at;
};

/* Means of values, for each frame those weighed by the softmax of its products with keys. */
struct attention_op {
  struct operation op;
  int32_t key_length, heads, width, value_width; /* rows of a head */
  float scale;                                   /* of the products */
  int32_t queries_at, keys_at;                   /* lines: int32[heads][width] */
  int32_t values_at, targets_at;                 /* lines: int32[heads][value_width] */
};

/* Frames of an utterance in groups, spread evenly over panels. */
struct geometry {
  int frames, panels, groups, each, longer; /* the first `longer` panels have one group more */
};

#endif
