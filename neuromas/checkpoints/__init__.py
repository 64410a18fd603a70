"""What a run leaves: where checkpoints are, how they are written and read, and what can be served of them."""
