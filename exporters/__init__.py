"""The formats of model files, one module each, and the checks that a file equals its model."""
