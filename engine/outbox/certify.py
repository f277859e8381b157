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

On a cluster each partition is compared on the master that has it now. One whose master does not answer is
``away``: nothing is known of it, and the others go on.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from engine.errors import PartitionClosed
from engine.inventory import codec
from engine.outbox.feed import Position, digest_of, end_of
from engine.redis.nodes import ELSEWHERE, FAULTS, Command, Nodes
from engine.storage.queries import query

CERTIFY = "dosebook_certify"


class Verdict(msgspec.Struct, frozen=True):
    """Where Postgres is in every partition, and what the comparison said.

    ``doubts``: those that Redis may have less of than Postgres, and why; they stay closed. ``away``: those
    that could not be asked or certified now, and why; they are asked again. ``run_ids``: the process that
    each of the others was compared in.
    """

    positions: dict[int, Position]
    marks: dict[int, int]
    doubts: dict[int, str]
    away: dict[int, str]
    run_ids: dict[int, str]


class _Seen(msgspec.Struct, frozen=True):
    """What Redis has of a partition.

    ``entries``: the one at the watermark, and the next. ``layout``: of the records (``scripts/layout.lua``).
    """

    epoch: int | None
    mark: int
    end: Position | None
    entries: list[tuple[bytes, Mapping[bytes, bytes]]]
    layout: bytes


async def certify(connection: Any, nodes: Nodes) -> Verdict:
    """Compare every partition that Postgres knows, certify those that agree. ``connection`` may be a pool.

    Raises what Redis raises if no server answers.
    """
    verdict = await compare(connection, nodes)
    good = [p for p in verdict.run_ids if p not in verdict.doubts]
    if not good:
        return verdict
    epochs = [verdict.positions[p].epoch for p in good]
    run_ids = [verdict.run_ids[p] for p in good]
    await connection.execute(query("partition.certify"), good, epochs, run_ids)
    calls: list[tuple[int, Command]] = [
        (p, ("FCALL", CERTIFY, 1, nodes.keyspace.outbox(p), epoch, run_id))
        for p, epoch, run_id in zip(good, epochs, run_ids, strict=True)
    ]
    for partition, reply in zip(good, await nodes.ask(calls, tolerant=True), strict=True):
        if isinstance(reply, Exception):
            verdict.away[partition] = f"partition {partition} could not be certified now: {reply}"
            del verdict.run_ids[partition]
    return verdict


async def compare(connection: Any, nodes: Nodes) -> Verdict:
    """The same comparison; certifies nothing."""
    await nodes.refresh()
    run_ids = await nodes.run_ids()
    rows = await connection.fetch(query("partition.all"))
    positions = {row["partition"]: Position(row["epoch"], row["watermark"]) for row in rows}
    marks = {row["partition"]: row["mark"] for row in rows}
    digests = {row["partition"]: row["digest"] for row in rows}
    seen = await _seen(nodes, {p: positions[p] for p in run_ids if p in positions})
    doubts = {
        p: f"partition {p} stays closed: {words}"
        for p, found in seen.items()
        if (words := _doubt(positions[p], digests[p], marks[p], found))
    }
    if positions and not seen:
        raise PartitionClosed("no Redis server answers")
    away = {p: f"partition {p}: its server does not answer" for p in positions if p not in seen}
    return Verdict(positions, marks, doubts, away, {p: run_ids[p] for p in seen})


async def _seen(nodes: Nodes, positions: Mapping[int, Position]) -> dict[int, _Seen]:
    """What Redis has; nothing of a partition whose server went away meanwhile."""
    keyspace = nodes.keyspace
    commands: list[tuple[int, Command]] = []
    for p, position in positions.items():
        outbox = keyspace.outbox(p)
        commands += [
            (p, ("HMGET", keyspace.meta(p), "epoch", "mark", "layout")),
            (p, ("XINFO", "STREAM", outbox)),
            (p, ("XRANGE", outbox, position.id, "+", "COUNT", 2)),
        ]
    replies = await nodes.ask(commands, tolerant=True)
    found = {}
    for number, partition in enumerate(positions):
        meta, end, entries = replies[3 * number : 3 * number + 3]
        if any(_is_away(reply) for reply in (meta, end, entries)):
            continue
        for reply in (meta, entries):
            if isinstance(reply, Exception):
                raise reply
        epoch, mark, layout = meta
        found[partition] = _Seen(
            None if epoch is None else int(epoch), int(mark or 0), end_of(end), entries, layout or b"1"
        )
    return found


def _is_away(reply: Any) -> bool:
    """Whether a server said nothing, or that the partition is not here."""
    if isinstance(reply, ResponseError):
        return isinstance(reply, ELSEWHERE)
    return isinstance(reply, FAULTS)


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
    return continues(position, digest, seen.end, seen.entries) or _outdated(position, seen)


def _outdated(position: Position, seen: _Seen) -> str:
    """Why the scripts cannot read what is there, though all of it is. Its events go to Postgres first."""
    at, end = (position.epoch, position.sequence), seen.end
    is_drained = end is None or (end.epoch, end.sequence) <= at
    if seen.layout == codec.LAYOUT or not is_drained:
        return ""
    return (
        f"another version has written it, in layout {seen.layout.decode()}, this one reads layout"
        f" {codec.LAYOUT.decode()}; Postgres has all of it: run dosebook rebuild"
    )


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
