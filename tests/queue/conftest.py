"""The fixtures of this folder."""

from queue_line import line

__all__ = ["line"]
