"""Who writes and scores: this process, or the workers of a Ray cluster."""
