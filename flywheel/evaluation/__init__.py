"""Judges, diversity, and the verdict on rounds."""
