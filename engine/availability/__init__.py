"""What is free, in each API process's own memory: the board, its feed, and the search over it."""
