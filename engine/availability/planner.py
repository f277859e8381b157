"""Finds what somebody would like: plans for a person or a household, for a move, for a freed seat.

Everything is read from this process's memory, so what is found may have been taken since: the caller tries
one plan after the other. Work is bounded (see ``walk``): a search that finds nothing within its looks says
that nothing was found, though something may be free far beyond. Readers who ask at once get different plans
among equals, and never a later day before an earlier one, nor a farther location before a nearer one.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from engine import limits
from engine.availability.plan import Party, Plan
from engine.availability.preference import Order, Preference, Shape, When
from engine.availability.programmes import Programmes
from engine.availability.sampling import Chance
from engine.availability.walk import Admits, Walk


def anyone(_vaccine: str, _location: int, _day: date) -> bool:
    """Admits every dose."""
    return True


class Planner:
    """Plans on the programmes of one board."""

    def __init__(self, programmes: Programmes) -> None:
        self._programmes = programmes

    def find(
        self, preference: Preference, limit: int, now: datetime, chance: Chance, admits: Admits = anyone
    ) -> list[Plan]:
        """Up to ``limit`` plans for one person, in the order wished, no two with the same first slot.

        At the most ``PLANS_MAX``. ``EARLIEST`` is the earliest day of the first dose wished, and then the
        earliest day of dose 2; ``NEAREST`` is the least distance of the farther location. Dose 2 is elsewhere
        only where the location of dose 1 has none (or for ``NEAREST``: none nearer).
        """
        return [plan for (plan,) in self.find_for(1, preference, limit, now, chance, admits)]

    def find_for(
        self,
        people: int,
        preference: Preference,
        limit: int,
        now: datetime,
        chance: Chance,
        admits: Admits = anyone,
    ) -> list[Party]:
        """The same for up to ``HOUSEHOLD_MAX`` people, who stay at one location: up to ``limit`` parties.

        Each dose is in one session for all, in one slot where enough seats are free, else in slots that
        follow each other. ``admits`` speaks for all of them. Raises ``ValueError`` for another number.
        """
        walk = self._walk(people, preference, now, chance, admits)
        return list(islice(_distinct(walk.parties()), min(limit, limits.PLANS_MAX)))

    def around(
        self,
        session: int,
        slot: int,
        preference: Preference,
        now: datetime,
        chance: Chance,
        admits: Admits = anyone,
        people: int = 1,
    ) -> Party | None:
        """A party that uses a seat of this slot: as dose 1, or for a pair else as dose 2.

        None where the slot is not free, does not fit the preference, or has nothing that goes with it. A
        household may take neighbouring slots too. Raises ``ValueError`` for too many people.
        """
        known = self._programmes.sessions.get(session)
        if known is None:
            return None
        return next(self._walk(people, preference, now, chance, admits).using(known, slot), None)

    def beside(
        self, dose: int, location: int, vaccine: str, day: date, now: datetime, radius_km: float
    ) -> Preference | None:
        """What to find beside a dose that is kept, given at ``location`` on ``day``: the other one, near it.

        Dose 2 is found as ``SECOND``, dose 1 as ``SINGLE``, on the days that the interval in force leaves.
        None where no interval is in force, or no day is left.
        """
        place = self._programmes.locations[location]
        today = now.astimezone(ZoneInfo(place.zone)).date()
        interval = self._programmes.interval(vaccine, today)
        if interval is None:
            return None
        shortest, longest = (timedelta(days=days) for days in interval)
        when = When(day + shortest, day + longest) if dose == 1 else When(day - longest, day - shortest)
        if when.day_max < today:
            return None
        asked = (place.lat, place.lon, radius_km)
        shape, vaccines = (Shape.SECOND if dose == 1 else Shape.SINGLE), frozenset((vaccine,))
        return Preference(*asked, shape, Order.NEAREST, vaccines, dose_1=when, dose_2=when)

    def _walk(
        self, people: int, preference: Preference, now: datetime, chance: Chance, admits: Admits
    ) -> Walk:
        if not 1 <= people <= limits.HOUSEHOLD_MAX:
            raise ValueError(f"a household is 1 to {limits.HOUSEHOLD_MAX} people, not {people}")
        return Walk(self._programmes, preference, people, now, chance, admits)


def _distinct(parties: Iterator[Party]) -> Iterator[Party]:
    """No two that begin in the same slot."""
    seen: set[tuple[int, int]] = set()
    for party in parties:
        first = party[0].choices[0]
        if (first.session, first.slot) not in seen:
            seen.add((first.session, first.slot))
            yield party
