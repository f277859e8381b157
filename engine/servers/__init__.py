"""Starts real servers (Redis or Valkey, PostgreSQL) and other child processes, and leaves none behind.

The room knows nothing of booking and imports no other room of the engine. Where to begin: `supervisor`
(an asyncio program with children), `redis` and `postgres` (one server each), `data_dir` (where they keep
their files), `find` (where their binaries come from), `ports` (a listening socket to hand to children).
"""
