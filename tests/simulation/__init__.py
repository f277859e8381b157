"""The protocol under a seeded scheduler that crashes, delays, duplicates and reorders at every step."""
