"""The channels of a network: which belong together, which are dead, and what is left."""
