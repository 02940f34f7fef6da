"""Methods against each other: a grid of runs, their results, and gates on them."""
