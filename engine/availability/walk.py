"""One search's way over the programmes: sessions in the order wished, and for each of them what goes with it.

A walk is made for one search and then dropped; the board does not change under it. It is bounded: every
programme considered and every session tried is a look, and after ``PLAN_LOOKS_MAX`` of them the walk ends
with what was found by then. What it yields was free on the board, begins after ``now``, keeps the interval in
force on the local date at dose 1's location, and is admitted dose by dose.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property, partial
from heapq import heapify, heappop, heapreplace
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from engine import limits
from engine.availability.board import Stock
from engine.availability.hours import Hours, around, between, minute_of, minutes_apart, slots_within
from engine.availability.plan import Party, Plan
from engine.availability.preference import Order, Preference
from engine.availability.programmes import Programme, Programmes
from engine.availability.sampling import (
    Chance,
    Choice,
    Seating,
    first_slot_after,
    seatings,
    shuffled,
)
from engine.domain.capacity import Session
from engine.domain.geo import distance_km

Admits = Callable[[str, int, date], bool]
"""Whether a dose of this vaccine may be given at this location on this local day to who is searched for."""


class Near(NamedTuple):
    """A programme within the radius."""

    location: int
    km: float
    programme: Programme


class Stop(NamedTuple):
    """A session that the walk looks at."""

    near: Near
    session: Session
    stock: Stock


Beside = Callable[[Stop], Iterable[Sequence[Near]]]
"""Where the other dose may be, given the one: groups of programmes, the best group first."""


class Walk:
    """For ``people`` persons who stay together."""

    def __init__(
        self,
        programmes: Programmes,
        preference: Preference,
        people: int,
        now: datetime,
        chance: Chance,
        admits: Admits,
    ) -> None:
        self._programmes = programmes
        self._preference = preference
        self._people = people
        self._now = now
        self._chance = chance
        self._admits = admits
        self._dates = programmes.dates(now)
        self._elsewhere = preference.elsewhere and people == 1
        self._looks = limits.PLAN_LOOKS_MAX
        windows = {
            dose: between(preference.when(dose).after, preference.when(dose).before) for dose in (1, 2)
        }
        self._windows = {dose: () if window is None else (window,) for dose, window in windows.items()}

    def parties(self) -> Iterator[Party]:
        """Everything there is, the best first; among equals in an order drawn."""
        return self._earliest() if self._preference.order is Order.EARLIEST else self._nearest()

    def using(self, session: Session, slot: int) -> Iterator[Party]:
        """What uses a seat of this slot, as the first of the doses wished if that is possible."""
        stop = self._stop(session)
        if stop is not None:
            for dose in self._preference.shape.doses:
                yield from self._of(dose, stop, self._own_then_others, slot)

    def _earliest(self) -> Iterator[Party]:
        dose = self._preference.shape.doses[0]
        for group in self._by_day(self._near, partial(self._days, dose)):
            yield from self._in_turn(dose, group, self._own_then_others)

    def _nearest(self) -> Iterator[Party]:
        """Each distance with what lies nearer: the farther of two locations is the plan's distance."""
        dose = self._preference.shape.doses[0]
        nearer: list[Near] = []
        for _, equally_far in groupby(self._near, key=lambda near: near.km):
            places = list(equally_far)
            own_or_nearer = partial(self._own_then, [*nearer, *places])
            for group in self._by_day(places, partial(self._days, dose)):
                yield from self._in_turn(dose, group, own_or_nearer)
            if self._elsewhere and len(self._preference.shape.doses) > 1:
                yield from self._with_dose_2_at(places, nearer)
            nearer += places

    def _with_dose_2_at(self, places: list[Near], nearer: list[Near]) -> Iterator[Party]:
        """Dose 1 nearer than dose 2, which is at one of these places."""
        for seconds in self._by_day(places, partial(self._days, 2)):
            for second in self._shuffled(seconds):
                if next(self._seatings(2, second, None), None) is not None:
                    there = [near for near in nearer if near.programme.vaccine == second.session.vaccine]
                    for group in self._by_day(there, partial(self._days_beside, 1, second)):
                        yield from self._in_turn(1, group, partial(_each, (second.near,)))

    def _own_then_others(self, stop: Stop) -> Iterator[Sequence[Near]]:
        yield (stop.near,)
        if self._elsewhere:
            yield [near for near in self._near if near.programme.vaccine == stop.near.programme.vaccine]

    def _own_then(self, others: list[Near], stop: Stop) -> Iterator[Sequence[Near]]:
        yield (stop.near,)
        if self._elsewhere:
            yield from _each(others, stop)

    def _in_turn(self, dose: int, group: Sequence[Stop], beside: Beside) -> Iterator[Party]:
        """One from each session of the group, then another one from each."""
        waiting = deque(self._of(dose, stop, beside) for stop in self._shuffled(group))
        while waiting and self._looks > 0:
            turn = waiting.popleft()
            party = next(turn, None)
            if party is not None:
                yield party
                waiting.append(turn)

    def _of(self, dose: int, stop: Stop, beside: Beside, using: int | None = None) -> Iterator[Party]:
        """What has this dose in this session, and in that slot if one is given; each time in other slots."""
        alone = len(self._preference.shape.doses) == 1
        for seating in self._seatings(dose, stop, None, using):
            if alone:
                yield self._party({dose: (stop, seating)})
                continue
            other = self._companion(3 - dose, stop, seating, beside)
            if other is not None:
                yield self._party({dose: (stop, seating), 3 - dose: other})
            elif self._preference.same_time_minutes is None:
                return  # The other dose does not depend on the slot.

    def _companion(
        self, dose: int, beside_stop: Stop, seating: Seating, beside: Beside
    ) -> tuple[Stop, Seating] | None:
        """The other dose: in the first group of programmes that has it, on the earliest day there."""
        hours = self._same_time(beside_stop, seating)
        for places in beside(beside_stop):
            for group in self._by_day(places, partial(self._days_beside, dose, beside_stop)):
                for stop in self._shuffled(group):
                    for other in self._seatings(dose, stop, hours):
                        if hours is None or self._together(beside_stop, seating, stop, other):
                            return stop, other
        return None

    def _seatings(
        self, dose: int, stop: Stop, hours: Hours | None, using: int | None = None
    ) -> Iterator[Seating]:
        """How the people can be seated for this dose in this session."""
        self._looks -= 1
        session, when = stop.session, self._preference.when(dose)
        if not (when.day_min <= session.day <= when.day_max) or session.day.weekday() not in when.weekdays:
            return iter(())
        if not self._admits(session.vaccine, session.location, session.day):
            return iter(())
        windows = self._windows[dose] if hours is None else (*self._windows[dose], hours)
        slots = slots_within(session, self._clock(session), windows)
        begun = first_slot_after(session, self._now)
        if begun:
            slots = slots[bisect_left(slots, begun) :]
        return seatings(stop.stock, slots, self._people, self._chance, using)

    def _same_time(self, stop: Stop, seating: Seating) -> Hours | None:
        """The times of day at which somebody's other dose may be."""
        tolerance = self._preference.same_time_minutes
        return None if tolerance is None else around(self._minutes(stop, seating), tolerance)

    def _together(self, stop: Stop, seating: Seating, other_stop: Stop, other: Seating) -> bool:
        """Whether each person's two doses are at the same time of day."""
        pairs = zip(self._minutes(stop, seating), self._minutes(other_stop, other), strict=True)
        tolerance = self._preference.same_time_minutes or 0
        return all(minutes_apart(one, another) <= tolerance for one, another in pairs)

    def _minutes(self, stop: Stop, seating: Seating) -> list[int]:
        clock = self._clock(stop.session)
        return [minute_of(stop.session, slot, clock) for slot, _ in seating]

    def _clock(self, session: Session) -> ZoneInfo:
        return self._programmes.clocks[self._programmes.zones[session.location]]

    def _days(self, dose: int, near: Near) -> tuple[date, date]:
        """When this dose may be, as far as the days wished for the other one tell."""
        when = self._preference.when(dose)
        if dose == 2 or len(self._preference.shape.doses) == 1:
            return when.day_min, when.day_max
        interval, other = near.programme.interval, self._preference.dose_2
        if interval is None:
            return _NEVER
        return _overlap(
            when.day_min, when.day_max, _before_or_after(2, other.day_min, other.day_max, interval)
        )

    def _days_beside(self, dose: int, stop: Stop, near: Near) -> tuple[date, date]:
        """When this dose may be at a place, beside the other one at the stop."""
        interval = (near if dose == 1 else stop.near).programme.interval
        if interval is None:
            return _NEVER
        when, day = self._preference.when(dose), stop.session.day
        return _overlap(when.day_min, when.day_max, _before_or_after(3 - dose, day, day, interval))

    def _by_day(
        self, places: Iterable[Near], days_of: Callable[[Near], tuple[date, date]]
    ) -> Iterator[list[Stop]]:
        """The sessions of these programmes within their days: those of the earliest day first."""
        heap = self._starts(places, days_of)
        heapify(heap)
        while heap and self._looks > 0:
            day, group = heap[0][0], []
            while heap and heap[0][0] == day:
                _, order, at, high, near = heap[0]
                group.append(self._stop_at(near, at))
                days = near.programme.days
                if at + 1 < len(days) and days[at + 1] <= high:
                    heapreplace(heap, (days[at + 1], order, at + 1, high, near))
                else:
                    heappop(heap)
            yield group

    def _starts(
        self, places: Iterable[Near], days_of: Callable[[Near], tuple[date, date]]
    ) -> list[tuple[date, int, int, date, Near]]:
        """For each programme its first day: the day, a number, the position, the last day, the programme.

        The days are the same for all programmes with the same interval.
        """
        starts: list[tuple[date, int, int, date, Near]] = []
        spans: dict[tuple[int, int] | None, tuple[date, date]] = {}
        for order, near in enumerate(places):
            self._looks -= 1
            if self._looks < 0:
                break
            programme = near.programme
            span = spans.get(programme.interval)
            if span is None:
                span = spans[programme.interval] = days_of(near)
            at = bisect_left(programme.days, span[0])
            if at < len(programme.days) and programme.days[at] <= span[1]:
                starts.append((programme.days[at], order, at, span[1], near))
        return starts

    def _stop_at(self, near: Near, at: int) -> Stop:
        stock = near.programme.stocks[at]
        return Stop(near, self._programmes.sessions[stock.session], stock)

    def _shuffled(self, group: Sequence[Stop]) -> Sequence[Stop]:
        """In an order drawn; a session with more free seats comes first more often."""
        return shuffled(group, [max(stop.stock.free, 1) for stop in group], self._chance)

    @cached_property
    def _near(self) -> list[Near]:
        """The programmes wished within the radius, the nearest first."""
        wished = self._preference
        return [
            Near(location, km, programme)
            for location, km in self._programmes.near(wished.lat, wished.lon, wished.radius_km)
            for programme in self._open(location)
        ]

    def _open(self, location: int) -> list[Programme]:
        vaccines = self._preference.vaccines
        found = self._programmes.open(location, self._dates[self._programmes.zones[location]])
        return found if vaccines is None else [each for each in found if each.vaccine in vaccines]

    def _stop(self, session: Session) -> Stop | None:
        """The session as a stop; None where it is too far, not wished, or has no free seat."""
        place, wished = self._programmes.locations[session.location], self._preference
        km = distance_km(wished.lat, wished.lon, place.lat, place.lon)
        stock = self._programmes.board.stock(session.id)
        if km > wished.radius_km or stock is None:
            return None
        for programme in self._open(session.location):
            if programme.vaccine == session.vaccine:
                return Stop(Near(session.location, km, programme), session, stock)
        return None

    def _party(self, doses: dict[int, tuple[Stop, Seating]]) -> Party:
        in_order = [(dose, *doses[dose]) for dose in sorted(doses)]
        stops = [stop for _, stop, _ in in_order]
        vaccine, km = stops[0].session.vaccine, max(stop.near.km for stop in stops)
        locations = tuple(stop.near.location for stop in stops)
        return tuple(
            Plan(
                vaccine,
                km,
                tuple(_choice(dose, stop, seating[who]) for dose, stop, seating in in_order),
                locations,
            )
            for who in range(self._people)
        )


_NEVER = (date.max, date.min)


def _each(places: Iterable[Near], stop: Stop) -> Iterator[Sequence[Near]]:
    """One place after the other, of the same vaccine."""
    return ((near,) for near in places if near.programme.vaccine == stop.near.programme.vaccine)


def _choice(dose: int, stop: Stop, seat: tuple[int, int]) -> Choice:
    return Choice(dose, stop.session.id, *seat)


def _before_or_after(dose: int, day_min: date, day_max: date, interval: tuple[int, int]) -> tuple[date, date]:
    """When the other dose may be, if this one is on a day from ``day_min`` to ``day_max``."""
    shortest, longest = interval
    if dose == 1:
        return _shifted(day_min, shortest), _shifted(day_max, longest)
    return _shifted(day_min, -longest), _shifted(day_max, -shortest)


def _shifted(day: date, days: int) -> date:
    """The day so many days later; the ends of the calendar stay where they are."""
    if day in (date.min, date.max):
        return day
    return day + timedelta(days=days)


def _overlap(day_min: date, day_max: date, other: tuple[date, date]) -> tuple[date, date]:
    return max(day_min, other[0]), min(day_max, other[1])
