"""How close to the machine's limit: each figure is a ratio within one run, with the absolutes beside it."""
