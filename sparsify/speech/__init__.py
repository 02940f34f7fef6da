"""Speech: corpora, features, augmentation, batches."""
