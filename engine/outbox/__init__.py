"""From the outboxes to Postgres: the feed of events, their folding, the persister."""
