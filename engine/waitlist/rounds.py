"""What the owner of the waitlist does, round after round. Woken by wakes, decided from state.

One look at a slot opens at most one lot, and looks again afterwards, when the board knows of its hold: a slot
with five free seats is offered five times, each to the next in line. Where nobody in line fits, the seat is
everybody's, and alerts are told of it.
"""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from engine import limits
from engine.domain.capacity import Location, Session
from engine.redis.keyspace import Keyspace
from engine.storage import waitlist as rows
from engine.waitlist.choose import Chooser
from engine.waitlist.fit import deadline
from engine.waitlist.grid import cells_at
from engine.waitlist.ledger import Ledger
from engine.waitlist.needs import Around, Freed, FreedBy, FreeSlots, Seats
from engine.waitlist.offers import Offers, new_lot
from engine.waitlist.states import EntryState, LotState
from engine.waitlist.wakes import Wakes

# A day ends everywhere this long after it has ended in UTC.
_LAST_ZONE = timedelta(hours=12)


class Surroundings(msgspec.Struct, frozen=True):
    """What the worker needs of the rest of the engine.

    ``faults``: what a store that is away raises. ``offer_s``: how long an offer stands, more than
    ``OFFER_S_MIN``.
    """

    seats: Seats
    around: Around
    freed_by: FreedBy
    free_slots: FreeSlots
    locations: Mapping[int, Location]
    sessions: Mapping[int, Session]
    keyspace: Keyspace
    now: Callable[[], datetime]
    faults: tuple[type[Exception], ...] = ()
    offer_s: float = limits.OFFER_S_MAX


class Rounds:
    """One ownership of the waitlist. ``pool`` is of Postgres; ``say`` gets what needs to be known."""

    def __init__(
        self,
        pool: Any,
        surroundings: Surroundings,
        offers: Offers,
        ledger: Ledger,
        wakes: Wakes,
        say: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._to = to = surroundings
        self._offers = offers
        self._ledger = ledger
        self._wakes = wakes
        self._say = say
        self._chooser = Chooser(pool, to.locations, to.sessions, to.around, to.freed_by, to.seats, to.now)
        self._by_location = _by_location(to.sessions)
        self._passing: AsyncIterator[Freed] | None = None
        self._swept = 0
        self._lots = 0
        self._counted_s = float("-inf")

    async def begin(self) -> None:
        """What an owner does first."""
        await self._ledger.found()
        await self._count()

    async def drive(self) -> int:
        """Take every lot that is due as far as it can go; how many. A fault leaves one for later."""
        stale = self._to.now() - timedelta(seconds=limits.ACCEPTANCE_S_MAX)
        due = await self._ledger.due(self._to.now(), stale)
        for lot in due:
            try:
                await self._offers.drive(lot)
            except self._to.faults as fault:
                self._say(f"lot {lot} waits for the seats: {type(fault).__name__}: {fault}")
        return len(due)

    async def look(self) -> int:
        """Look at the slots that were woken, if anybody waits; how many there were."""
        woken = self._wakes.take(limits.WAITLIST_SLOTS_MAX)
        if woken and await rows.anybody(self._pool):
            for freed in woken:
                await self._look_at(freed)
        return len(woken)

    async def tick(self) -> None:
        """Look at some of the free seats that somebody waits for, and at some of the entries."""
        await self._count()
        if await rows.anybody(self._pool):
            await self._pass_on()
        await self._sweep()

    async def _look_at(self, freed: Freed) -> None:
        try:
            if await self.consider(freed):
                self._wakes.add(freed.session, freed.slot)
        except self._to.faults as fault:
            self._say(f"slot {freed.slot} of session {freed.session} waits: {type(fault).__name__}: {fault}")

    async def consider(self, freed: Freed) -> bool:
        """Offer a seat of this slot to whoever is first in line; whether it was."""
        acceptance = await self._ledger.acceptance()
        if self._lots >= limits.LOTS_MAX:
            return False
        chosen = await self._chooser.for_seats(freed, acceptance.parallel())
        if chosen is None:
            await self._tell(freed, acceptance.parallel())
            return False
        now = self._to.now()
        end = deadline(chosen.plan, self._to.sessions, now, self._to.offer_s)
        if end is None:
            return False
        lot = new_lot(freed, chosen.form, chosen.plan, chosen.spot.location, self._to.keyspace, now, end)
        self._lots += 1
        return await self._offers.begin(lot, chosen.entries, self._to.faults) == LotState.OPEN

    async def _tell(self, freed: Freed, most: int) -> None:
        """A place is everybody's: as many alerts as it would have had offers, the first in line first."""
        chosen = await self._chooser.for_alert(freed, most)
        if chosen is not None:
            await rows.tell(self._pool, chosen.entries, chosen.spot, self._to.now())

    async def _count(self) -> None:
        if time.monotonic() - self._counted_s >= limits.WAITLIST_COUNT_S:
            self._counted_s = time.monotonic()
            await rows.count_entries(self._pool)
        self._lots = await rows.count_lots(self._pool)

    # All free seats, and all entries, a part at every tick --------------------------------------------------

    async def _pass_on(self) -> None:
        """Look at the next free slots that somebody waits for; the way begins anew where it ended."""
        until_s = time.monotonic() + limits.WAITLIST_TICK_S
        for _ in range(limits.WAITLIST_SLOTS_MAX):
            self._passing = self._passing or self._pass_through()
            freed = await anext(self._passing, None)
            if freed is None:
                self._passing = None
                return
            await self._look_at(freed)
            if time.monotonic() > until_s:
                return

    async def _pass_through(self) -> AsyncIterator[Freed]:
        numbers = iter(sorted(self._by_location))
        while page := list(islice(numbers, limits.WAITLIST_LOCATIONS_MAX)):
            for location in await self._wanted(page):
                for freed in self._free_at(location):
                    yield freed

    async def _wanted(self, page: Iterable[int]) -> list[int]:
        pairs = [
            (number, cell)
            for number in page
            for place in (self._to.locations[number],)
            for alert in (False, True)
            for cell in cells_at(place.lat, place.lon, alert=alert)
        ]
        return await rows.wanted(self._pool, pairs)

    def _free_at(self, location: int) -> Iterable[Freed]:
        now = self._to.now()
        for session in self._by_location[location]:
            if session.slot_starts_at(session.slots) > now:
                for slot in self._to.free_slots(session.id):
                    yield Freed(session.id, slot)

    async def _sweep(self) -> None:
        """End entries whose days are over, or whose people are booked; forget what is old."""
        now, most = self._to.now(), limits.WAITLIST_SWEEP_ROWS_MAX
        over = await rows.ended(self._pool, _over_everywhere(now), most)
        await rows.close_waiting(self._pool, over, EntryState.EXPIRED, now)
        last, booked = await rows.booked_meanwhile(self._pool, self._swept, most)
        await rows.close_waiting(self._pool, booked, EntryState.BOOKED, now)
        self._swept = last or 0
        await rows.forget(self._pool, now - timedelta(days=limits.WAITLIST_KEPT_DAYS), most)


def _over_everywhere(now: datetime) -> date:
    return (now - _LAST_ZONE).date()


def _by_location(sessions: Mapping[int, Session]) -> dict[int, list[Session]]:
    found: defaultdict[int, list[Session]] = defaultdict(list)
    for session in sessions.values():
        found[session.location].append(session)
    return dict(found)
