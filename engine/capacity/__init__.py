"""Where and when seats are sold: the register of centres, its hours and allocations, the sessions to open."""
