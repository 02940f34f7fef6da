"""What corrupts speech: in training, and to measure how robust a model is."""
