"""The nearest places where dose 1 and a valid dose 2 are both free, read from the board alone.

Pure: the board, the sessions, the intervals, the instant and the source of chance are arguments. Work per
query is bounded: at most ``SEARCH_LOCATIONS_MAX`` locations are looked at, and ``PAIRS_PER_PLACE`` pairs are
drawn in each place that is answered. Every reader is shown another sample of the free pairs, the fuller of
two sessions drawn, so that people do not collide on the first.

What is kept between queries is derived from "which sessions have a seat at all", and is dropped when the
board's version of that location or the local date changes.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from engine import limits
from engine.availability.board import Board, Stock
from engine.domain import seats
from engine.domain.capacity import Location, Session
from engine.domain.geo import NearestIndex
from engine.rules.intervals import Intervals, NoIntervalError, UnknownVaccineError

_DRAWS_MAX = 4
_CACHED_PLACES_MAX = 4_096

Chance = Callable[[], float]
"""Draws a number from 0 to below 1, as ``random.Random().random``."""


class Query(msgspec.Struct, frozen=True, gc=False):
    """Where and what to search; ``vaccine`` None is any."""

    lat: float
    lon: float
    radius_km: float
    limit: int
    vaccine: str | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One dose's slot, with the seats that were free in it."""

    session: int
    slot: int
    free: int


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


class _First(NamedTuple):
    """A session of dose 1 with seats, and which of the offer's stocks may follow it: ``[low, high)``."""

    stock: Stock
    low: int
    high: int


class _Offer(NamedTuple):
    """What a location can offer of one vaccine: the stocks that have seats, by day."""

    vaccine: str
    stocks: list[Stock]
    firsts: list[_First]


class _Kept(NamedTuple):
    """Offers of a location, right while its version stands and the date is the same."""

    version: int
    today: date
    offers: list[_Offer]


class Search:
    """Searches one board."""

    def __init__(
        self,
        board: Board,
        locations: Mapping[int, Location],
        sessions: Mapping[int, Session],
        intervals: Intervals,
    ) -> None:
        self._board = board
        self._sessions = sessions
        self._intervals = intervals
        self._programmes = _programmes(sessions.values())
        self._zones = {number: locations[number].zone for number in self._programmes}
        self._clocks = {zone: ZoneInfo(zone) for zone in set(self._zones.values())}
        self._kept: dict[int, _Kept] = {}
        points = ((number, locations[number].lat, locations[number].lon) for number in self._programmes)
        self._near = lru_cache(_CACHED_PLACES_MAX)(NearestIndex(points).nearest)

    def places(self, query: Query, now: datetime, chance: Chance, without: int | None = None) -> list[Place]:
        """Up to ``query.limit`` places, nearest first; ``without`` leaves one location out."""
        found: list[Place] = []
        dates = {zone: now.astimezone(clock).date() for zone, clock in self._clocks.items()}
        near = self._near(query.lat, query.lon, limits.SEARCH_LOCATIONS_MAX, query.radius_km)
        for location, distance_km in near:
            if location == without:
                continue
            offers = self._offers(location, dates[self._zones[location]])
            if not offers:
                continue
            for vaccine, pairs in self._samples(offers, query.vaccine, now, chance):
                found.append(Place(location, distance_km, vaccine, pairs))
                if len(found) >= query.limit:
                    return found
        return found

    def _samples(
        self, offers: list[_Offer], vaccine: str | None, now: datetime, chance: Chance
    ) -> Iterator[tuple[str, tuple[Pair, ...]]]:
        for offer in offers:
            if vaccine is None or offer.vaccine == vaccine:
                pairs = self._sample(offer, now, chance)
                if pairs:
                    yield offer.vaccine, pairs

    def _offers(self, location: int, today: date) -> list[_Offer]:
        version = self._board.versions[location]
        kept = self._kept.get(location)
        if kept is None or kept.version != version or kept.today != today:
            offers = [self._offer(*programme, today) for programme in self._programmes[location].items()]
            kept = _Kept(version, today, [offer for offer in offers if offer.firsts])
            self._kept[location] = kept
        return kept.offers

    def _offer(self, vaccine: str, programme: list[Session], today: date) -> _Offer:
        """The sessions with seats, and for each of them those that may be its second dose."""
        open_ = [
            (session.day, stock)
            for session in programme
            if session.day >= today and (stock := self._board.stock(session.id)) is not None and stock.free
        ]
        days, stocks = [day for day, _ in open_], [stock for _, stock in open_]
        interval = self._interval(vaccine, today)
        firsts = [] if interval is None else list(_firsts(days, stocks, *interval))
        return _Offer(vaccine, stocks, firsts)

    def _interval(self, vaccine: str, today: date) -> tuple[int, int] | None:
        try:
            return self._intervals.on(vaccine, today)
        except (NoIntervalError, UnknownVaccineError):
            return None

    def _sample(self, offer: _Offer, now: datetime, chance: Chance) -> tuple[Pair, ...]:
        """Up to ``PAIRS_PER_PLACE`` pairs with different first slots, the earliest first."""
        pairs: dict[tuple[int, int], Pair] = {}
        for _ in range(limits.PAIRS_PER_PLACE):
            pair = self._draw(offer, now, chance)
            if pair is not None:
                pairs.setdefault((pair.dose_1.session, pair.dose_1.slot), pair)
        return tuple(sorted(pairs.values(), key=self._begins))

    def _draw(self, offer: _Offer, now: datetime, chance: Chance) -> Pair | None:
        """One pair at random; None where the first dose's session of that draw has nothing left today."""
        firsts, stocks = offer.firsts, offer.stocks
        span = min(len(firsts), limits.SAMPLED_SESSIONS_MAX)
        one, other = firsts[int(chance() * span)], firsts[int(chance() * span)]
        first = one if one.stock.free >= other.stock.free else other
        dose_1 = pick_slot(first.stock, self._first_slot(first.stock, now), chance)
        if dose_1 is None and first.stock is firsts[0].stock and len(firsts) > 1:
            first = firsts[1]
            dose_1 = pick_slot(first.stock, self._first_slot(first.stock, now), chance)
        low, width = first.low, first.high - first.low
        left, right = stocks[low + int(chance() * width)], stocks[low + int(chance() * width)]
        dose_2 = pick_slot(left if left.free >= right.free else right, 0, chance)
        return None if dose_1 is None or dose_2 is None else Pair(dose_1, dose_2)

    def _first_slot(self, stock: Stock, now: datetime) -> int:
        return first_slot_after(self._sessions[stock.session], now)

    def _begins(self, pair: Pair) -> datetime:
        return self._sessions[pair.dose_1.session].slot_starts_at(pair.dose_1.slot)


def first_slot_after(session: Session, now: datetime) -> int:
    """The first slot that begins after ``now``; ``session.slots`` or more where all have begun."""
    elapsed = now - session.starts_at
    return 0 if elapsed.days < 0 else elapsed // timedelta(minutes=session.slot_minutes) + 1


def pick_slot(stock: Stock, first_slot: int, chance: Chance) -> Choice | None:
    """A slot with a free seat, ``first_slot`` or later, each as likely as any other; None for none."""
    mask, width = stock.mask, stock.width
    count = len(mask) // width - first_slot
    if count <= 0 or not stock.free:
        return None
    for _ in range(_DRAWS_MAX):
        slot = first_slot + int(chance() * count)
        free = seats.free_in_slot(mask, width, slot)
        if free:
            return Choice(stock.session, slot, free)
    slots = [slot for slot in seats.free_slots(mask, width) if slot >= first_slot]
    if not slots:
        return None
    slot = slots[int(chance() * len(slots))]
    return Choice(stock.session, slot, seats.free_in_slot(mask, width, slot))


def _firsts(days: list[date], stocks: list[Stock], days_min: int, days_max: int) -> Iterator[_First]:
    for day, stock in zip(days, stocks, strict=True):
        low = bisect_left(days, day + timedelta(days=days_min))
        high = bisect_right(days, day + timedelta(days=days_max), lo=low)
        if low < high:
            yield _First(stock, low, high)


def _programmes(sessions: Iterable[Session]) -> dict[int, dict[str, list[Session]]]:
    """The sessions by location and vaccine, in the order of their days."""
    programmes: defaultdict[int, defaultdict[str, list[Session]]] = defaultdict(lambda: defaultdict(list))
    for session in sorted(sessions, key=lambda session: (session.day, session.starts_at)):
        programmes[session.location][session.vaccine].append(session)
    return {location: dict(by_vaccine) for location, by_vaccine in programmes.items()}
