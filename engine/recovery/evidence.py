"""Reads everything that the audit compares: Redis, Postgres, and the acknowledgement logs.

The order makes motion harmless where it can: first the logs, then the ends of the outboxes, then (once
Postgres has reached them) Postgres, courses and guards, and the stocks last. What moves in between shows as
a difference that the next reading does not repeat.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine import limits
from engine.errors import OutboxGap
from engine.inventory import codec
from engine.outbox.feed import Feed, Position
from engine.recovery.acks import Ack
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import Command, Nodes, partition_of
from engine.storage.queries import query

Key = bytes  # a course's id or a guard's, packed as its field in Redis


class Stored(msgspec.Struct, gc=False):
    """A record of Redis and the partition in which it was found."""

    partition: int
    record: bytes


class CourseRow(msgspec.Struct, gc=False):
    """A course of Postgres with its appointments, packed as ``codec.APPOINTMENT`` in the order of doses."""

    location: int
    state: bytes
    op: bytes
    appointments: bytes = b""
    live: bytes = b""


class SessionRow(msgspec.Struct, gc=False):
    """A session of Postgres, the seats on sale, and its stock in Redis."""

    location: int
    width: int
    on_sale: bytes
    stock: bytes | None


class Outbox(msgspec.Struct, frozen=True):
    """One partition: what Postgres has of it, its epoch and last event in Redis, a gap if there is one."""

    committed: Position
    epoch: int | None
    end: int
    gap: str


class Evidence(msgspec.Struct):
    """One reading of everything."""

    keyspace: Keyspace
    acks: list[Ack]
    outboxes: dict[int, Outbox]
    rows: dict[Key, CourseRow]
    quarantined: list[tuple[int, int, str]]
    courses: dict[Key, Stored]
    guards: dict[Key, Stored]
    sessions: dict[int, SessionRow]
    strangers: list[bytes]
    is_moving: bool = False


class Reader:
    """Reads all of Redis, and Postgres by one connection."""

    def __init__(self, connection: Any, nodes: Nodes) -> None:
        self._connection = connection
        self._nodes = nodes
        self._keyspace = nodes.keyspace
        self._feed = Feed(nodes)

    async def ends(self) -> dict[int, int]:
        """Last sequence of every outbox; -1 where there is none."""
        found = await self._feed.ends(range(self._keyspace.partitions))
        return {p: found[p].sequence if p in found else -1 for p in range(self._keyspace.partitions)}

    async def committed(self) -> dict[int, Position]:
        """Epoch and watermark of every partition, as Postgres has them."""
        rows = await self._connection.fetch(query("partition.all"))
        return {row["partition"]: Position(row["epoch"], row["watermark"]) for row in rows}

    async def read(self, acks: list[Ack]) -> Evidence:
        """Read everything once."""
        outboxes = await self._outboxes()
        rows = await self._course_rows()
        quarantined = await self._connection.fetch(query("quarantine.all"))
        courses, guards, sessions = await self._buckets()
        session_rows = await self._sessions()
        known = {
            self._keyspace.session(self._keyspace.of_location(row.location), number)
            for number, row in session_rows.items()
        }
        return Evidence(
            self._keyspace,
            acks,
            outboxes,
            rows,
            [(row["partition"], row["sequence"], row["reason"]) for row in quarantined],
            courses,
            guards,
            session_rows,
            sorted(sessions - known),
        )

    async def _outboxes(self) -> dict[int, Outbox]:
        committed = await self.committed()
        epochs = await self._epochs()
        firsts, ends = await self._feed.firsts(committed), await self.ends()
        return {
            p: Outbox(position, epochs.get(p), ends.get(p, -1), await self._gap(p, position, firsts.get(p)))
            for p, position in committed.items()
        }

    async def _epochs(self) -> dict[int, int | None]:
        """Epoch of every partition as Redis has it; None where it has none."""
        partitions = range(self._keyspace.partitions)
        replies = await self._nodes.ask([(p, ("HGET", self._keyspace.meta(p), "epoch")) for p in partitions])
        return {p: None if epoch is None else int(epoch) for p, epoch in enumerate(replies)}

    async def _gap(self, partition: int, committed: Position, first: int | None) -> str:
        """Words for a gap in what is left of an outbox, or between it and the watermark."""
        if first is None:
            return ""
        if first > committed.sequence + 1:
            return f"the outbox begins at event {first}, after what Postgres does not have yet"
        at, count = Position(committed.epoch, first - 1), limits.PERSIST_EVENTS_MAX
        while True:
            read = await self._feed.read({partition: at}, count)
            if partition in read.faults:
                return _words(read.faults[partition])
            if partition not in read.entries:
                return ""
            at = Position(at.epoch, read.entries[partition][-1].sequence)

    async def _course_rows(self) -> dict[Key, CourseRow]:
        pack = codec.COURSE.pack
        rows = {
            pack(person, kind, generation): CourseRow(location, state.encode(), op)
            for person, kind, generation, location, state, op in await self._connection.fetch(
                query("course.audited")
            )
        }
        for person, kind, generation, *appointment, live in await self._connection.fetch(
            query("appointment.audited")
        ):
            key, packed = pack(person, kind, generation), codec.APPOINTMENT.pack(*appointment)
            row = rows.get(key)
            if row is None:
                row = rows[key] = CourseRow(0, b"", b"")
            row.appointments += packed
            row.live += packed if live else b""
        return rows

    async def _buckets(self) -> tuple[dict[Key, Stored], dict[Key, Stored], set[bytes]]:
        """Course records, guards, and the names of all stocks, in one pass over the keys."""
        courses: dict[Key, Stored] = {}
        guards: dict[Key, Stored] = {}
        sessions: set[bytes] = set()
        async for keys in self._nodes.scan(b"{p*"):
            buckets: list[tuple[int, Command]] = []
            for key in keys:
                what = key[6:].partition(b":")[0]
                if what == b"session":
                    sessions.add(key)
                elif what == b"person":
                    buckets.append((partition_of(key), ("HGETALL", key)))
            for (partition, _), bucket in zip(buckets, await self._nodes.ask(buckets), strict=True):
                for field, record in bucket.items():
                    into = guards if codec.is_guard(field) else courses
                    into[field] = Stored(partition, record)
        return courses, guards, sessions

    async def _sessions(self) -> dict[int, SessionRow]:
        sessions: dict[int, SessionRow] = {}
        last = 0
        while True:
            rows = await self._connection.fetch(
                query("session.stocks_after"), last, limits.AUDIT_SESSIONS_MAX
            )
            if not rows:
                return sessions
            last = rows[-1]["id"]
            places = {row["id"]: self._keyspace.of_location(row["location"]) for row in rows}
            stocks = await self._stocks(places)
            for number, location, lines, seats in rows:
                sessions[number] = SessionRow(location, (lines + 7) // 8, seats, stocks[number])

    async def _stocks(self, places: Mapping[int, int]) -> dict[int, bytes | None]:
        """The stocks of sessions, given with their partitions: one MGET for each partition."""
        of: defaultdict[int, list[int]] = defaultdict(list)
        for session, partition in places.items():
            of[partition].append(session)
        session_at = self._keyspace.session
        values = await self._nodes.ask(
            [(p, ("MGET", *(session_at(p, session) for session in sessions))) for p, sessions in of.items()]
        )
        return {
            s: v for sessions, got in zip(of.values(), values, strict=True) for s, v in _paired(sessions, got)
        }


def _paired(sessions: Iterable[int], values: Iterable[bytes | None]) -> Iterable[tuple[int, bytes | None]]:
    return zip(sessions, values, strict=True)


def _words(gap: OutboxGap) -> str:
    return str(gap).partition(": ")[2]
