"""Where courses begin: booked or held, for one person or a household; and what became of an op.

Checks what needs no Redis (``engine.rules``), names the op, drives the protocol's steps, and turns a lost
answer into ``Pending``. A caller who goes away stops nothing (``drive``).

Faults that reach the caller: ``QueueFull``, ``Backlogged`` and ``PartitionClosed`` (nothing was done),
``StepFailed`` (a broken invariant).
"""

import struct
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from engine.booking.aside import Away
from engine.booking.book import Request, Seeker, book
from engine.booking.conclude import conclude
from engine.booking.office import Office, op_from, op_of
from engine.booking.outcomes import Booked, InDoubt, Reason, Refused
from engine.booking.read import find_by_op, find_live
from engine.domain.course import Course, CourseId, Kind, Op, Wish
from engine.domain.person import Facts, Given
from engine.errors import Backlogged, OutcomeUnknown
from engine.rules import courses, household
from engine.rules.courses import Dose, Person
from engine.rules.household import Member
from engine.rules.refusal import OF_THE_MOMENT, Refusal, Rule

_ORDERED = struct.Struct("<BI")
_APPLIED = struct.Struct("<16sBH")
_WISHED = struct.Struct("<BIH")
BOOKABLE = (Kind.PRIMARY, Kind.BOOSTER)


class Pending(msgspec.Struct, frozen=True, gc=False):
    """The outcome is not known yet. ``op`` cannot happen after ``not_after_ms`` in the guard's partition."""

    person: bytes
    kind: int
    op: bytes
    not_after_ms: int


class NotBooked(msgspec.Struct, frozen=True):
    """The op booked nothing, and never will."""


class Applicant(msgspec.Struct, frozen=True):
    """One person of an order: who, what rules know of them, and a slot for each dose, dose 1 first."""

    person: bytes
    facts: Facts
    wishes: tuple[Wish, ...]
    given: Given | None = None


class Order(msgspec.Struct, frozen=True):
    """What is asked for: courses of one kind for these people, all or none.

    ``hold_ms`` 0 books them. ``instead``: the hold of an offer that makes room.
    """

    applicants: tuple[Applicant, ...]
    kind: Kind = Kind.PRIMARY
    hold_ms: int = 0
    instead: CourseId | None = None


class Desk:
    """One process's desk."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def book(
        self, order: Order, idempotency_key: str, digest: bytes = b""
    ) -> Booked | Refused | Refusal | Pending:
        """Begin the courses of an order. The same key with the same order gets the same answer.

        ``digest`` names what was asked, where that is not the order itself: then the same key and digest may
        come with another order, and get what the first that succeeded has begun.
        """
        op = _op(order, idempotency_key, digest)
        doses = self._doses(order)
        if isinstance(doses, Refusal):
            return doses
        refusal = self._check(order, doses)
        if refusal is not None:
            return await self._begun_before(refusal, order, op)
        try:
            self._admit(order, doses)
        except Backlogged:
            return await self._begun_already(order, op)
        if order.hold_ms and await self._holds_another(order):
            return Refused(Reason.ALREADY_BOOKED)
        try:
            outcome = await self._office.drive(book(self._request(order, doses, op), self._office.placement))
        except OutcomeUnknown:
            return self._pending(order, op)
        return self._pending(order, op) if isinstance(outcome, InDoubt) else outcome

    async def begun(self, order: Order, idempotency_key: str, digest: bytes = b"") -> Booked | None:
        """What this op has begun before, as it stands now; None if it has begun nothing."""
        return await self._find(order, _op(order, idempotency_key, digest))

    async def operation(self, asked: Pending) -> Course | NotBooked | Pending:
        """What became of an op. ``NotBooked`` once its deadline has passed in the guard's partition."""
        office = self._office
        guard = office.keyspace.of_person(asked.person)
        # Heard before the guard is read: what is read after the deadline is final.
        heard = office.batcher.clocks.heard(guard)
        op = op_from(asked.op)
        try:
            if heard is not None and heard > asked.not_after_ms:
                course = await office.drive(conclude(asked.person, asked.kind, op, office.placement))
                return course or NotBooked()
            return await office.drive(find_by_op(asked.person, asked.kind, op, office.placement)) or asked
        except OutcomeUnknown:
            return asked

    def _doses(self, order: Order) -> list[tuple[Dose, ...]] | Refusal:
        doses = []
        for member, applicant in enumerate(order.applicants):
            found = self._office.doses(applicant.wishes)
            if isinstance(found, Refusal):
                return msgspec.structs.replace(found, member=member)
            if not found:
                return Refusal(Rule.DOSES, member=member)
            doses.append(found)
        return doses

    def _check(self, order: Order, doses: Sequence[tuple[Dose, ...]]) -> Refusal | None:
        """What rules exclude, whatever is free."""
        office = self._office
        today = office.today(doses[0][0].session.location)
        persons = [Person(applicant.facts, applicant.given) for applicant in order.applicants]
        if len(persons) == 1:
            return courses.check(office.rules, order.kind, doses[0], persons[0], office.now(), today)
        if len({applicant.person for applicant in order.applicants}) < len(persons):
            return Refusal(Rule.HOUSEHOLD_TWICE)
        members = [Member(p, order.kind, d) for p, d in zip(persons, doses, strict=True)]
        return household.check(office.rules, members, office.now(), today)

    def _admit(self, order: Order, doses: Sequence[tuple[Dose, ...]]) -> None:
        """Let it in, or raise ``Backlogged``."""
        keyspace = self._office.keyspace
        partitions = {keyspace.of_person(applicant.person) for applicant in order.applicants}
        partitions |= {keyspace.of_location(dose.session.location) for own in doses for dose in own}
        self._office.pressure.admit(*partitions, holds=order.hold_ms > 0)

    def _request(self, order: Order, doses: Sequence[tuple[Dose, ...]], op: Op) -> Request:
        """The home of all courses is the location of the first dose of the first person."""
        home = doses[0][0].session.location
        seekers = []
        for applicant, own in zip(order.applicants, doses, strict=True):
            places = [dose.session.location for dose in own]
            here = tuple(w for w, place in zip(applicant.wishes, places, strict=True) if place == home)
            away = tuple(
                Away(place, w) for w, place in zip(applicant.wishes, places, strict=True) if place != home
            )
            vaccine, day = self._office.pack_given(applicant.given)
            seekers.append(Seeker(applicant.person, order.kind, here, away, vaccine, day))
        return Request(op, home, tuple(seekers), order.hold_ms, order.instead)

    async def _begun_before(self, refusal: Refusal, order: Order, op: Op) -> Booked | Refusal:
        """A wish that was possible when this very op began its courses keeps its old answer."""
        if refusal.rule not in OF_THE_MOMENT:
            return refusal
        return await self._find(order, op) or refusal

    async def _begun_already(self, order: Order, op: Op) -> Booked:
        """An order that is not let in, but that this very op has had before. Raises ``Backlogged``."""
        with suppress(OutcomeUnknown):
            if begun := await self._find(order, op):
                return begun
        raise Backlogged("bookings are slowed down, and this op has booked nothing yet")

    async def _find(self, order: Order, op: Op) -> Booked | None:
        found = []
        for applicant in order.applicants:
            steps = find_by_op(applicant.person, order.kind, op, self._office.placement)
            course = await self._office.drive(steps)
            if course is None:
                return None
            found.append(course)
        return Booked(tuple(found))

    async def _holds_another(self, order: Order) -> bool:
        """One live hold per person: a guard keeps two of one kind apart, this those of two kinds."""
        for applicant in order.applicants:
            for kind in BOOKABLE:
                if kind == order.kind:
                    continue
                steps = find_live(applicant.person, kind, self._office.placement)
                live = await self._office.drive(steps)
                if live is not None and live.state == "held":
                    return True
        return False

    def _pending(self, order: Order, op: Op) -> Pending:
        """Nothing of the op is sent later than now, so nothing of it happens after this deadline."""
        office, person = self._office, order.applicants[0].person
        not_after_ms = office.batcher.clocks.not_after(office.keyspace.of_person(person))
        return Pending(person, order.kind, op.id, not_after_ms)


def _op(order: Order, idempotency_key: str, digest: bytes) -> Op:
    return op_of(order.applicants[0].person, idempotency_key, b"book", digest or _packed(order))


def _packed(order: Order) -> bytes:
    """The order as its op means it."""
    parts = [_ORDERED.pack(order.kind, order.hold_ms)]
    for applicant in order.applicants:
        given = applicant.given
        vaccine = b"" if given is None else given.vaccine.encode()
        day = 0 if given is None else given.day.toordinal() % 2**16
        parts.append(_APPLIED.pack(applicant.person, len(vaccine), day) + vaccine)
        parts += [_WISHED.pack(wish.dose, wish.session, wish.slot) for wish in applicant.wishes]
    return b"".join(parts)
