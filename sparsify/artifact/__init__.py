"""A trained model on disk: written, read, and checked against what was written."""
