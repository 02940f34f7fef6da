"""What counts as sparse, how much of it there is, and when there should be more."""
