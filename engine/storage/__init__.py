"""Postgres: the schema and its migrations, named queries, connections, bulk copies. See README.md."""
