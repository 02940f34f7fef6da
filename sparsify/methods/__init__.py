"""Ways to train a network of a prescribed sparsity."""
