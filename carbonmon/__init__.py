"""carbonmon: a live power and carbon monitor for training jobs."""

__version__ = "0.1.0"
