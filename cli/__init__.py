"""The `sparsify` command line."""
