"""Rounds as data sets that other programs read: parquet, jsonl, Hugging Face; with a card that tells where they are from."""
