"""The state machine of offers: what the worker drives, and what people answer.

Each step is one transaction in Postgres or one idempotent call to the seats; what has been done is in the
lot's and the offer's state, so that anybody goes on from there after a crash between any two (README.md has
the table). Faults of either store pass through, and leave the step to be done again.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import ceil

import msgspec

from engine import limits
from engine.domain.course import Course
from engine.domain.person import Facts, Given
from engine.privacy.seal import Place, Sealer
from engine.redis.keyspace import Keyspace
from engine.storage.waitlist import Form, LotRow, OfferRow
from engine.waitlist.fit import is_too_late
from engine.waitlist.ledger import Ledger
from engine.waitlist.needs import (
    AcceptAnswer,
    Booked,
    Freed,
    HasCourse,
    HoldGone,
    Impossible,
    Member,
    Plan,
    Seats,
    SetAside,
)
from engine.waitlist.states import EntryState, LotState, OfferState

_PLACE = ("waitlist_member", "sealed")
_RANDOM_BYTES = 12
_KEY_NUMBERS = 2**32


class SealedFacts(msgspec.Struct, frozen=True):
    """What is sealed of a member."""

    facts: Facts
    given: Given | None = None


class Offered(msgspec.Struct, frozen=True):
    """An offer as its people are told it."""

    offer: OfferRow
    location: int
    kind: int
    plan: Plan
    deadline: datetime


class Accepted(msgspec.Struct, frozen=True):
    """Booked, all of them. ``courses`` is empty where the answer is older than the seats remember."""

    courses: tuple[Course, ...]


class NotAccepted(msgspec.Struct, frozen=True):
    """Nothing was booked. ``state`` is the offer's: refused, expired, gone or withdrawn."""

    state: OfferState


class UnknownOffer(msgspec.Struct, frozen=True):
    """There is no such offer, or none that anybody was told of."""


AcceptOutcome = Accepted | NotAccepted | UnknownOffer


class Offers:
    """The offers of one deployment, as one process drives them. ``now`` is the aware instant."""

    def __init__(self, ledger: Ledger, seats: Seats, sealer: Sealer, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._seats = seats
        self._sealer = sealer
        self._now = now

    async def of_entry(self, entry: int) -> Offered | None:
        """What an entry is offered now; None for nothing, or nothing yet."""
        offer = await self._ledger.offer_of(entry)
        if offer is None or offer.state == OfferState.OPENING:
            return None
        lot = await self._ledger.lot(offer.lot)
        return None if lot is None else Offered(offer, lot.location, lot.kind, plan_of(lot), lot.deadline)

    # The worker's -------------------------------------------------------------------------------------------

    async def begin(
        self, lot: LotRow, entries: Sequence[int], faults: tuple[type[Exception], ...] = ()
    ) -> LotState | None:
        """Offer a lot to these entries; the state that it has come to, None where none of them waits.

        ``faults`` of the seats leave the lot as it is, for ``drive`` to go on later.
        """
        number = await self._ledger.begin(lot, entries)
        if number is None:
            return None
        try:
            return await self.drive(number)
        except faults:
            return LotState.OPENING

    async def drive(self, number: int) -> LotState | None:
        """Take a lot as far as it can go now; the state that it has come to."""
        lot = await self._ledger.lot(number)
        if lot is not None and lot.state == LotState.OPENING:
            await self._open(lot)
            lot = await self._ledger.lot(number)
        if lot is not None and lot.state == LotState.OPEN:
            await self._run_out(lot)
            lot = await self._ledger.lot(number)
        if lot is not None and lot.state == LotState.CLOSING:
            await self._give_back(lot)
            lot = await self._ledger.lot(number)
        return None if lot is None else LotState(lot.state)

    async def _open(self, lot: LotRow) -> None:
        if is_too_late(lot.deadline, self._now()):
            # An earlier call may have set the seats aside: they are given back.
            await self._ledger.give_up(lot.id, LotState.CLOSING, self._now())
            return
        key = _hold_key(lot)
        answer = await self._seats.set_aside(lot.offer_key, lot.kind, plan_of(lot), lot.hold_ms, key)
        if not isinstance(answer, SetAside):
            await self._ledger.give_up(lot.id, LotState.CLOSED, self._now())
            return
        booked = await self._booked(await self._ledger.opening(lot.id), lot.kind)
        if is_too_late(lot.deadline, self._now()):
            await self._ledger.give_up(lot.id, LotState.CLOSING, self._now())
            return
        await self._ledger.open(lot.id, booked, self._now())

    async def _booked(self, offered: Sequence[tuple[int, tuple[bytes, ...]]], kind: int) -> list[int]:
        """The entries of which somebody has been booked meanwhile: asked last, right before they are told."""
        people = [(entry, person) for entry, members in offered for person in members]
        asked = (self._seats.has_live_course(person, kind) for _, person in people)
        told = await asyncio.gather(*asked)
        return sorted({entry for (entry, _), is_booked in zip(people, told, strict=True) if is_booked})

    async def _run_out(self, lot: LotRow) -> None:
        """Conclude what was abandoned; end the lot where its time is over or nobody is left."""
        stale = self._now() - timedelta(seconds=limits.ACCEPTANCE_S_MAX)
        for offer in await self._ledger.accepting(lot.id):
            if offer.decided_at is None or offer.decided_at < stale:
                await self._conclude(offer, lot)
        if self._now() > lot.deadline or not await self._ledger.has_live_offers(lot.id):
            await self._ledger.run_out(lot.id, self._now())

    async def _give_back(self, lot: LotRow) -> None:
        await self._seats.give_back(lot.offer_key, lot.location, f"back:{lot.offer_key.hex()}")
        await self._ledger.close(lot.id, self._now())

    # People's -----------------------------------------------------------------------------------------------

    async def accept(self, offer: int, idempotency_key: str) -> AcceptOutcome:
        """Book what is offered. Asked again, under whatever key, it gets the same answer.

        A fault of the seats leaves the acceptance under way: the worker concludes it, and so does whoever
        asks again.
        """
        found = await self._ledger.accept(offer, idempotency_key, self._now())
        if found is None or found.state == OfferState.OPENING:
            return UnknownOffer()
        if found.state not in (OfferState.ACCEPTING, OfferState.ACCEPTED):
            return NotAccepted(OfferState(found.state))
        lot = await self._ledger.lot(found.lot)
        return UnknownOffer() if lot is None else await self._conclude(found, lot)

    async def refuse(self, offer: int) -> OfferState | UnknownOffer:
        """Say no; the entry keeps its place. The state of the offer then: another where it was decided."""
        found = await self._ledger.refuse(offer, self._now())
        if found is None or found.state == OfferState.OPENING:
            return UnknownOffer()
        return OfferState(found.state)

    async def _conclude(self, offer: OfferRow, lot: LotRow) -> AcceptOutcome:
        """Book under the key that the acceptance began with, and record what came of it."""
        members = await self.members(offer.entry)
        key = f"accept:{offer.id}:{offer.accept_key}"
        answer = await self._seats.accept(members, lot.kind, plan_of(lot), lot.offer_key, key)
        if offer.state == OfferState.ACCEPTED:
            return Accepted(answer.courses if isinstance(answer, Booked) else ())
        await self._record(offer, answer)
        if isinstance(answer, Booked):
            await self._close_others([member.person for member in members], lot.kind)
            return Accepted(answer.courses)
        found = await self._ledger.offer(offer.id)
        return NotAccepted(OfferState.WITHDRAWN if found is None else OfferState(found.state))

    async def _record(self, offer: OfferRow, answer: AcceptAnswer) -> None:
        now = self._now()
        match answer:
            case Booked():
                await self._ledger.accepted(offer, now)
            case HoldGone():
                await self._ledger.lost(offer, now)
            case HasCourse():
                await self._ledger.end(offer.entry, EntryState.BOOKED, now, concluded=True)
            case Impossible():
                await self._ledger.impossible(offer, now)

    async def _close_others(self, people: Sequence[bytes], kind: int) -> None:
        """Other entries of who has just booked. One that is missed is closed before it is offered a seat."""
        for entry in await self._ledger.entries_of(people, kind):
            await self._ledger.end(entry, EntryState.BOOKED, self._now())

    async def members(self, entry: int) -> list[Member]:
        """The people of an entry."""
        return [
            Member(person, opened.facts, opened.given)
            for person, sealed in await self._ledger.members(entry)
            for opened in (self._sealer.open(Place(*_PLACE, person), sealed, SealedFacts),)
        ]


def seal(member: Member, sealer: Sealer) -> bytes:
    """What is stored of a member beside the person key."""
    return sealer.seal(Place(*_PLACE, member.person), SealedFacts(member.facts, member.given))


def new_lot(
    freed: Freed, form: Form, plan: Plan, location: int, keyspace: Keyspace, now: datetime, end: datetime
) -> LotRow:
    """A lot that is to begin."""
    hold_ms = ceil(((end - now).total_seconds() + limits.OFFER_GRACE_S) * 1000)
    return LotRow(
        id=0,
        offer_key=offer_key(keyspace, location),
        kind=form.kind,
        location=location,
        session=freed.session,
        slot=freed.slot,
        size=form.size,
        wishes=msgspec.msgpack.encode(plan),
        state=LotState.OPENING,
        hold_ms=hold_ms,
        created_at=now,
        deadline=end,
    )


def offer_key(keyspace: Keyspace, location: int) -> bytes:
    """A new key, whose guard lives where the location's seats do: one script reaches both."""
    wanted = keyspace.of_location(location)
    number = int.from_bytes(secrets.token_bytes(4), "little")
    number -= number % keyspace.partitions
    if number + wanted >= _KEY_NUMBERS:
        number -= keyspace.partitions
    return secrets.token_bytes(_RANDOM_BYTES) + (number + wanted).to_bytes(4, "little")


def plan_of(lot: LotRow) -> Plan:
    """The doses that a lot sets aside, by member."""
    return msgspec.msgpack.decode(lot.wishes, type=Plan)


def _hold_key(lot: LotRow) -> str:
    return f"hold:{lot.offer_key.hex()}"
