"""Reads everything that the audit compares: Redis, Postgres, and the acknowledgement logs.

The order makes motion harmless where it can: first the logs, then the ends of the outboxes, then (once
Postgres has reached them) Postgres, courses and guards, and the stocks last. What moves in between shows as
a difference that the next reading does not repeat.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from engine import limits
from engine.domain.course import HERE
from engine.errors import OutboxGap
from engine.inventory import codec
from engine.outbox.feed import Feed, Position
from engine.recovery.acks import Ack
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import Command, Nodes, partition_of
from engine.storage.queries import query

GIVEN_BACK = b"x"
Key = bytes  # a course's id or a guard's, packed as its field in Redis
# Who has a seat: its place (partition, or HERE in its course's home), then the field that it has as a part.
Owner = bytes


class Stored(msgspec.Struct, gc=False):
    """A record of Redis and the partition in which it was found."""

    partition: int
    record: bytes


class CourseRow(msgspec.Struct, gc=False):
    """A course of Postgres; appointments are packed as ``codec.APPOINTMENT``, in the order of doses.

    ``appointments`` are those that it has, or had when it ended; ``live`` the taken seats in its home.
    No ``state``: Postgres has seats of a course that it does not have.
    """

    location: int
    state: bytes
    op: bytes
    revision: int = 0
    until_ms: int = 0
    given: tuple[int, int] = (0, 0)
    appointments: bytes = b""
    live: bytes = b""

    @property
    def is_live(self) -> bool:
        """Booked or held."""
        return self.state in codec.LIVE_STATES

    @property
    def last_revision(self) -> int:
        """The last revision in which the course had its appointments."""
        return self.revision if self.is_live else self.revision - 1


class PartRow(msgspec.Struct, gc=False):
    """A seat of Postgres that is taken, in another partition than its course's home."""

    session: int
    slot: int
    seat: int


class SessionRow(msgspec.Struct, gc=False):
    """A session of Postgres, the seats on sale, and its stock in Redis."""

    location: int
    width: int
    on_sale: bytes
    stock: bytes | None


class Outbox(msgspec.Struct, frozen=True):
    """One partition: what Postgres has of it, its epoch and last event in Redis, a gap if there is one.

    ``now_ms``: its clock.
    """

    committed: Position
    epoch: int | None
    now_ms: int
    end: int
    gap: str


class Evidence(msgspec.Struct):
    """One reading of everything."""

    keyspace: Keyspace
    acks: list[Ack]
    outboxes: dict[int, Outbox]
    rows: dict[Key, CourseRow]
    part_rows: dict[Owner, PartRow]
    quarantined: list[tuple[int, int, str]]
    courses: dict[Key, Stored]
    guards: dict[Key, Stored]
    parts: dict[Owner, Stored]
    holds: dict[tuple[int, Key], int]
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
        rows, part_rows = await self._course_rows()
        quarantined = await self._connection.fetch(query("quarantine.all"))
        buckets = await self._buckets()
        holds = await self._holds()
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
            part_rows,
            [(row["partition"], row["sequence"], row["reason"]) for row in quarantined],
            buckets.courses,
            buckets.guards,
            buckets.parts,
            holds,
            session_rows,
            sorted(buckets.stocks - known),
        )

    async def _outboxes(self) -> dict[int, Outbox]:
        committed = await self.committed()
        epochs, clocks = await self._epochs(), await self._clocks()
        firsts, ends = await self._feed.firsts(committed), await self.ends()
        return {
            p: Outbox(
                position,
                epochs.get(p),
                clocks.get(p, 0),
                ends.get(p, -1),
                await self._gap(p, position, firsts.get(p)),
            )
            for p, position in committed.items()
        }

    async def _epochs(self) -> dict[int, int | None]:
        """Epoch of every partition as Redis has it; None where it has none."""
        partitions = range(self._keyspace.partitions)
        replies = await self._nodes.ask([(p, ("HGET", self._keyspace.meta(p), "epoch")) for p in partitions])
        return {p: None if epoch is None else int(epoch) for p, epoch in enumerate(replies)}

    async def _clocks(self) -> dict[int, int]:
        """Every partition's clock in ms, as a script would read it now (scripts/step.lua)."""
        partitions = range(self._keyspace.partitions)
        stored = await self._nodes.ask(
            [(p, ("HMGET", self._keyspace.meta(p), "clock", "host")) for p in partitions]
        )
        times = await self._nodes.ask([(p, ("TIME",)) for p in partitions])
        return {p: _clock(stored[p], times[p]) for p in partitions}

    async def _holds(self) -> dict[tuple[int, Key], int]:
        """When each hold ends, by its partition and course."""
        partitions = range(self._keyspace.partitions)
        replies = await self._nodes.ask(
            [(p, ("ZRANGE", self._keyspace.holds(p), 0, -1, "WITHSCORES")) for p in partitions]
        )
        return {
            (p, key): int(until_ms)
            for p, reply in zip(partitions, replies, strict=True)
            for key, until_ms in zip(reply[::2], reply[1::2], strict=True)
        }

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

    async def _course_rows(self) -> tuple[dict[Key, CourseRow], dict[Owner, PartRow]]:
        pack = codec.COURSE.pack
        rows = {
            pack(person, kind, generation): CourseRow(
                location, state.encode(), op, revision, until_ms, (vaccine, day)
            )
            for person, kind, generation, location, state, op, revision, until_ms, vaccine, day in (
                await self._connection.fetch(query("course.audited"))
            )
        }
        parts: dict[Owner, PartRow] = {}
        for person, kind, generation, *seat in await self._connection.fetch(query("appointment.audited")):
            _add(rows, parts, pack(person, kind, generation), seat)
        return rows, parts

    async def _buckets(self) -> "_Buckets":
        """Courses, guards, parts, and the names of all stocks, in one pass over the keys."""
        found = _Buckets({}, {}, {}, set())
        async for keys in self._nodes.scan(b"{p*"):
            buckets: list[tuple[int, Command]] = []
            for key in keys:
                what = key[6:].partition(b":")[0]
                if what == b"session":
                    found.stocks.add(key)
                elif what == b"person":
                    buckets.append((partition_of(key), ("HGETALL", key)))
            for (partition, _), bucket in zip(buckets, await self._nodes.ask(buckets), strict=True):
                for field, record in bucket.items():
                    found.add(partition, field, record)
        return found

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


class _Buckets(NamedTuple):
    """What the keys of all partitions hold."""

    courses: dict[Key, Stored]
    guards: dict[Key, Stored]
    parts: dict[Owner, Stored]
    stocks: set[bytes]

    def add(self, partition: int, field: bytes, record: bytes) -> None:
        """A field of a bucket."""
        stored = Stored(partition, record)
        if codec.is_part(field):
            # One that was given back has no seat; it stands there so that no late copy sets it aside again.
            if record[:1] != GIVEN_BACK:
                self.parts[bytes([partition]) + field] = stored
        else:
            (self.guards if codec.is_guard(field) else self.courses)[field] = stored


def owner_of(course: Key, place: int, dose: int, revision: int) -> Owner:
    """Who has a seat: one dose of one revision of a course, there."""
    return bytes([place]) + codec.part_field(codec.PartId(codec.course_field(course), dose, revision))


def _add(rows: dict[Key, CourseRow], parts: dict[Owner, PartRow], key: Key, columns: Sequence[Any]) -> None:
    """Add a row of ``appointment.audited`` to its course, and to the parts if it is one."""
    dose, place, revision, session, slot, seat, live, joined, left_revision = columns
    row = rows.get(key)
    if row is None:
        row = rows[key] = CourseRow(0, b"", b"")
    packed = codec.APPOINTMENT.pack(dose, place, revision, session, slot, seat)
    if joined and (left_revision is None or left_revision > row.last_revision):
        row.appointments += packed
    if live and place == HERE:
        row.live += packed
    elif live:
        parts[owner_of(key, place, dose, revision)] = PartRow(session, slot, seat)


def _clock(stored: Sequence[bytes | None], time: tuple[int, int] | Sequence[Any]) -> int:
    now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
    clock, host = (None if value is None else int(value) for value in stored)
    if host is None:
        return max(now_ms, clock or 0)
    return max(now_ms - host, 0) + (clock or 0)


def _paired(sessions: Iterable[int], values: Iterable[bytes | None]) -> Iterable[tuple[int, bytes | None]]:
    return zip(sessions, values, strict=True)


def _words(gap: OutboxGap) -> str:
    return str(gap).partition(": ")[2]
