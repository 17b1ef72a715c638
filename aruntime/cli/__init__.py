"""The command line: the composition root of each process."""
