"""Persons: registered before anything is booked for them."""
