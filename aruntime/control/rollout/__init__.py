"""Rollouts: the pure machine and its stages, the gates and their statistics, and what drives them."""
