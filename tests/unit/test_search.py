"""Searching the board: only pairs that can be booked, the nearest first, different for every reader."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from engine import limits
from engine.availability.alternatives import Alternatives, FullStock
from engine.availability.board import Board
from engine.availability.planner import Planner
from engine.availability.programmes import Programmes
from engine.availability.sampling import first_slot_after
from engine.availability.search import Place, Query, Search
from engine.domain import seats
from engine.domain.capacity import Location, Session
from engine.domain.course import Appointment, Wish
from engine.inventory.codec import JOINED, LEFT, RELEASED, TAKEN, Entry
from engine.rules.intervals import IntervalRule, Intervals, Vaccine

TODAY = date(2021, 7, 12)
NOW = datetime(2021, 7, 12, 10, 5, tzinfo=UTC)
SLOTS, LINES = 12, 9
INTERVALS = Intervals(
    [Vaccine("pfizer", "Comirnaty", 2, 12, 1), Vaccine("janssen", "Janssen", 1, 55, 4)],
    [IntervalRule("pfizer", date(2021, 1, 1), 21, 49)],
)


class Country:
    """Locations 1, 2, 3 … each 10 km further east; sessions of the days given, all seats free."""

    def __init__(self, days: dict[int, list[int]], vaccine: str = "pfizer") -> None:
        self.locations = {n: _location(n) for n in days}
        listed = [(n, day) for n, each in days.items() for day in each]
        self.sessions = {i: _session(i, n, day, vaccine) for i, (n, day) in enumerate(listed, 1)}
        self.board = Board(self.sessions.values())
        self.programmes = Programmes(self.board, self.locations, self.sessions, INTERVALS)
        self.search = Search(self.programmes)
        for session in self.sessions.values():
            self.board.load(session.id, session.width, bytes(seats.all_free(SLOTS, LINES)))

    def id(self, location: int, day: int) -> int:
        """The session of that day."""
        on = TODAY + timedelta(days=day)
        return next(s.id for s in self.sessions.values() if (s.location, s.day) == (location, on))

    def leave(self, location: int, day: int, free: dict[int, int]) -> None:
        """Leave so many seats free in each slot."""
        session = self.sessions[self.id(location, day)]
        slots = [((1 << free.get(n, 0)) - 1).to_bytes(session.width, "little") for n in range(SLOTS)]
        self.board.load(session.id, session.width, b"".join(slots))

    def places(
        self, seed: int = 0, limit: int = 5, radius_km: float = 100.0, vaccine: str | None = None
    ) -> list[Place]:
        """A search from location 1."""
        return self.search.places(Query(48.0, 2.0, radius_km, limit, vaccine), NOW, Random(seed).random)


def _location(n: int) -> Location:
    east = 2.0 + (n - 1) * 0.1345
    return Location(n, str(n), f"L{n}", "", "75011", "Paris", "75", "", 48.0, east, "Europe/Paris")


def _session(number: int, location: int, day: int, vaccine: str) -> Session:
    # 8:00 in Paris in summer: at NOW (12:05 there) today's twelve slots of 20 minutes have all begun.
    starts_at = datetime(2021, 7, 12, 6, tzinfo=UTC) + timedelta(days=day)
    return Session(number, location, vaccine, TODAY + timedelta(days=day), starts_at, 20, SLOTS, LINES)


def test_the_nearest_come_first_and_no_more_than_asked() -> None:
    country = Country({n: [1, 25] for n in range(1, 6)})
    assert [place.location for place in country.places()] == [1, 2, 3, 4, 5]
    assert [place.location for place in country.places(limit=2)] == [1, 2]
    assert [place.location for place in country.places(radius_km=25)] == [1, 2, 3]
    assert country.places()[2].distance_km == pytest.approx(20, abs=0.2)


def test_a_place_needs_both_doses() -> None:
    country = Country({1: [1, 25], 2: [1, 25], 3: [1, 20], 4: [1, 60], 5: [25]})
    country.leave(1, 25, {})
    country.leave(2, 1, {})
    assert country.places() == []
    country.leave(1, 25, {3: 1})
    assert [place.location for place in country.places()] == [1]


def test_vaccines_are_not_mixed_and_one_dose_is_none_of_it() -> None:
    assert [p.vaccine for p in Country({1: [1, 25]}).places(vaccine="pfizer")] == ["pfizer"]
    assert Country({1: [1, 25]}).places(vaccine="moderna") == []
    assert Country({1: [1, 25]}, vaccine="janssen").places() == []


def test_every_pair_that_is_shown_can_be_booked() -> None:
    country = Country({n: [*range(0, 20), *range(21, 70, 2)] for n in range(1, 4)})
    random = Random(7)
    for session in list(country.sessions.values()):
        mask = bytes(random.choice((0, 0, 0, random.getrandbits(8))) for _ in range(SLOTS * session.width))
        country.board.load(session.id, session.width, mask)
    shown = 0
    for seed in range(200):
        for place in country.places(seed):
            assert 1 <= len(place.pairs) <= limits.PAIRS_PER_PLACE
            for pair in place.pairs:
                _check(country, place, pair.dose_1, pair.dose_2)
                shown += 1
    assert shown > 500


def _check(country: Country, place: Place, one: object, two: object) -> None:
    first, second = (country.sessions[choice.session] for choice in (one, two))  # type: ignore[attr-defined]
    assert first.location == second.location == place.location
    assert 21 <= (second.day - first.day).days <= 49
    assert first.slot_starts_at(one.slot) > NOW  # type: ignore[attr-defined]
    for choice in (one, two):
        free = country.board.free_in_slot(choice.session, choice.slot)  # type: ignore[attr-defined]
        assert free == choice.free > 0  # type: ignore[attr-defined]


def test_todays_slots_that_have_begun_are_not_shown() -> None:
    country = Country({1: [0, 30]})
    assert country.places() == []
    session = country.sessions[country.id(1, 0)]
    assert [first_slot_after(session, session.slot_starts_at(n)) for n in (0, 3)] == [1, 4]
    assert first_slot_after(session, session.starts_at - timedelta(seconds=1)) == 0


def test_readers_are_shown_different_pairs() -> None:
    """A thousand readers of one place: no slot is the first choice of many."""
    country = Country({1: [*range(1, 20), *range(30, 50)]})
    firsts = Counter(
        (pair.dose_1.session, pair.dose_1.slot)
        for seed in range(1000)
        for pair in country.places(seed)[0].pairs
    )
    assert len(firsts) > 200
    assert max(firsts.values()) < 60


def test_the_last_free_seats_are_found() -> None:
    country = Country({1: [1, 2, 30]})
    country.leave(1, 1, {})
    country.leave(1, 2, {11: 1})
    country.leave(1, 30, {0: 1})
    for seed in range(20):
        (pair,) = country.places(seed)[0].pairs
        assert (pair.dose_1.slot, pair.dose_1.free) == (11, 1)
        assert (pair.dose_2.slot, pair.dose_2.free) == (0, 1)


def test_the_board_follows_events_and_an_event_twice_is_once() -> None:
    country = Country({1: [1, 30]})
    country.leave(1, 1, {4: 1})
    seat = Appointment(1, country.id(1, 1), 4, 0)
    for _ in range(2):
        country.board.apply([Entry(TAKEN, seat), Entry(LEFT, seat)])
        assert country.places() == []
    for _ in range(2):
        country.board.apply([Entry(RELEASED, seat), Entry(JOINED, seat)])
        assert [pair.dose_1.slot for pair in country.places()[0].pairs] == [4]
    stock = country.board.stock(country.id(1, 1))
    assert stock is not None
    assert stock.free == 1


def test_an_event_of_an_unknown_session_or_slot_harms_nothing() -> None:
    country = Country({1: [1, 30]})
    unknown = Appointment(1, 99, 0, 0), Appointment(1, country.id(1, 1), 500, 0)
    country.board.apply([Entry(TAKEN, seat) for seat in unknown])
    assert country.board.unknown_sessions == 1
    assert len(country.places()) == 1


def _alternatives(country: Country) -> Alternatives:
    return Alternatives(country.programmes, country.search, Planner(country.programmes))


def test_alternatives_come_from_the_refusals_own_stock_first() -> None:
    country = Country({1: [1, 30], 2: [1, 30]})
    session = country.sessions[country.id(1, 1)]
    mask = bytearray(seats.none_free(SLOTS, LINES))
    for slot in (2, 9, 11):
        seats.set_free(mask, session.width, slot, 8)
    wishes = (Wish(1, session.id, 3), Wish(2, country.id(1, 30), 5))
    full = FullStock(1, session.width, bytes(mask))
    found = _alternatives(country).to(wishes, full, NOW, Random(1).random)
    assert [one.choices[0].slot for one in found] == [2, 9, 11]
    assert {(one.choices[1].session, one.choices[1].slot) for one in found} == {(country.id(1, 30), 5)}


def test_alternatives_from_nearby_fill_up() -> None:
    country = Country({1: [1, 30], 2: [1, 30], 3: [1, 30]})
    country.leave(1, 1, {})
    session = country.sessions[country.id(1, 1)]
    wishes = (Wish(1, session.id, 3), Wish(2, country.id(1, 30), 5))
    full = FullStock(1, session.width, bytes(seats.none_free(SLOTS, LINES)))
    found = _alternatives(country).to(wishes, full, NOW, Random(1).random)
    assert [one.locations for one in found] == [(2, 2), (3, 3)]


def test_alternatives_to_one_dose_keep_its_shape() -> None:
    country = Country({1: [1], 2: [5, 9]}, vaccine="janssen")
    session = country.sessions[country.id(1, 1)]
    mask = bytearray(seats.none_free(SLOTS, LINES))
    seats.set_free(mask, session.width, 7, 0)
    wishes = (Wish(1, session.id, 3),)
    country.board.load(session.id, session.width, bytes(mask))
    full = FullStock(1, session.width, bytes(mask))
    found = _alternatives(country).to(wishes, full, NOW, Random(1).random)
    assert [(one.choices[0].session, one.locations) for one in found] == [
        (session.id, (1,)),
        (country.id(2, 5), (2,)),
        (country.id(2, 5), (2,)),
    ]
    days = (TODAY + timedelta(days=6), TODAY + timedelta(days=9))
    late = _alternatives(country).to(wishes, None, NOW, Random(1).random, days=days)
    assert {one.choices[0].session for one in late} == {country.id(2, 9)}


def test_alternatives_to_dose_2_alone_lie_in_its_days() -> None:
    country = Country({1: [20, 25], 2: [30, 60]})
    days = (TODAY + timedelta(days=22), TODAY + timedelta(days=50))
    country.leave(1, 25, {})
    found = _alternatives(country).to(
        (Wish(2, country.id(1, 25), 3),), None, NOW, Random(1).random, days=days
    )
    assert [one.choices[0].dose for one in found] == [2, 2, 2]
    assert {one.choices[0].session for one in found} == {country.id(2, 30)}


def test_alternatives_to_doses_at_two_locations() -> None:
    country = Country({1: [1], 2: [30], 3: [31]})
    wishes = (Wish(1, country.id(1, 1), 3), Wish(2, country.id(2, 30), 5))
    mask = bytearray(seats.none_free(SLOTS, LINES))
    seats.set_free(mask, 2, 11, 0)
    country.board.load(country.id(2, 30), 2, bytes(mask))
    (one, *others) = _alternatives(country).to(wishes, FullStock(2, 2, bytes(mask)), NOW, Random(1).random)
    assert [(choice.session, choice.slot) for choice in one.choices] == [(1, 3), (2, 11)]
    assert one.locations == (1, 2)
    assert others
    country.leave(2, 30, {})
    found = _alternatives(country).to(wishes, None, NOW, Random(1).random)
    assert {other.locations for other in found} == {(1, 3)}


def test_alternatives_to_a_household_seat_all_of_it() -> None:
    country = Country({1: [1, 30], 2: [1, 30]})
    session = country.sessions[country.id(1, 1)]
    mask = bytearray(seats.none_free(SLOTS, LINES))
    for slot, seat in ((2, 0), (9, 0), (10, 0), (11, 0), (11, 1)):
        seats.set_free(mask, session.width, slot, seat)
    country.board.load(session.id, session.width, bytes(mask))
    second = country.id(1, 30)
    wished = [(Wish(1, session.id, 4), Wish(2, second, 5)), (Wish(1, session.id, 3), Wish(2, second, 5))]
    full = FullStock(1, session.width, bytes(mask))
    found = _alternatives(country).to_all(wished, full, NOW, Random(1).random)
    slots = [[[(c.session, c.slot) for c in plan.choices] for plan in party] for party in found]
    assert slots[0] == [[(session.id, 11), (second, 5)]] * 2
    assert [{plan.locations for plan in party} for party in found[1:]] == [{(2, 2)}, {(2, 2)}]
    country.leave(1, 30, {5: 1})
    found = _alternatives(country).to_all(wished, full, NOW, Random(1).random)
    assert {plan.locations for party in found for plan in party} == {(2, 2)}
