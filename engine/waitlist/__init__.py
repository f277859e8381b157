"""Waits for freed seats: entries, and offers that cannot oversell. See README.md."""
