"""Golden questions: what they are, the process that asks them, and how they are recorded."""
