"""Speaker verification: trials, scores and error rates."""
