"""Faults strike the whole system under load; a checker that knows no other code judges what is left."""
