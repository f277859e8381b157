"""Founds the partitions of a deployment: first the row in Postgres, then the epoch in Redis, then its note.

Idempotent, and completed by the next start if it dies between two of these. A partition that Redis had and
has no longer (or has under another epoch) is a ``PartitionLost``: it stays closed, because founding it
again would sell its seats a second time. All partitions are looked at before the first fault is raised, so
that the others can work.
"""

from typing import Any

from engine.errors import DeploymentMismatch, PartitionLost
from engine.inventory.library import load
from engine.redis.keyspace import Keyspace
from engine.storage.queries import query


async def found(connection: Any, client: Any, keyspace: Keyspace) -> dict[int, int]:
    """Load the scripts, found what is new; returns each partition's epoch. ``connection`` may be a pool.

    Raises ``DeploymentMismatch`` for another number of partitions than the database was made for,
    ``PartitionLost`` naming every partition that stays closed.
    """
    await load(client)
    await _check_deployment(connection, keyspace)
    for partition in range(keyspace.partitions):
        await connection.execute(query("partition.found"), partition)
    rows = await connection.fetch(query("partition.all"))
    lost = [words for row in rows if (words := await _found_one(connection, client, keyspace, row))]
    if lost:
        raise PartitionLost("; ".join(lost))
    return {row["partition"]: row["epoch"] for row in rows}


async def _check_deployment(connection: Any, keyspace: Keyspace) -> None:
    await connection.execute(query("deployment.found"), keyspace.partitions)
    partitions = await connection.fetchval(query("deployment.partitions"))
    if partitions != keyspace.partitions:
        raise DeploymentMismatch(
            f"the database was founded with {partitions} partition(s), this start wants"
            f" {keyspace.partitions}: set DOSEBOOK_PARTITIONS={partitions}, or use empty stores"
        )


async def _found_one(connection: Any, client: Any, keyspace: Keyspace, row: Any) -> str:
    """Found one partition if it is new; the words of the fault if it is lost."""
    partition, epoch = row["partition"], row["epoch"]
    if not row["founded"] and row["watermark"] < 0:
        await client.fcall("dosebook_found", 1, keyspace.outbox(partition), epoch)
    stored = await client.hget(keyspace.meta(partition), "epoch")
    if stored is None or int(stored) != epoch:
        has = "does not have it" if stored is None else f"has it under epoch {int(stored)}"
        return (
            f"partition {partition} stays closed: Postgres has it under epoch {epoch} with"
            f" {row['watermark'] + 1} events, Redis {has}. Start Redis with its own data again"
        )
    if not row["founded"]:
        await connection.execute(query("partition.mark_founded"), partition)
    return ""
