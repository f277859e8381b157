"""The nearest places where dose 1 and a valid dose 2 are both free: the commonest query, from memory alone.

Pure: the programmes, the instant and the source of chance are arguments. Work per query is bounded: at most
``SEARCH_LOCATIONS_MAX`` locations are looked at, and ``PAIRS_PER_PLACE`` pairs are drawn in each place that
is answered. Every reader is shown another sample of the free pairs, the fuller of two sessions drawn, so that
people do not collide on the first. What asks for more than a place near by goes to ``plans``.
"""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from engine import limits
from engine.availability.board import Stock
from engine.availability.programmes import Programme, Programmes
from engine.availability.sampling import Chance, Choice, first_slot_after, pick_slot


class Query(msgspec.Struct, frozen=True, gc=False):
    """Where and what to search; ``vaccine`` None is any."""

    lat: float
    lon: float
    radius_km: float
    limit: int
    vaccine: str | None = None


class Pair(msgspec.Struct, frozen=True, gc=False):
    """Two slots of one location that may be booked together."""

    dose_1: Choice
    dose_2: Choice


class Place(msgspec.Struct, frozen=True, gc=False):
    """A location with a sample of its free pairs for one vaccine, the earliest first."""

    location: int
    distance_km: float
    vaccine: str
    pairs: tuple[Pair, ...]


class Search:
    """Searches the programmes of one board."""

    def __init__(self, programmes: Programmes) -> None:
        self._programmes = programmes
        self._sessions = programmes.sessions

    def places(self, query: Query, now: datetime, chance: Chance, without: int | None = None) -> list[Place]:
        """Up to ``query.limit`` places, nearest first; ``without`` leaves one location out."""
        found: list[Place] = []
        programmes = self._programmes
        dates, zones = programmes.dates(now), programmes.zones
        for location, distance_km in programmes.near(query.lat, query.lon, query.radius_km):
            if location == without:
                continue
            paired = programmes.paired(location, dates[zones[location]])
            if not paired:
                continue
            for vaccine, pairs in self._samples(paired, query.vaccine, now, chance):
                found.append(Place(location, distance_km, vaccine, pairs))
                if len(found) >= query.limit:
                    return found
        return found

    def _samples(
        self, paired: list[Programme], vaccine: str | None, now: datetime, chance: Chance
    ) -> Iterator[tuple[str, tuple[Pair, ...]]]:
        for programme in paired:
            if vaccine is None or programme.vaccine == vaccine:
                pairs = self._sample(programme, now, chance)
                if pairs:
                    yield programme.vaccine, pairs

    def _sample(self, programme: Programme, now: datetime, chance: Chance) -> tuple[Pair, ...]:
        """Up to ``PAIRS_PER_PLACE`` pairs with different first slots, the earliest first."""
        pairs: dict[tuple[int, int], Pair] = {}
        for _ in range(limits.PAIRS_PER_PLACE):
            pair = self._draw(programme, now, chance)
            if pair is not None:
                pairs.setdefault((pair.dose_1.session, pair.dose_1.slot), pair)
        return tuple(sorted(pairs.values(), key=self._begins))

    def _draw(self, programme: Programme, now: datetime, chance: Chance) -> Pair | None:
        """One pair at random; None where the first dose's session of that draw has nothing left today."""
        firsts, stocks = programme.firsts, programme.stocks
        span = min(len(firsts), limits.SAMPLED_SESSIONS_MAX)
        one, other = firsts[int(chance() * span)], firsts[int(chance() * span)]
        first = one if one.stock.free >= other.stock.free else other
        dose_1 = pick_slot(1, first.stock, self._first_slot(first.stock, now), chance)
        if dose_1 is None and first.stock is firsts[0].stock and len(firsts) > 1:
            first = firsts[1]
            dose_1 = pick_slot(1, first.stock, self._first_slot(first.stock, now), chance)
        low, width = first.low, first.high - first.low
        left, right = stocks[low + int(chance() * width)], stocks[low + int(chance() * width)]
        dose_2 = pick_slot(2, left if left.free >= right.free else right, 0, chance)
        return None if dose_1 is None or dose_2 is None else Pair(dose_1, dose_2)

    def _first_slot(self, stock: Stock, now: datetime) -> int:
        return first_slot_after(self._sessions[stock.session], now)

    def _begins(self, pair: Pair) -> datetime:
        return self._sessions[pair.dose_1.session].slot_starts_at(pair.dose_1.slot)
