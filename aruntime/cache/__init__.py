"""Blocks of a cache and who holds them: the C++ of csrc/cache, which the scheduler drives."""
