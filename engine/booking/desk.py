"""The use cases of a booking as a process offers them: book, read, cancel, and ask what became of an op.

Checks what needs no Redis (``rules``), names the op, drives the protocol's steps through the batcher, and
turns a lost answer into ``Pending``. A caller who goes away stops nothing (``drive``).

Faults that reach the caller: ``QueueFull``, ``Backlogged`` and ``PartitionClosed`` (nothing was done),
``StepFailed`` (a broken invariant).
"""

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from hashlib import sha256
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from engine.booking.book import Request, book
from engine.booking.cancel import cancel
from engine.booking.conclude import conclude
from engine.booking.drive import start
from engine.booking.outcomes import Booked, BookOutcome, CancelOutcome, InDoubt
from engine.booking.pressure import Pressure
from engine.booking.read import find_by_op, read_course
from engine.booking.rules import OF_THE_MOMENT, Impossible, Rule, check_days, check_slots
from engine.booking.steps import Placement, Steps
from engine.domain.capacity import Session
from engine.domain.course import Course, CourseId, Kind, Op, Wish
from engine.errors import Backlogged, OutcomeUnknown
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.rules.intervals import Intervals

_WISHED = struct.Struct("<BIHIH")
_COURSE = struct.Struct("<BII")
_KEY_BYTES = 8
T = TypeVar("T")


class Pending(msgspec.Struct, frozen=True, gc=False):
    """The outcome is not known yet. ``op`` cannot happen after ``not_after_ms`` in the guard's partition."""

    person: bytes
    kind: int
    op: bytes
    not_after_ms: int


class NotBooked(msgspec.Struct, frozen=True):
    """The op booked nothing, and never will."""


class CancelPending(msgspec.Struct, frozen=True):
    """The cancellation's answer was lost. It is idempotent: ask for it again."""


class Desk:
    """One process's desk. ``zones`` gives a location's zone, ``now`` the aware instant."""

    def __init__(
        self,
        batcher: Batcher,
        keyspace: Keyspace,
        sessions: Mapping[int, Session],
        zones: Mapping[int, ZoneInfo],
        intervals: Intervals,
        now: Callable[[], datetime],
        pressure: Pressure,
    ) -> None:
        self._batcher = batcher
        self._keyspace = keyspace
        self._placement = Placement(keyspace, batcher.clocks.not_after)
        self._sessions = sessions
        self._zones = zones
        self._intervals = intervals
        self._now = now
        self._pressure = pressure
        self._running: set[asyncio.Future[Any]] = set()

    async def book(
        self, person: bytes, wishes: tuple[Wish, Wish], idempotency_key: str
    ) -> BookOutcome | Impossible | Pending:
        """Book both doses. The same key with the same wishes gets the same answer."""
        op = op_of(person, idempotency_key, b"book", _packed(wishes))
        first, second = self._sessions.get(wishes[0].session), self._sessions.get(wishes[1].session)
        if first is None or second is None:
            return Impossible(Rule.UNKNOWN_SESSION, dose=1 if first is None else 2)
        impossible = self._impossible(first, second, wishes)
        if impossible is not None:
            return await self._booked_before(impossible, person, op)
        try:
            self._pressure.admit(self._keyspace.of_location(first.location), self._keyspace.of_person(person))
        except Backlogged:
            return await self._booked_already(person, op)
        request = Request(person, Kind.PRIMARY, op, first.location, wishes)
        try:
            outcome = await self._drive(book(request, self._placement))
        except OutcomeUnknown:
            return self._pending(person, op)
        return self._pending(person, op) if isinstance(outcome, InDoubt) else outcome

    async def read(self, course: CourseId, location: int) -> Course | None:
        """The course as its partition has it now. Raises ``OutcomeUnknown`` where no answer came."""
        return await self._drive(read_course(course, location, self._placement))

    async def cancel(
        self, course: CourseId, location: int, idempotency_key: str
    ) -> CancelOutcome | CancelPending:
        """Give both seats back."""
        digest_of = _COURSE.pack(course.kind, course.generation, location)
        op = op_of(course.person, idempotency_key, b"cancel", digest_of)
        try:
            return await self._drive(cancel(course, location, op, self._placement))
        except OutcomeUnknown:
            return CancelPending()

    async def operation(self, asked: Pending) -> Course | NotBooked | Pending:
        """What became of an op. ``NotBooked`` once its deadline has passed in the guard's partition."""
        guard = self._keyspace.of_person(asked.person)
        # Heard before the guard is read: what is read after the deadline is final.
        heard = self._batcher.clocks.heard(guard)
        op = Op(asked.op[:_KEY_BYTES], asked.op[_KEY_BYTES:])
        try:
            if heard is not None and heard > asked.not_after_ms:
                return (
                    await self._drive(conclude(asked.person, asked.kind, op, self._placement)) or NotBooked()
                )
            return await self._drive(find_by_op(asked.person, asked.kind, op, self._placement)) or asked
        except OutcomeUnknown:
            return asked

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _impossible(self, first: Session, second: Session, wishes: tuple[Wish, Wish]) -> Impossible | None:
        impossible = check_slots(first, wishes[0].slot, second, wishes[1].slot)
        if impossible is not None:
            return impossible
        now = self._now()
        today = self._today(first.location, now)
        return check_days(first, wishes[0].slot, second, self._intervals, now, today)

    async def _booked_before(self, impossible: Impossible, person: bytes, op: Op) -> Booked | Impossible:
        """A wish that was possible when this very op booked it keeps its old answer."""
        if impossible.rule not in OF_THE_MOMENT:
            return impossible
        course = await self._drive(find_by_op(person, Kind.PRIMARY, op, self._placement))
        return impossible if course is None else Booked(course)

    async def _booked_already(self, person: bytes, op: Op) -> Booked:
        """A booking that is not let in, but that this very op has made before. Raises ``Backlogged``."""
        with suppress(OutcomeUnknown):
            if course := await self._drive(find_by_op(person, Kind.PRIMARY, op, self._placement)):
                return Booked(course)
        raise Backlogged("bookings are slowed down, and this op has booked nothing yet")

    def _today(self, location: int, now: datetime) -> date:
        return now.astimezone(self._zones[location]).date()

    def _pending(self, person: bytes, op: Op) -> Pending:
        """Nothing of the op is sent later than now, so nothing of it happens after this deadline."""
        not_after_ms = self._batcher.clocks.not_after(self._keyspace.of_person(person))
        return Pending(person, Kind.PRIMARY, op.id, not_after_ms)

    def _drive(self, steps: Steps[T]) -> "asyncio.Future[T]":
        outcome = start(steps, self._batcher)
        self._running.add(outcome)
        outcome.add_done_callback(self._running.discard)
        return outcome


def op_of(person: bytes, idempotency_key: str, act: bytes, canonical: bytes) -> Op:
    """The op of a write: what was asked, by whom, under which key."""
    key = sha256(person + idempotency_key.encode()).digest()[:_KEY_BYTES]
    return Op(key, sha256(act + b"\0" + person + canonical).digest()[:_KEY_BYTES])


def _packed(wishes: Sequence[Wish]) -> bytes:
    first, second = wishes
    return _WISHED.pack(Kind.PRIMARY, first.session, first.slot, second.session, second.slot)
