"""What each location has to sell of each vaccine: the stocks with free seats, by day.

Derived from "which sessions have a seat at all" and kept between queries; dropped when the board's version of
that location or the local date changes. So a programme never names a day that has passed, and a session that
ran out or has seats again is seen with the next query. A vaccine without an interval in force has none here:
an interval is never guessed.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from engine import limits
from engine.availability.board import Board, Stock
from engine.domain.capacity import Location, Session
from engine.domain.geo import NearestIndex
from engine.rules.intervals import Intervals, NoIntervalError, UnknownVaccineError

_CACHED_PLACES_MAX = 4_096


class First(NamedTuple):
    """A session of dose 1 with seats, and which of the programme's stocks may follow it: ``[low, high)``."""

    stock: Stock
    low: int
    high: int


class Programme(NamedTuple):
    """What a location has of one vaccine: the stocks that have seats, each with its day, days ascending.

    ``firsts`` are those that another stock of the programme may follow as dose 2.
    """

    vaccine: str
    interval: tuple[int, int] | None
    days: list[date]
    stocks: list[Stock]
    firsts: list[First]


class _Kept(NamedTuple):
    """Programmes of a location, right while its version stands and the date is the same."""

    version: int
    today: date
    open: list[Programme]
    paired: list[Programme]


class Programmes:
    """The programmes on one board."""

    def __init__(
        self,
        board: Board,
        locations: Mapping[int, Location],
        sessions: Mapping[int, Session],
        intervals: Intervals,
    ) -> None:
        self.board = board
        self.locations = locations
        self.sessions = sessions
        self.intervals = intervals
        self._listed = _listed(sessions.values())
        self.zones = {number: locations[number].zone for number in self._listed}
        self.clocks = {zone: ZoneInfo(zone) for zone in set(self.zones.values())}
        self._kept: dict[int, _Kept] = {}
        points = ((number, locations[number].lat, locations[number].lon) for number in self._listed)
        self._near = lru_cache(_CACHED_PLACES_MAX)(NearestIndex(points).nearest)

    def near(self, lat: float, lon: float, radius_km: float) -> list[tuple[int, float]]:
        """Locations with sessions and their distances in km, the nearest first."""
        return self._near(lat, lon, limits.SEARCH_LOCATIONS_MAX, radius_km)

    def dates(self, now: datetime) -> dict[str, date]:
        """The local date in each time zone."""
        return {zone: now.astimezone(clock).date() for zone, clock in self.clocks.items()}

    def interval(self, vaccine: str, booking_day: date) -> tuple[int, int] | None:
        """Days from dose 1 to dose 2 in force for what is booked that day; None where there is no dose 2."""
        try:
            return self.intervals.on(vaccine, booking_day)
        except (NoIntervalError, UnknownVaccineError):
            return None

    def open(self, location: int, today: date) -> list[Programme]:
        """The location's programmes in which something is free."""
        return self._of(location, today).open

    def paired(self, location: int, today: date) -> list[Programme]:
        """Those in which some day's dose 1 can be followed by a dose 2."""
        return self._of(location, today).paired

    def _of(self, location: int, today: date) -> _Kept:
        version = self.board.versions[location]
        kept = self._kept.get(location)
        if kept is None or kept.version != version or kept.today != today:
            found = [self._programme(*listed, today) for listed in self._listed[location].items()]
            open_ = [programme for programme in found if programme.stocks]
            kept = _Kept(version, today, open_, [programme for programme in open_ if programme.firsts])
            self._kept[location] = kept
        return kept

    def _programme(self, vaccine: str, listed: list[Session], today: date) -> Programme:
        """The sessions with seats, and for each of them those that may be its second dose."""
        stock_of = self.board.stock
        open_ = [
            (session.day, stock)
            for session in listed
            if session.day >= today and (stock := stock_of(session.id)) is not None and stock.free
        ]
        days, stocks = [day for day, _ in open_], [stock for _, stock in open_]
        interval = self.interval(vaccine, today)
        firsts = [] if interval is None else list(_firsts(days, stocks, *interval))
        return Programme(vaccine, interval, days, stocks, firsts)


def _firsts(days: list[date], stocks: list[Stock], days_min: int, days_max: int) -> Iterator[First]:
    for day, stock in zip(days, stocks, strict=True):
        low = bisect_left(days, day + timedelta(days=days_min))
        high = bisect_right(days, day + timedelta(days=days_max), lo=low)
        if low < high:
            yield First(stock, low, high)


def _listed(sessions: Iterable[Session]) -> dict[int, dict[str, list[Session]]]:
    """The sessions by location and vaccine, in the order of their days."""
    listed: defaultdict[int, defaultdict[str, list[Session]]] = defaultdict(lambda: defaultdict(list))
    for session in sorted(sessions, key=lambda session: (session.day, session.starts_at)):
        listed[session.location][session.vaccine].append(session)
    return {location: dict(by_vaccine) for location, by_vaccine in listed.items()}
