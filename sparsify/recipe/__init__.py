"""What a training is told: the recipe, its sections, and their validation."""
