"""What a run writes down: lines, events, its folder and the lock on it."""
