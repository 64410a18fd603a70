"""Running programs that nobody has read: two locked processes, one with the program, one with its tests."""
