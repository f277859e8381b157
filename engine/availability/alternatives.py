"""What a refused booking is offered instead: first in the very sessions it asked for, then nearby.

The stock that Redis returned with the refusal is newer than the board, so the refused dose is drawn from it.
Pure, and bounded by ``ALTERNATIVES_MAX``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from engine import limits
from engine.availability.board import Board
from engine.availability.search import Chance, Choice, Pair, Query, Search, first_slot_after
from engine.domain import seats
from engine.domain.capacity import Location, Session
from engine.domain.course import Wish

NEAR_KM = 50.0
_NEAREST_SLOTS = 8


class Alternative(msgspec.Struct, frozen=True, gc=False):
    """A pair that was free when the answer was made."""

    location: int
    distance_km: float
    vaccine: str
    pair: Pair


class FullStock(msgspec.Struct, frozen=True, gc=False):
    """The session in which ``dose`` found its slot full, as Redis has it."""

    dose: int
    width: int
    mask: bytes


class Alternatives:
    """Finds them on one board."""

    def __init__(
        self,
        board: Board,
        search: Search,
        locations: Mapping[int, Location],
        sessions: Mapping[int, Session],
    ) -> None:
        self._board = board
        self._search = search
        self._locations = locations
        self._sessions = sessions

    def to(
        self, wishes: Sequence[Wish], full: FullStock | None, now: datetime, chance: Chance
    ) -> list[Alternative]:
        """Up to ``ALTERNATIVES_MAX`` pairs instead of the wishes, which name known sessions, dose 1 first."""
        session = self._sessions[wishes[0].session]
        found = [] if full is None else self._same_sessions(wishes, full, now, chance)
        alternatives = [Alternative(session.location, 0.0, session.vaccine, pair) for pair in found]
        missing = limits.ALTERNATIVES_MAX - len(alternatives)
        return alternatives + (self._nearby(session, missing, now, chance) if missing else [])

    def _same_sessions(
        self, wishes: Sequence[Wish], full: FullStock, now: datetime, chance: Chance
    ) -> list[Pair]:
        """The refused dose in other slots of its session; the other dose as wished, if that is free."""
        refused = next(wish for wish in wishes if wish.dose == full.dose)
        kept = next(wish for wish in wishes if wish.dose != full.dose)
        kept_free = self._board.free_in_slot(kept.session, kept.slot)
        if not kept_free:
            return []
        other = Choice(kept.session, kept.slot, kept_free)
        choices = self._near_slots(refused, full, now, chance)
        return [Pair(choice, other) if full.dose == 1 else Pair(other, choice) for choice in choices]

    def _near_slots(self, refused: Wish, full: FullStock, now: datetime, chance: Chance) -> list[Choice]:
        """A few of the free slots closest to the one wished, not the same few for everyone."""
        earliest = first_slot_after(self._sessions[refused.session], now)
        slots = [slot for slot in seats.free_slots(full.mask, full.width) if slot >= earliest]
        slots.sort(key=lambda slot: abs(slot - refused.slot))
        near = sorted(slots[:_NEAREST_SLOTS], key=lambda _: chance())[: limits.ALTERNATIVES_MAX]
        return [
            Choice(refused.session, slot, seats.free_in_slot(full.mask, full.width, slot))
            for slot in sorted(near)
        ]

    def _nearby(self, session: Session, limit: int, now: datetime, chance: Chance) -> list[Alternative]:
        """The nearest places with the same vaccine, the location itself first."""
        location = self._locations[session.location]
        query = Query(location.lat, location.lon, NEAR_KM, limit, session.vaccine)
        places = self._search.places(query, now, chance)
        return [Alternative(p.location, p.distance_km, p.vaccine, p.pairs[0]) for p in places]
