"""Which tokens of which sequences the next step computes: csrc/scheduler and its face to Python."""
