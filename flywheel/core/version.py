"""The version of flywheel."""

__version__ = "0.1.0"
