"""The channels of a network: which belong together, which are dead, and the network without them."""
