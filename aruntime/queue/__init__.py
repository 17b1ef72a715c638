"""What crosses between processes: rings, slots' words, bells, shared counts, and the control socket."""
