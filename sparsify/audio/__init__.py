"""Audio files: found, decoded, resampled, and made into features."""
