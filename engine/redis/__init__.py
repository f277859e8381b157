"""How the engine speaks to Redis: key names, connections, batches. Knows nothing of bookings."""
