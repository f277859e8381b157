"""Certifies Redis: lets its process sell in the partitions whose data are at least what Postgres has of them.

A certificate is the `run_id` of one server process, in Postgres and in the partition's `meta`. The scripts
compare the latter with the process they run in, in every call; so a Redis that was restarted, replaced or
failed over sells nothing until somebody has been here, however old its data are, and no caller's race with
the restart can sell anything. Within one process data do not grow older, but for FLUSHALL, which takes the
epoch away as well.

A partition is compared by its epoch, its outbox' end against the watermark, the digest of the entry at the
watermark, which is never trimmed, and the persister's mark: guards are claimed without an event of their
partition, and before the persister commits a course it leaves a mark where the course's guard is
(``rounds.py``). A copy with the mark has the claim. What does not agree stays closed, alone; the words say
why. Postgres learns of a certificate first. Dying in between loses nothing: the next one compares again.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from engine.outbox.feed import Position, digest_of, end_of
from engine.redis.keyspace import Keyspace
from engine.storage.queries import query

CERTIFY = "dosebook_certify"


class Verdict(msgspec.Struct, frozen=True):
    """Where Postgres is in every partition, which of them stay closed and why, and the process asked."""

    positions: dict[int, Position]
    marks: dict[int, int]
    doubts: dict[int, str]
    run_id: str


class _Seen(msgspec.Struct, frozen=True):
    """What Redis has of a partition; ``entries``: the one at the watermark, and the next."""

    epoch: int | None
    mark: int
    end: Position | None
    entries: list[tuple[bytes, Mapping[bytes, bytes]]]


async def run_id_of(client: Any) -> str:
    """The server process that this client reaches."""
    return str((await client.info("server"))["run_id"])


async def certify(connection: Any, client: Any, keyspace: Keyspace) -> Verdict:
    """Compare every partition that Postgres knows, certify those that agree. ``connection`` may be a pool."""
    verdict = await compare(connection, client, keyspace)
    good = [p for p in verdict.positions if p not in verdict.doubts]
    if not good:
        return verdict
    epochs = [verdict.positions[p].epoch for p in good]
    await connection.execute(query("partition.certify"), good, epochs, [verdict.run_id] * len(good))
    pipeline = client.pipeline(transaction=False)
    for partition, epoch in zip(good, epochs, strict=True):
        pipeline.fcall(CERTIFY, 1, keyspace.outbox(partition), epoch, verdict.run_id)
    for partition, reply in zip(good, await pipeline.execute(raise_on_error=False), strict=True):
        if isinstance(reply, ResponseError):
            verdict.doubts[partition] = f"partition {partition} could not be certified: {reply}"
        elif isinstance(reply, Exception):
            raise reply
    return verdict


async def compare(connection: Any, client: Any, keyspace: Keyspace) -> Verdict:
    """The same comparison; certifies nothing."""
    run_id = await run_id_of(client)
    rows = await connection.fetch(query("partition.all"))
    positions = {row["partition"]: Position(row["epoch"], row["watermark"]) for row in rows}
    seen = await _seen(client, keyspace, positions)
    doubts = {
        p: f"partition {p} stays closed: {words}"
        for row in rows
        if (words := _doubt(positions[p := row["partition"]], row["digest"], row["mark"], seen[p]))
    }
    marks = {row["partition"]: row["mark"] for row in rows}
    return Verdict(positions, marks, doubts, run_id)


async def _seen(client: Any, keyspace: Keyspace, positions: Mapping[int, Position]) -> dict[int, _Seen]:
    pipeline = client.pipeline(transaction=False)
    for partition, position in positions.items():
        pipeline.hmget(keyspace.meta(partition), "epoch", "mark")
        pipeline.execute_command("XINFO", "STREAM", keyspace.outbox(partition))
        pipeline.xrange(keyspace.outbox(partition), min=position.id, count=2)
    replies = await pipeline.execute(raise_on_error=False)
    found = {}
    for number, partition in enumerate(positions):
        meta, end, entries = replies[3 * number : 3 * number + 3]
        for reply in (meta, entries):
            if isinstance(reply, Exception):
                raise reply
        epoch, mark = meta
        found[partition] = _Seen(None if epoch is None else int(epoch), int(mark or 0), end_of(end), entries)
    return found


def _doubt(position: Position, digest: bytes | None, mark: int, seen: _Seen) -> str:
    """Why Redis may have less of this partition than Postgres; empty if it has all of it."""
    if seen.epoch != position.epoch:
        has = "does not have it" if seen.epoch is None else f"has it under epoch {seen.epoch}"
        return (
            f"Postgres has it under epoch {position.epoch} with {position.sequence + 1} events, Redis {has}."
            " Start Redis with its own data again, or run dosebook rebuild"
        )
    if seen.mark < mark:
        return f"Postgres has mark {mark}, Redis {seen.mark}: its guards are older than courses in Postgres"
    return continues(position, digest, seen.end, seen.entries)


def continues(
    position: Position,
    digest: bytes | None,
    end: Position | None,
    entries: list[tuple[bytes, Mapping[bytes, bytes]]],
) -> str:
    """Why an outbox does not go on from the watermark; ``entries`` are the first two from there on."""
    if position.sequence < 0:
        return _gap(position, entries)
    if end is None or (end.epoch, end.sequence) < (position.epoch, position.sequence):
        at = "is not there" if end is None else f"ends at {end.epoch}-{end.sequence}"
        return (
            f"Postgres has event {position.epoch}-{position.sequence}, the outbox {at}:"
            " Redis is older than Postgres"
        )
    if not entries or entries[0][0] != position.id:
        return f"the outbox does not have event {position.epoch}-{position.sequence}, which is never trimmed"
    if digest is not None and digest_of(position, entries[0][1].get(b"e", b"")) != digest:
        return f"event {position.epoch}-{position.sequence} is another one in Redis than in Postgres"
    return _gap(position, entries[1:])


def _gap(position: Position, entries: list[tuple[bytes, Mapping[bytes, bytes]]]) -> str:
    wanted = b"%d-%d" % (position.epoch, position.sequence + 1)
    if not entries or entries[0][0] == wanted:
        return ""
    return f"the outbox goes on with {entries[0][0].decode()} where {wanted.decode()} must come"
