"""Held-out sampling, statistics and the verdict."""
