"""Connections to Postgres. Every wait has an end; a lost connection fails the statement under way."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import asyncpg

from engine import limits

# What a Postgres that is away or goes away raises. InternalClientError is no fault of asyncpg's alone: a
# statement that is sent in the very moment in which the connection ends meets it.
FAULTS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

# The persister's statements run over tables of which it has no statistics when it starts: index lookups for
# each row of a bounded batch are never bad, a hash of a table that has grown meanwhile is.
LOOKUPS_ONLY = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off"}
# It asks something every second. One that has stopped, or whose machine has gone without a word, loses its
# session by these, and with it the locks: another takes over, and what it does when it wakes up fails.
LOST_WHEN_SILENT = {
    "idle_session_timeout": f"{limits.OWNER_SILENT_MS_MAX}ms",
    "idle_in_transaction_session_timeout": f"{limits.OWNER_SILENT_MS_MAX}ms",
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": f"{limits.OWNER_SILENT_MS_MAX}ms",
}
PERSISTER = {**LOOKUPS_ONLY, **LOST_WHEN_SILENT}


NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


async def connect_pool(database_url: str, *, connections: int = limits.POSTGRES_CONNECTIONS_MAX) -> Any:
    """A pool for one process."""
    return await asyncpg.create_pool(
        database_url,
        min_size=1,
        max_size=connections,
        timeout=limits.POSTGRES_CONNECT_S_MAX,
        command_timeout=limits.STATEMENT_S_MAX,
    )


async def connect_alone(database_url: str, settings: Mapping[str, str] = NO_SETTINGS) -> Any:
    """One connection outside of any pool, for who must know when it is lost. ``settings`` of the session."""
    return await asyncpg.connect(
        database_url,
        timeout=limits.POSTGRES_CONNECT_S_MAX,
        command_timeout=limits.STATEMENT_S_MAX,
        server_settings={"jit": "off", **settings},
    )


def rows_of(status: str) -> int:
    """Rows that a statement touched, from its status (``INSERT 0 5``)."""
    return int(status.rpartition(" ")[2])
