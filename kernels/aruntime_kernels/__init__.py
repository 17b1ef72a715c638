"""One file per operation: its contract, its launcher, its Triton kernel and its plain torch reference."""
