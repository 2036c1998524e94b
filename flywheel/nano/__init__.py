"""The embedded default: a small world, its verifier, and how its model and data are built."""
