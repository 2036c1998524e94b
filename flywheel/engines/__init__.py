"""Engines: text in, text out. Each one is imported on use."""
