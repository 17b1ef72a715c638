"""What a model says besides text: how its family writes calls and thoughts, heard and constrained."""
