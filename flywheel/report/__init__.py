"""What a person reads: progress, tables, summaries."""
