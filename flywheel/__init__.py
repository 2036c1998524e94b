"""A synthetic-data flywheel using best-of-N."""

__version__ = "0.1.0"
