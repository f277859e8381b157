"""Seats, courses and guards in Redis: the scripts, their packed layout, and the way to call them."""
