"""The control plane: repository, replicas, front ends, and what http sees of them."""
