"""Founding partitions, sweeping stale claims, and the audit that compares everything with everything."""
