"""Plans for preferences, held against a search that tries everything and is written from the rules alone.

Small boards are drawn: three locations, two time zones, days on both sides of the change of daylight saving
time on 31 October 2021, sessions during which the clocks change, slots of which few are free.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise, product
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import limits
from engine.availability.board import Board
from engine.availability.plan import Party
from engine.availability.planner import Planner
from engine.availability.preference import Order, Preference, Shape, When
from engine.availability.programmes import Programmes
from engine.availability.sampling import Choice
from engine.domain.capacity import Location, Session
from engine.domain.geo import distance_km
from engine.rules.intervals import IntervalRule, Intervals, Vaccine

DAY_0 = date(2021, 10, 28)
PLACES = {
    1: Location(1, "1", "", "", "", "", "", "", 48.0, 2.0, "Europe/Paris"),
    2: Location(2, "2", "", "", "", "", "", "", 48.0, 2.1, "Europe/London"),
    3: Location(3, "3", "", "", "", "", "", "", 48.0, 2.3, "Europe/Paris"),
}
# On 30 October the interval of one vaccine becomes another one; the third vaccine has one dose.
INTERVALS = Intervals(
    [Vaccine("a", "A", 2, 12, 1), Vaccine("b", "B", 2, 12, 2), Vaccine("c", "C", 1, 12, 3)],
    [
        IntervalRule("a", date(2021, 1, 1), 2, 3),
        IntervalRule("b", date(2021, 1, 1), 1, 4),
        IntervalRule("b", date(2021, 10, 29), 3, 3),
    ],
)
SLOTS = 4


class World:
    """A small board, and everything that may be booked on it by the rules."""

    def __init__(self, sessions: list[Session], frees: list[list[int]], now: datetime) -> None:
        self.sessions = {session.id: session for session in sessions}
        self.frees = dict(zip(self.sessions, frees, strict=True))
        self.now = now
        board = Board(sessions)
        for session in sessions:
            board.load(session.id, 1, bytes((1 << free) - 1 for free in self.frees[session.id]))
        self.planner = Planner(Programmes(board, PLACES, self.sessions, INTERVALS))

    def local(self, choice: Choice) -> datetime:
        """When the choice's slot begins, in the location's time."""
        session = self.sessions[choice.session]
        return session.slot_starts_at(choice.slot).astimezone(ZoneInfo(PLACES[session.location].zone))

    def km(self, choice: Choice, wished: Preference) -> float:
        place = PLACES[self.sessions[choice.session].location]
        return distance_km(wished.lat, wished.lon, place.lat, place.lon)

    def day(self, choice: Choice) -> date:
        return self.sessions[choice.session].day

    def fits(self, choice: Choice, wished: Preference) -> bool:
        """Whether this one dose is free, in the future, near enough, at the time wished and admitted."""
        session, when = self.sessions[choice.session], wished.when(choice.dose)
        at = self.local(choice).time()
        before = when.before or time.max
        in_hours = when.after <= at < before if when.after < before else not before <= at < when.after
        return (
            self.frees[choice.session][choice.slot] > 0
            and session.slot_starts_at(choice.slot) > self.now
            and self.km(choice, wished) <= wished.radius_km
            and (wished.vaccines is None or session.vaccine in wished.vaccines)
            and when.day_min <= session.day <= when.day_max
            and session.day.weekday() in when.weekdays
            and in_hours
            and admits(session.vaccine, session.location, session.day)
        )

    def goes_together(self, one: Choice, two: Choice, wished: Preference) -> bool:
        """Whether these may be dose 1 and dose 2 of one course."""
        first, second = self.sessions[one.session], self.sessions[two.session]
        today = self.now.astimezone(ZoneInfo(PLACES[first.location].zone)).date()
        if first.vaccine != second.vaccine or INTERVALS.vaccine(first.vaccine).doses < 2:
            return False
        if not INTERVALS.allows(first.vaccine, today, first.day, second.day):
            return False
        if first.location != second.location and not wished.elsewhere:
            return False
        times = [at.hour * 60 + at.minute for at in (self.local(one), self.local(two))]
        apart = abs(times[0] - times[1])
        return wished.same_time_minutes is None or min(apart, 1440 - apart) <= wished.same_time_minutes

    def all(self, wished: Preference) -> list[tuple[Choice, ...]]:
        """Everything that may be booked."""
        each = {
            dose: [choice for choice in self._choices(dose) if self.fits(choice, wished)]
            for dose in wished.shape.doses
        }
        if wished.shape is Shape.PAIR:
            return [pair for pair in product(each[1], each[2]) if self.goes_together(*pair, wished)]
        return [(choice,) for choices in each.values() for choice in choices]

    def _choices(self, dose: int) -> Iterator[Choice]:
        for number, frees in self.frees.items():
            yield from (Choice(dose, number, slot, free) for slot, free in enumerate(frees))


def admits(vaccine: str, location: int, day: date) -> bool:
    """Nobody gets one vaccine at one location on odd days."""
    return (vaccine, location, day.day % 2) != ("a", 2, 1)


@st.composite
def worlds(draw: st.DrawFn, full: int = 3) -> World:
    """Up to fifteen sessions; of ``full`` + 3 slots some three are free."""
    count = draw(st.integers(1, 15))
    sessions, frees = [], []
    for number in range(1, count + 1):
        location = draw(st.sampled_from((1, 2, 3)))
        day = DAY_0 + timedelta(days=draw(st.integers(0, 7)))
        # At 1:30 the clocks change during the session of 31 October; at 22:30 it passes midnight.
        at = datetime.combine(day, draw(st.sampled_from((time(1, 30), time(9), time(16, 30), time(22, 30)))))
        starts_at = at.replace(tzinfo=ZoneInfo(PLACES[location].zone)).astimezone(UTC)
        vaccine = draw(st.sampled_from("abc"))
        sessions.append(Session(number, location, vaccine, day, starts_at, 30, SLOTS, 4))
        free = st.sampled_from([0] * full + [1, 2, 4])
        frees.append(draw(st.lists(free, min_size=SLOTS, max_size=SLOTS)))
    now = datetime(2021, 10, 28, tzinfo=UTC) + timedelta(minutes=draw(st.integers(0, 4320)))
    return World(sessions, frees, now)


@st.composite
def whens(draw: st.DrawFn) -> When:
    """Mostly any time."""
    if draw(st.booleans()):
        return When()
    day_min = draw(st.sampled_from((date.min, DAY_0 + timedelta(days=2))))
    day_max = draw(st.sampled_from((date.max, DAY_0 + timedelta(days=5))))
    weekdays = draw(st.sampled_from((frozenset(range(7)), frozenset((0, 2, 4, 6)))))
    after = draw(st.sampled_from((time.min, time(2), time(9, 30), time(17), time(23))))
    return When(
        day_min, day_max, weekdays, after, draw(st.sampled_from((None, time(2), time(10), time(23, 30))))
    )


preferences = st.builds(
    Preference,
    lat=st.just(48.0),
    lon=st.sampled_from((2.0, 2.16)),
    radius_km=st.sampled_from((5.0, 9.0, 40.0)),
    shape=st.sampled_from([Shape.PAIR] * 5 + list(Shape)),
    order=st.sampled_from(Order),
    vaccines=st.sampled_from((None, None, frozenset("a"), frozenset("bc"))),
    dose_1=whens(),
    dose_2=whens(),
    same_time_minutes=st.sampled_from((None, None, 0, 30)),
    elsewhere=st.booleans(),
)


def check(world: World, party: Party, wished: Preference) -> None:
    """Everybody's plan may be booked, all of them at once."""
    taken: dict[tuple[int, int], int] = {}
    for plan in party:
        assert tuple(choice.dose for choice in plan.choices) == wished.shape.doses
        for choice, location in zip(plan.choices, plan.locations, strict=True):
            assert world.fits(choice, wished)
            assert world.sessions[choice.session].location == location
            assert world.sessions[choice.session].vaccine == plan.vaccine
            assert world.frees[choice.session][choice.slot] == choice.free
            taken[choice.session, choice.slot] = taken.get((choice.session, choice.slot), 0) + 1
        if len(plan.choices) == 2:
            assert world.goes_together(*plan.choices, wished)
        assert plan.distance_km == pytest.approx(max(world.km(c, wished) for c in plan.choices), abs=1e-6)
    assert all(world.frees[session][slot] >= people for (session, slot), people in taken.items())


@settings(max_examples=300, deadline=None)
@given(worlds(), preferences, st.integers(0, 99))
def test_what_is_found_may_be_booked_and_nothing_better_is_there(
    world: World, wished: Preference, seed: int
) -> None:
    found = world.planner.find(wished, 4, world.now, Random(seed).random, admits)
    there = world.all(wished)
    for plan in found:
        check(world, (plan,), wished)
    firsts = {(choices[0].session, choices[0].slot) for choices in there}
    told = [(plan.choices[0].session, plan.choices[0].slot) for plan in found]
    assert len(set(told)) == len(told) == min(4, len(firsts))
    if wished.order is Order.EARLIEST:
        best = sorted(world.sessions[session].day for session, _ in firsts)
        assert [world.day(plan.choices[0]) for plan in found] == best[: len(found)]
    else:
        nearest: dict[tuple[int, int], float] = {}
        for choices in there:
            first, km = choices[0], max(world.km(choice, wished) for choice in choices)
            nearest[first.session, first.slot] = min(km, nearest.get((first.session, first.slot), km))
        expected = sorted(nearest.values())[: len(found)]
        assert [plan.distance_km for plan in found] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(worlds(), preferences, st.integers(0, 99))
def test_dose_2_is_the_earliest_and_elsewhere_only_in_need(
    world: World, wished: Preference, seed: int
) -> None:
    there = world.all(wished)
    for plan in world.planner.find(wished, 4, world.now, Random(seed).random, admits):
        if len(plan.choices) < 2 or wished.order is Order.NEAREST:
            continue
        one, two = plan.choices
        seconds = [pair[1] for pair in there if (pair[0].session, pair[0].slot) == (one.session, one.slot)]
        here = [s for s in seconds if world.sessions[s.session].location == plan.locations[0]]
        assert bool(here) == (plan.locations[0] == plan.locations[1])
        assert world.day(two) == min(world.day(second) for second in here or seconds)


@settings(max_examples=150, deadline=None)
@given(worlds(full=0), preferences, st.integers(2, 8), st.integers(0, 99))
def test_a_household_stays_together(world: World, wished: Preference, people: int, seed: int) -> None:
    for party in world.planner.find_for(people, wished, 3, world.now, Random(seed).random, admits):
        assert len(party) == people
        check(world, party, wished)
        assert len({location for plan in party for location in plan.locations}) == 1
        for position in range(len(wished.shape.doses)):
            choices = [plan.choices[position] for plan in party]
            assert len({choice.session for choice in choices}) == 1
            slots = [choice.slot for choice in choices]
            assert slots == sorted(slots)
            assert set(slots) == set(range(slots[0], slots[-1] + 1))
            if wished.same_time_minutes is None:
                assert _fewest(world, choices, wished) == len(set(slots))


def _fewest(world: World, choices: list[Choice], wished: Preference) -> int:
    """In how few neighbouring slots of their session so many people fit."""
    dose, session = choices[0].dose, choices[0].session
    frees = [
        free if world.fits(Choice(dose, session, slot, free), wished) else -99
        for slot, free in enumerate(world.frees[session])
    ]
    return next(
        length
        for length in range(1, SLOTS + 1)
        for first in range(SLOTS - length + 1)
        if sum(frees[first : first + length]) >= len(choices) and min(frees[first : first + length]) > 0
    )


@settings(max_examples=150, deadline=None)
@given(worlds(full=0), preferences, st.integers(2, 4), st.integers(0, 99))
def test_a_household_is_seated_if_anything_has_room_for_it(
    world: World, wished: Preference, people: int, seed: int
) -> None:
    """Where one slot has enough seats for all, for each dose, something is found, and on no later day."""
    alone = [
        choices
        for choices in world.all(wished)
        if all(choice.free >= people for choice in choices)
        and len({world.sessions[choice.session].location for choice in choices}) == 1
    ]
    found = world.planner.find_for(people, wished, 1, world.now, Random(seed).random, admits)
    if alone and wished.same_time_minutes is None:
        (party,) = found
        if wished.order is Order.EARLIEST:
            earliest = min(world.day(choices[0]) for choices in alone)
            assert world.day(party[0].choices[0]) <= earliest
        else:
            assert party[0].distance_km <= min(world.km(c[0], wished) for c in alone) + 1e-6


@settings(max_examples=200, deadline=None)
@given(worlds(), preferences, st.integers(0, 99), st.data())
def test_a_freed_seat_finds_what_goes_with_it(
    world: World, wished: Preference, seed: int, data: st.DataObject
) -> None:
    session = data.draw(st.sampled_from(sorted(world.sessions)))
    slot = data.draw(st.integers(0, SLOTS - 1))
    party = world.planner.around(session, slot, wished, world.now, Random(seed).random, admits)
    with_it = [c for c in world.all(wished) if (session, slot) in {(each.session, each.slot) for each in c}]
    assert (party is None) == (not with_it)
    if party is not None:
        check(world, party, wished)
        uses = [(choice.session, choice.slot) for choice in party[0].choices]
        assert (session, slot) in uses
        as_first = any((c[0].session, c[0].slot) == (session, slot) for c in with_it)
        assert (uses[0] == (session, slot)) == as_first


@settings(max_examples=150, deadline=None)
@given(worlds(full=0), preferences, st.integers(2, 5), st.integers(0, 99), st.data())
def test_a_household_around_a_freed_seat_uses_it(
    world: World, wished: Preference, people: int, seed: int, data: st.DataObject
) -> None:
    session = data.draw(st.sampled_from(sorted(world.sessions)))
    slot = data.draw(st.integers(0, SLOTS - 1))
    chance = Random(seed).random
    party = world.planner.around(session, slot, wished, world.now, chance, admits, people)
    if party is not None:
        assert len(party) == people
        check(world, party, wished)
        assert (session, slot) in {(choice.session, choice.slot) for plan in party for choice in plan.choices}


@settings(max_examples=300, deadline=None)
@given(
    worlds(), st.sampled_from((1, 2)), st.sampled_from("abc"), st.integers(-5, 9), st.sampled_from((0.0, 9.0))
)
def test_what_goes_beside_a_dose_that_is_kept(
    world: World, dose: int, vaccine: str, ahead: int, radius_km: float
) -> None:
    day = DAY_0 + timedelta(days=ahead)
    wished = world.planner.beside(dose, 1, vaccine, day, world.now, radius_km)
    today = world.now.astimezone(ZoneInfo("Europe/Paris")).date()
    if wished is None:
        in_force = INTERVALS.vaccine(vaccine).doses > 1 and INTERVALS.on(vaccine, today)
        assert not in_force or day + timedelta(days=in_force[1] if dose == 1 else -in_force[0]) < today
        return
    plans = world.planner.find(wished, limits.PLANS_MAX, world.now, Random(1).random)
    told = {(plan.choices[0].session, plan.choices[0].slot) for plan in plans}
    expected = {
        (session.id, slot)
        for session in world.sessions.values()
        for slot, free in enumerate(world.frees[session.id])
        if free
        and session.vaccine == vaccine
        and session.location in ((1,) if radius_km == 0 else (1, 2))
        and session.slot_starts_at(slot) > world.now
        and INTERVALS.allows(vaccine, today, *((day, session.day) if dose == 1 else (session.day, day)))
    }
    assert {plan.choices[0].dose for plan in plans} <= {3 - dose}
    assert told <= expected
    assert len(told) == min(limits.PLANS_MAX, len(expected))
    assert all(one.distance_km <= other.distance_km for one, other in pairwise(plans))


CENTRE = Preference(48.0, 2.0, 40.0)


def _world(*sessions: tuple[int, int, str, list[int]], opens: time = time(9)) -> World:
    """Sessions of (location, days ahead, vaccine, free seats by slot); it is noon of 27 October."""
    made, frees = [], []
    for number, (location, ahead, vaccine, free) in enumerate(sessions, 1):
        day = DAY_0 + timedelta(days=ahead)
        starts_at = datetime.combine(day, opens, ZoneInfo(PLACES[location].zone)).astimezone(UTC)
        made.append(Session(number, location, vaccine, day, starts_at, 30, len(free), 8))
        frees.append(free)
    return World(made, frees, datetime(2021, 10, 27, 12, tzinfo=UTC))


def _find(world: World, wished: Preference, seed: int = 0) -> list[tuple[tuple[int, int], ...]]:
    plans = world.planner.find(wished, 9, world.now, Random(seed).random)
    return [tuple((choice.session, choice.slot) for choice in plan.choices) for plan in plans]


def test_hours_are_local_where_the_clocks_change_during_a_session() -> None:
    """From 1:30 on, 31 October: the slots are at 1:30, 2:00, 2:30, then again 2:00, 2:30, then 3:00."""
    world = _world((1, 3, "c", [1] * 6), opens=time(1, 30))
    for after, before, slots in (
        (time(2), time(2, 30), {1, 3}),
        (time(2, 30), None, {2, 4, 5}),
        (time(0), time(2), {0}),
        (time(3), time(2), {0, 5}),
    ):
        wished = Preference(48.0, 2.0, 1.0, Shape.SINGLE, dose_1=When(after=after, before=before))
        assert {plan[0][1] for plan in _find(world, wished)} == slots


def test_the_same_time_of_day_is_the_local_one_over_the_change_of_clocks() -> None:
    """In UTC, dose 2 is an hour later: two slots of thirty minutes."""
    world = _world((1, 2, "a", [0, 0, 1, 0]), (1, 4, "a", [1, 1, 1, 1]))
    wished = Preference(48.0, 2.0, 1.0, same_time_minutes=0)
    assert {_find(world, wished, seed)[0] for seed in range(9)} == {((1, 2), (2, 2))}


def test_dose_2_elsewhere_names_both_locations() -> None:
    world = _world((1, 1, "a", [1]), (3, 3, "a", [1]))
    assert _find(world, CENTRE) == []
    wished = Preference(48.0, 2.0, 40.0, elsewhere=True)
    (plan,) = world.planner.find(wished, 3, world.now, Random(0).random)
    assert plan.locations == (1, 3)
    assert plan.distance_km == pytest.approx(22.3, abs=0.2)
    assert [(wish.dose, wish.session, wish.slot) for wish in plan.wishes] == [(1, 1, 0), (2, 2, 0)]


def test_readers_of_the_earliest_day_are_spread_over_it() -> None:
    """A fuller session is told first more often, and no slot is the first one of many readers."""
    day = [(1, 1, "a", [8] * 20), (2, 1, "a", [8] * 5), (3, 1, "a", [8] * 20)]
    world = _world(*day, (1, 2, "a", [8] * 20), *((place, 4, "a", [8] * 20) for place in (1, 2, 3)))
    told = [_find(world, CENTRE, seed)[0] for seed in range(900)]
    by_session = [sum(one[0][0] == number for one in told) for number in (1, 2, 3, 4)]
    assert by_session[3] == 0
    assert by_session[1] < 200 < min(by_session[0], by_session[2])
    assert (
        max(sum(one[dose] == slot for one in told) for dose in (0, 1) for slot in {o[dose] for o in told})
        < 60
    )


def test_a_household_takes_neighbouring_slots_where_no_slot_has_room() -> None:
    world = _world((1, 1, "a", [1, 0, 2, 1, 0]), (1, 3, "a", [0, 3, 0, 0, 0]))
    (party,) = world.planner.find_for(3, CENTRE, 5, world.now, Random(0).random)
    assert [[(c.session, c.slot) for c in plan.choices] for plan in party] == [
        [(1, 2), (2, 1)],
        [(1, 2), (2, 1)],
        [(1, 3), (2, 1)],
    ]
    assert world.planner.find_for(4, CENTRE, 5, world.now, Random(0).random) == []
    for people in (0, limits.HOUSEHOLD_MAX + 1):
        with pytest.raises(ValueError, match="a household is 1 to 8 people"):
            world.planner.find_for(people, CENTRE, 5, world.now, Random(0).random)


def test_a_search_ends_after_its_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(*((1, ahead, "c", [0, 1]) for ahead in range(30)))
    wished = Preference(48.0, 2.0, 1.0, Shape.SINGLE)
    day_20 = DAY_0 + timedelta(days=20)
    late = lambda _vaccine, _location, day: day >= day_20  # noqa: E731
    assert len(world.planner.find(wished, 1, world.now, Random(0).random, late)) == 1
    monkeypatch.setattr(limits, "PLAN_LOOKS_MAX", 20)
    assert world.planner.find(wished, 1, world.now, Random(0).random, late) == []


def test_no_more_plans_than_the_limit() -> None:
    world = _world((1, 1, "c", [1] * 40))
    wished = Preference(48.0, 2.0, 1.0, Shape.SINGLE)
    assert len(world.planner.find(wished, 1000, world.now, Random(0).random)) == limits.PLANS_MAX
    assert world.planner.around(99, 0, wished, world.now, Random(0).random) is None


def test_a_freed_seat_on_a_day_that_is_not_wished_is_nobodys() -> None:
    world = _world((1, 1, "c", [1]))
    for days, is_used in (
        (When(day_min=DAY_0 + timedelta(days=2)), False),
        (When(day_max=DAY_0), False),
        (When(), True),
    ):
        wished = Preference(48.0, 2.0, 1.0, Shape.SINGLE, dose_1=days)
        assert (world.planner.around(1, 0, wished, world.now, Random(0).random) is not None) == is_used


def test_the_interval_is_that_of_the_date_at_dose_1() -> None:
    """At 23:30 in London it is 29 October in Paris, where another interval is in force."""
    made = _world((2, 1, "b", [1]), (1, 2, "b", [1]), (2, 3, "b", [1]))
    frees = list(made.frees.values())
    world = World(list(made.sessions.values()), frees, datetime(2021, 10, 28, 22, 30, tzinfo=UTC))
    wished = Preference(48.0, 2.0, 40.0, vaccines=frozenset("b"), elsewhere=True)
    used = {}
    for number in (1, 2, 3):
        party = world.planner.around(number, 0, wished, world.now, Random(0).random)
        assert party is not None
        used[number] = [choice.session for choice in party[0].choices]
    assert used == {1: [1, 3], 2: [1, 2], 3: [1, 3]}


def test_a_household_is_not_sent_to_two_locations() -> None:
    world = _world((1, 1, "a", [4]), (3, 3, "a", [4]))
    wished = Preference(48.0, 2.0, 40.0, elsewhere=True)
    assert len(world.planner.find_for(1, wished, 3, world.now, Random(0).random)) == 1
    assert world.planner.find_for(2, wished, 3, world.now, Random(0).random) == []


def test_the_same_time_is_asked_for_each_of_a_household() -> None:
    """Two at 9:00 and one at 9:30 go together with two and one, never with one and two."""
    for second, people in (([1, 2], 0), ([2, 1], 3)):
        world = _world((1, 1, "a", [2, 1]), (1, 3, "a", second))
        wished = Preference(48.0, 2.0, 1.0, same_time_minutes=0)
        found = world.planner.find_for(3, wished, 1, world.now, Random(0).random)
        assert [len(party) for party in found] == ([people] if people else [])


def test_where_one_slot_has_no_dose_2_at_its_time_another_may() -> None:
    world = _world((1, 1, "a", [1, 1, 1, 1]), (1, 3, "a", [0, 0, 0, 1]))
    wished = Preference(48.0, 2.0, 1.0, same_time_minutes=0)
    assert {_find(world, wished, seed)[0] for seed in range(9)} == {((1, 3), (2, 3))}
