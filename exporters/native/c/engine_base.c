/* For any processor: SSE2, NEON and WASM have vectors of four floats. */
#include <math.h>
#include <string.h>
#define LANES 4
#define RUN sparsify_run_base
#include "engine.h"
