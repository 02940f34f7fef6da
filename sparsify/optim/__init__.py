"""Sparse optimizers, regularizers and λ rules, usable in any training loop."""
