"""One round of the wheel, from top to bottom."""
