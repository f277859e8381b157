"""The epochs of the partitions, which every caller of a script has to know."""

import asyncio

import asyncpg

from engine import limits
from engine.storage.pool import connect_alone
from engine.storage.queries import query


async def epochs_when_founded(database_url: str, partitions: int) -> dict[int, int]:
    """Epoch by partition, waiting for Postgres to answer and for the partitions to be founded."""
    while True:
        try:
            epochs = await _epochs(database_url)
        except (asyncpg.PostgresError, OSError, TimeoutError):
            epochs = {}
        if len(epochs) == partitions:
            return epochs
        await asyncio.sleep(limits.RECONNECT_S_MAX)


async def _epochs(database_url: str) -> dict[int, int]:
    connection = await connect_alone(database_url)
    try:
        return {row["partition"]: row["epoch"] for row in await connection.fetch(query("partition.all"))}
    finally:
        await connection.close()
