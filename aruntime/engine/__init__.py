"""One replica of a model version: its loop, its step, its sampler. Sees token ids, never text."""
