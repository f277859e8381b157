"""Chooses who is offered a freed seat: the first in line who fits, and those behind who want the same.

The line is the order of joining. An entry is in it if it waits, its circle covers the location, the vaccine
and the day are among its own, it was not offered this slot before, nobody of it gave these seats back, and
nobody of it has a live course. Of these the first for whom the search finds a plan is chosen, and with it at
most as many as acceptance asks for of those right behind that want the same plan. The first who wants another
plan, and could have it, ends the group: nobody is passed over.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from engine import limits
from engine.domain.capacity import Location, Session
from engine.storage import waitlist as rows
from engine.storage.waitlist import Form, InLine, Spot
from engine.waitlist.fit import are_among, deadline, first_day, front, is_for, slots_of
from engine.waitlist.grid import cells_at
from engine.waitlist.needs import Around, Freed, FreedBy, Plan, Seats
from engine.waitlist.states import EntryState


class Chosen(msgspec.Struct, frozen=True):
    """A plan, and whom it is for, in the order of joining."""

    form: Form
    plan: Plan
    entries: tuple[int, ...]
    spot: Spot


class Chooser:
    """Reads the line in Postgres, asks the search for plans and the seats for courses."""

    def __init__(
        self,
        pool: Any,
        locations: Mapping[int, Location],
        sessions: Mapping[int, Session],
        around: Around,
        freed_by: FreedBy,
        seats: Seats,
        now: Callable[[], datetime],
    ) -> None:
        self._pool = pool
        self._locations = locations
        self._sessions = sessions
        self._around = around
        self._freed_by = freed_by
        self._seats = seats
        self._now = now

    async def for_seats(self, freed: Freed, most: int) -> Chosen | None:
        """Whom to offer the freed seat to, at most so many at once; None where the line has ended."""
        return await self._choose(freed, most, alert=False)

    async def for_alert(self, freed: Freed, most: int) -> Chosen | None:
        """Whom to tell that a place has opened; who was told of this location today is not in this line."""
        return await self._choose(freed, most, alert=True)

    async def _choose(self, freed: Freed, most: int, *, alert: bool) -> Chosen | None:
        spot = self._spot(freed)
        if spot is None:
            return None
        cells = cells_at(spot.lat, spot.lon, alert=alert)
        # The freed slot is in every plan; what else a plan has, somebody else may have given back.
        not_for = await self._freed_by([freed])
        passed: set[int] = set()
        plans: dict[Form, Plan | None] = {}
        for _ in range(limits.WAITLIST_PASSES_MAX):
            line = await self._line(spot, cells, not_for, passed, plans, most)
            plan = plans[line[0].form] if line else None
            if plan is None:
                return None
            freed_by = await self._freed_by(slots_of(plan))
            chosen = await self._those_who_may(front(line), freed_by, passed, alert=alert)
            if chosen:
                return Chosen(line[0].form, plan, tuple(chosen), spot)
        return None

    async def _line(
        self,
        spot: Spot,
        cells: Sequence[int],
        not_for: set[bytes],
        passed: set[int],
        plans: dict[Form, Plan | None],
        most: int,
    ) -> list[InLine]:
        """The first in line; every form among them has a plan, which is added to ``plans``."""
        for _ in range(limits.WAITLIST_FORMS_MAX):
            days = {form: self._day_of(plan) for form, plan in plans.items()}
            line = await rows.line(self._pool, spot, cells, not_for, passed, days, most)
            unknown = {entry.form for entry in line} - plans.keys()
            if not unknown:
                return line
            for form in unknown:
                plans[form] = self._plan(Freed(spot.session, spot.slot), form)
        return []

    def _plan(self, freed: Freed, form: Form) -> Plan | None:
        plan = self._around(freed.session, freed.slot, form.kind, form.shape, form.size)
        if plan is None or not is_for(plan, freed, form.size, self._sessions):
            return None
        return None if deadline(plan, self._sessions, self._now()) is None else plan

    def _day_of(self, plan: Plan | None) -> date | None:
        return None if plan is None else first_day(plan, self._sessions)

    async def _those_who_may(
        self, group: Sequence[InLine], freed_by: set[bytes], passed: set[int], *, alert: bool
    ) -> list[int]:
        """Those who may be offered it; who has booked meanwhile is closed, the others are passed over.

        Somebody who waits in two entries is offered it in the first.
        """
        chosen: list[int] = []
        people = set(freed_by)
        for entry in group:
            if are_among(entry.people, people):
                passed.add(entry.id)
            elif not alert and await self._is_booked(entry):
                passed.add(entry.id)
                await rows.close_waiting(self._pool, [entry.id], EntryState.BOOKED, self._now())
            else:
                chosen.append(entry.id)
                people.update(entry.people)
        return chosen

    async def _is_booked(self, entry: InLine) -> bool:
        for person in entry.people:
            if await self._seats.has_live_course(person, entry.form.kind):
                return True
        return False

    def _spot(self, freed: Freed) -> Spot | None:
        """None for a slot that is not known, or has begun."""
        session = self._sessions.get(freed.session)
        location = None if session is None else self._locations.get(session.location)
        now = self._now()
        if session is None or location is None or not 0 <= freed.slot < session.slots:
            return None
        if session.slot_starts_at(freed.slot) <= now:
            return None
        today = now.astimezone(ZoneInfo(location.zone)).date()
        place = (location.lat, location.lon)
        return Spot(*place, session.vaccine, freed.session, freed.slot, location.id, today)
