"""Founds the partitions of a deployment: first the row in Postgres, then the epoch in Redis, then its note.

Idempotent, and completed by the next start if it dies between two of these. Partitions that are there are
compared with Postgres and certified (``engine/outbox/certify.py``). One that Redis had and has no longer, or
has of another epoch or an older state, is a ``PartitionLost``: it stays closed, because founding it again
would sell its seats a second time. All partitions are looked at before the fault is raised, so that the
others can work.
"""

from typing import Any

from engine.errors import DeploymentMismatch, PartitionLost
from engine.inventory.library import load
from engine.outbox.certify import certify
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import Nodes
from engine.storage.queries import query


async def found(connection: Any, nodes: Nodes) -> dict[int, int]:
    """Load the scripts, found what is new; returns each partition's epoch. ``connection`` may be a pool.

    Raises ``DeploymentMismatch`` for another number of partitions than the database was made for,
    ``PartitionLost`` naming every partition that stays closed.
    """
    keyspace = nodes.keyspace
    await load(nodes)
    await _check_deployment(connection, keyspace)
    for partition in range(keyspace.partitions):
        await connection.execute(query("partition.found"), partition)
    rows = await connection.fetch(query("partition.all"))
    for row in rows:
        if not row["founded"] and row["watermark"] < 0:
            partition = row["partition"]
            await nodes.one(partition, "FCALL", "dosebook_found", 1, keyspace.outbox(partition), row["epoch"])
    verdict = await certify(connection, nodes)
    for row in rows:
        if not row["founded"] and row["partition"] not in {*verdict.doubts, *verdict.away}:
            await connection.execute(query("partition.mark_founded"), row["partition"])
    if verdict.doubts or verdict.away:
        raise PartitionLost("; ".join([*verdict.doubts.values(), *verdict.away.values()]))
    return {row["partition"]: row["epoch"] for row in rows}


async def _check_deployment(connection: Any, keyspace: Keyspace) -> None:
    await connection.execute(query("deployment.found"), keyspace.partitions)
    partitions = await connection.fetchval(query("deployment.partitions"))
    if partitions != keyspace.partitions:
        raise DeploymentMismatch(
            f"the database was founded with {partitions} partition(s), this start wants"
            f" {keyspace.partitions}: set DOSEBOOK_PARTITIONS={partitions}, or use empty stores"
        )
