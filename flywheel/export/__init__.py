"""Rounds as datasets for other programs: parquet, jsonl, Hugging Face; with a card that states their provenance."""
