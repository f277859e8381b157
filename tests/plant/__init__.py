"""Planted bugs: each is put into a copy of the tree, and the suites that claim to see it must fail."""
