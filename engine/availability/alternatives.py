"""What a refused booking is offered instead: first in the very sessions it asked for, then nearby.

The stock that Redis returned with the refusal is newer than the board, so the refused dose is drawn from it;
the other dose stays as wished if its seats are free. Nearby, what is found has the shape of what was asked:
one dose, two doses at one location or at two, one person or a household. Pure, and bounded by
``ALTERNATIVES_MAX``. Nothing fails: where nothing is free, nothing is offered.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime

import msgspec

from engine import limits
from engine.availability.board import Stock
from engine.availability.plan import Party, Plan
from engine.availability.planner import Planner, anyone
from engine.availability.preference import Order, Preference, Shape, When
from engine.availability.programmes import Programmes
from engine.availability.sampling import Chance, Choice, Seating, first_slot_after, seatings
from engine.availability.search import Query, Search
from engine.availability.walk import Admits
from engine.domain import seats
from engine.domain.capacity import Session
from engine.domain.course import Wish

NEAR_KM = 50.0
_NEAREST_SEATINGS = 8


class FullStock(msgspec.Struct, frozen=True, gc=False):
    """The session in which ``dose`` found its slot full, as Redis has it."""

    dose: int
    width: int
    mask: bytes


class Alternatives:
    """Finds them on one board."""

    def __init__(self, programmes: Programmes, search: Search, planner: Planner) -> None:
        self._programmes = programmes
        self._board = programmes.board
        self._sessions = programmes.sessions
        self._search = search
        self._planner = planner

    def to(
        self,
        wishes: Sequence[Wish],
        full: FullStock | None,
        now: datetime,
        chance: Chance,
        admits: Admits = anyone,
        days: tuple[date, date] = (date.min, date.max),
    ) -> list[Plan]:
        """Up to ``ALTERNATIVES_MAX`` plans instead of one person's wishes, which name known sessions.

        ``days`` are the first and the last one on which a dose that was wished alone may be given instead.
        """
        return [plan for (plan,) in self.to_all((wishes,), full, now, chance, admits, days)]

    def to_all(
        self,
        wished: Sequence[Sequence[Wish]],
        full: FullStock | None,
        now: datetime,
        chance: Chance,
        admits: Admits = anyone,
        days: tuple[date, date] = (date.min, date.max),
    ) -> list[Party]:
        """The same for a household: the wishes of each person, all with the same doses."""
        found = [] if full is None else self._same_sessions(wished, full, now, chance)
        if len(found) >= limits.ALTERNATIVES_MAX:
            return found
        if len(wished) == 1 and admits is anyone and self._is_plain_pair(wished[0]):
            nearby = self._places(self._sessions[wished[0][0].session], now, chance)
        else:
            preference, limit = self._preference(wished[0], days), limits.ALTERNATIVES_MAX + len(found)
            nearby = self._planner.find_for(len(wished), preference, limit, now, chance, admits)
        return (found + _fresh_first(nearby, found, full))[: limits.ALTERNATIVES_MAX]

    def _same_sessions(
        self, wished: Sequence[Sequence[Wish]], full: FullStock, now: datetime, chance: Chance
    ) -> list[Party]:
        """The refused dose in other slots of its session; the other dose as wished, if that is free."""
        refused = [wish for wishes in wished for wish in wishes if wish.dose == full.dose]
        kept = [wish for wishes in wished for wish in wishes if wish.dose != full.dose]
        if len({wish.session for wish in refused}) != 1 or not self._are_free(kept):
            return []
        drawn = self._near_slots(refused, full, now, chance)
        return [self._party(wished, full.dose, seating) for seating in drawn]

    def _near_slots(
        self, refused: Sequence[Wish], full: FullStock, now: datetime, chance: Chance
    ) -> list[Seating]:
        """A few of the seatings closest to the one wished, not the same few for everyone."""
        session = self._sessions[refused[0].session]
        stock = Stock(session.id, session.location, full.width)
        stock.mask, stock.free = bytearray(full.mask), seats.count_free(full.mask)
        slots = range(first_slot_after(session, now), len(full.mask) // full.width)
        wished = min(wish.slot for wish in refused)
        found = list(seatings(stock, slots, len(refused), chance))
        found.sort(key=lambda seating: abs(seating[0][0] - wished))
        near = sorted(found[:_NEAREST_SEATINGS], key=lambda _: chance())[: limits.ALTERNATIVES_MAX]
        return sorted(near)

    def _are_free(self, kept: Sequence[Wish]) -> bool:
        wanted = Counter((wish.session, wish.slot) for wish in kept)
        return all(self._board.free_in_slot(*slot) >= people for slot, people in wanted.items())

    def _party(self, wished: Sequence[Sequence[Wish]], dose: int, seating: Seating) -> Party:
        """The people in the order of their wishes: the earliest seat for who wished the earliest."""
        mine = {who: next(wish for wish in wishes if wish.dose == dose) for who, wishes in enumerate(wished)}
        drawn = dict(zip(sorted(mine, key=lambda who: mine[who].slot), seating, strict=True))
        return tuple(
            self._plan(
                Choice(dose, wish.session, *drawn[who]) if wish.dose == dose else self._kept(wish)
                for wish in sorted(wishes, key=lambda wish: wish.dose)
            )
            for who, wishes in enumerate(wished)
        )

    def _kept(self, wish: Wish) -> Choice:
        free = self._board.free_in_slot(wish.session, wish.slot)
        return Choice(wish.dose, wish.session, wish.slot, free)

    def _plan(self, chosen: Iterable[Choice]) -> Plan:
        """At no distance: where the person wished to go."""
        choices = tuple(chosen)
        sessions = [self._sessions[choice.session] for choice in choices]
        return Plan(sessions[0].vaccine, 0.0, choices, tuple(session.location for session in sessions))

    def _is_plain_pair(self, wishes: Sequence[Wish]) -> bool:
        locations = {self._sessions[wish.session].location for wish in wishes}
        return len(wishes) == 2 and len(locations) == 1

    def _places(self, session: Session, now: datetime, chance: Chance) -> list[Party]:
        """The nearest places with the same vaccine, the location itself first."""
        place = self._programmes.locations[session.location]
        query = Query(place.lat, place.lon, NEAR_KM, limits.ALTERNATIVES_MAX, session.vaccine)
        return [
            (Plan(found.vaccine, found.distance_km, (pair.dose_1, pair.dose_2), (found.location,) * 2),)
            for found in self._search.places(query, now, chance)
            for pair in found.pairs[:1]
        ]

    def _preference(self, wishes: Sequence[Wish], days: tuple[date, date]) -> Preference:
        """What has the shape of these wishes, near the location of the first dose wished."""
        sessions = [self._sessions[wish.session] for wish in wishes]
        place = self._programmes.locations[sessions[0].location]
        doses = {wish.dose for wish in wishes}
        shape = Shape.PAIR if len(doses) == 2 else Shape.SECOND if 2 in doses else Shape.SINGLE
        when = When() if shape is Shape.PAIR else When(*days)
        return Preference(
            place.lat,
            place.lon,
            NEAR_KM,
            shape,
            Order.NEAREST,
            frozenset((sessions[0].vaccine,)),
            dose_1=when,
            dose_2=when,
            elsewhere=len({session.location for session in sessions}) > 1,
        )


def _fresh_first(nearby: list[Party], told: list[Party], full: FullStock | None) -> list[Party]:
    """What is not told yet; at the end what has the dose that was refused in a slot that is told."""
    if full is None:
        return nearby
    wishes, slots = {_wishes(party) for party in told}, {_slot_of(party, full.dose) for party in told}
    others = [party for party in nearby if _wishes(party) not in wishes]
    return sorted(others, key=lambda party: _slot_of(party, full.dose) in slots)


def _wishes(party: Party) -> tuple[tuple[Wish, ...], ...]:
    return tuple(plan.wishes for plan in party)


def _slot_of(party: Party, dose: int) -> tuple[int, int] | None:
    """Where the first person has this dose."""
    return next(((each.session, each.slot) for each in party[0].choices if each.dose == dose), None)
