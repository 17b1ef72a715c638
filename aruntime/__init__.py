"""aruntime: a model-serving runtime for language models."""

__version__ = "0.1.0"
