"""Where completions are generated and scored: in this process, or by the workers of a Ray cluster."""
