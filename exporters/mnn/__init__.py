"""The format MNN: a graph for the runtime of that name, whose kernels pass over zeros."""
