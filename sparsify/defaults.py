"""Numbers that hold where nobody says others, which help texts tell without importing torch."""

TOLERANCE = 1e-4
"""The largest difference between a file and its model, relative to the embeddings' scale."""
CONFIDENCE_PERCENT = 95.0
"""Level of confidence intervals."""
TOP_N = 300
"""Speakers of a cohort that AS-norm compares with."""
SENSITIVITY_LEVELS = (0.5, 0.75, 0.9, 0.95)
"""Sparsities to which every layer is pruned alone."""
FEWEST_FRAMES = 2
"""Of an utterance: the standard deviation over time needs two."""
FEWEST_ROUNDS = 6
"""Of a benchmark: with fewer there is no interval of 95 %."""
COMPARED_METHODS = ("dense", "adabreg", "linbreg", "gmp")
COMPARED_TARGETS = (0.75, 0.9, 0.95, 0.99)
COMPARED_SEEDS = (0,)
