"""Latency of artifacts: engines side by side, a process each, taking turns round by round."""
