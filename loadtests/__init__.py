"""Load on a running dosebook over real HTTP, from this machine only."""
