"""Scarcity is exact: whoever books in whatever order, the number of courses is the same.

Two independent checks on the seats that come out: the most courses that could ever be booked (a maximum
matching by augmenting paths) and what remains after bookers that pick badly on purpose. A control shows
that the second can fail: seats drawn without care give fewer courses under a bad order.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.capacity.allocations import load_allocations
from engine.capacity.opening import plan_sessions
from engine.capacity.register import load_register
from engine.capacity.scarcity import NotEnoughSeatsError, PairDays, pair_days, with_scarcity
from engine.domain import seats
from engine.domain.capacity import SessionPlan
from engine.rules.intervals import UnknownVaccineError, load_intervals

FRANCE = Path(__file__).parents[2] / "config" / "france"
FIRST_DAY = date(2026, 11, 22)

INTERVALS = load_intervals(FRANCE / "vaccins.csv", FRANCE / "vaccins_intervalle_historique.csv")

Stock = dict[tuple[int, str], Counter[date]]


@pytest.fixture(scope="module")
def plans() -> list[SessionPlan]:
    register = load_register(FRANCE / "centres.csv")
    allocations = load_allocations(FRANCE / "allocations_rdv_2021-08.csv")
    return list(plan_sessions(register, allocations, FIRST_DAY))


def stock_of(sessions: list[SessionPlan]) -> Stock:
    """Free seats by location and vaccine, by day."""
    stock: Stock = defaultdict(Counter)
    for session in sessions:
        free = seats.count_free(session.seats)
        if free:
            stock[session.location, session.vaccine][session.day] += free
    return stock


def valid_pairs(vaccine: str, free: Counter[date], booking_day: date) -> list[tuple[date, date]]:
    days = [day for day in free if free[day] > 0]
    return [(a, b) for a in days for b in days if INTERVALS.allows(vaccine, booking_day, a, b)]


def booked_until_nothing_is_left(
    sessions: list[SessionPlan], choose: Callable[[list[tuple[date, date]]], tuple[date, date]]
) -> int:
    """Courses booked when each person takes the pair of days that ``choose`` picks from the valid ones."""
    first_day = min(session.day for session in sessions)
    courses = 0
    for (_, vaccine), free in stock_of(sessions).items():
        while options := valid_pairs(vaccine, free, first_day):
            for day in choose(options):
                free[day] -= 1
            courses += 1
    return courses


def most_courses(sessions: list[SessionPlan]) -> int:
    """The maximum matching of dose-1 seats with dose-2 seats, by augmenting paths over single seats.

    A seat that could be either dose would make this wrong, so there must be none.
    """
    first_day = min(session.day for session in sessions)
    total = 0
    for (_, vaccine), free in stock_of(sessions).items():
        options = valid_pairs(vaccine, free, first_day)
        assert not {a for a, _ in options} & {b for _, b in options}
        followers: dict[date, list[tuple[date, int]]] = defaultdict(list)
        for a, b in options:
            followers[a] += [(b, n) for n in range(free[b])]
        matched: dict[tuple[date, int], tuple[date, int]] = {}
        for day in followers:
            total += sum(augmented((day, n), followers, matched, set()) for n in range(free[day]))
    return total


def augmented(
    seat: tuple[date, int],
    followers: dict[date, list[tuple[date, int]]],
    matched: dict[tuple[date, int], tuple[date, int]],
    seen: set[tuple[date, int]],
) -> bool:
    for other in followers[seat[0]]:
        if other not in matched:
            matched[other] = seat
            return True
    for other in followers[seat[0]]:
        if other not in seen:
            seen.add(other)
            if augmented(matched[other], followers, matched, seen):
                matched[other] = seat
                return True
    return False


ORDERS: dict[str, Callable[[list[tuple[date, date]]], tuple[date, date]]] = {
    "soonest": min,
    "latest": max,
    "shortest interval": lambda options: min(options, key=lambda days: days[1] - days[0]),
    "longest interval": lambda options: max(options, key=lambda days: days[1] - days[0]),
    "random 1": Random(1).choice,
    "random 2": Random(2).choice,
}


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_booking_ends_at_the_same_count(plans: list[SessionPlan], order: str) -> None:
    scarce = list(with_scarcity(plans, 2_000, INTERVALS, seed=7))
    assert booked_until_nothing_is_left(scarce, ORDERS[order]) == 2_000


def test_no_more_can_be_booked_by_any_cunning(plans: list[SessionPlan]) -> None:
    assert most_courses(list(with_scarcity(plans, 2_000, INTERVALS, seed=8))) == 2_000


def test_control_seats_drawn_without_care_depend_on_the_order() -> None:
    days = {0: 1, 20: 1, 30: 1, 60: 1}
    careless = [session(1, "pfizer", day, free) for day, free in days.items()]
    counts = {name: booked_until_nothing_is_left(careless, choose) for name, choose in ORDERS.items()}
    assert set(counts.values()) == {1, 2}


def test_sessions_stay_and_no_seat_appears(plans: list[SessionPlan]) -> None:
    scarce = list(with_scarcity(plans, 13_000, INTERVALS, seed=1))
    assert len(scarce) == len(plans)
    for before, after in zip(plans, scarce, strict=True):
        assert len(after.seats) == len(before.seats)
        free, was_free = (int.from_bytes(mask, "little") for mask in (after.seats, before.seats))
        assert free & ~was_free == 0
        assert _frame(after) == _frame(before)


def test_as_many_second_seats_as_first_and_none_on_the_first_day(plans: list[SessionPlan]) -> None:
    windows = {"pfizer": (14, 35, 49), "moderna": (14, 35, 49), "astrazeneca": (10, 73, 84)}
    early: Counter[int] = Counter()
    late: Counter[int] = Counter()
    vaccines = set()
    for plan in with_scarcity(plans, 13_000, INTERVALS, seed=1):
        free = seats.count_free(plan.seats)
        day = (plan.day - FIRST_DAY).days
        early_last, late_first, late_last = windows[plan.vaccine]
        if free:
            vaccines.add(plan.vaccine)
            assert 1 <= day <= early_last or late_first <= day <= late_last
            (early if day <= early_last else late)[plan.location] += free
    assert early == late
    assert early.total() == 13_000
    assert vaccines == {"pfizer", "moderna", "astrazeneca"}


def test_shape_of_the_country(plans: list[SessionPlan]) -> None:
    scarce = with_scarcity(plans, 13_000, INTERVALS, seed=1)
    at = sorted(sum(free.values()) // 2 for free in stock_of(list(scarce)).values())
    assert 1575 - len(at) == 1260  # 80 %
    assert at[0] >= 1
    assert at[len(at) // 2] <= 20  # Half of the others have a handful …
    assert 5 <= sum(pairs >= 100 for pairs in at) <= 50  # … and few have hundreds.
    assert at[-1] >= 200


def test_open_locations_are_like_the_country_in_size(plans: list[SessionPlan]) -> None:
    everywhere: Counter[int] = Counter()
    for plan in plans:
        everywhere[plan.location] += seats.count_free(plan.seats)
    for seed in (3, 4, 5):  # Drawn without regard to size, the share would stray by 0.013.
        opened = {location for location, _ in stock_of(list(with_scarcity(plans, 1_000, INTERVALS, seed)))}
        share = sum(everywhere[location] for location in opened) / everywhere.total()
        assert share == pytest.approx(0.2, abs=0.004)


def test_seed_decides_the_draw(plans: list[SessionPlan]) -> None:
    masks = [[plan.seats for plan in with_scarcity(plans, 500, INTERVALS, seed)] for seed in (1, 1, 2)]
    assert masks[0] == masks[1] != masks[2]


def test_more_locations_open_when_the_first_cannot_carry_it(plans: list[SessionPlan]) -> None:
    stock = stock_of(list(with_scarcity(plans, 2_500_000, INTERVALS, seed=1)))
    assert sum(free.total() for free in stock.values()) == 5_000_000
    assert len(stock) > 315


def test_few_pairs_open_few_locations(plans: list[SessionPlan]) -> None:
    stock = stock_of(list(with_scarcity(plans, 40, INTERVALS, seed=1)))
    assert sorted(free.total() for free in stock.values()) == [2] * 40


def test_no_pairs_no_seats(plans: list[SessionPlan]) -> None:
    assert stock_of(list(with_scarcity(plans, 0, INTERVALS, seed=1))) == {}
    assert list(with_scarcity([], 0, INTERVALS, seed=1)) == []


# --- Made-up sessions. ---


def session(location: int, vaccine: str, day: int, free: int, lines: int = 11) -> SessionPlan:
    """A session ``day`` days after the first, with ``free`` seats in slots of ``lines``."""
    slots = max(1, -(-free // lines))
    mask = seats.none_free(slots, lines)
    for number in range(free):
        seats.set_free(mask, seats.width_of(lines), number // lines, number % lines)
    start = datetime(2026, 11, 22, 8, tzinfo=UTC) + timedelta(days=day)
    return SessionPlan(
        location, vaccine, FIRST_DAY + timedelta(days=day), start, 10, slots, lines, bytes(mask)
    )


def test_all_that_there_is_and_one_more() -> None:
    days = [session(1, "pfizer", 0, 50), session(1, "pfizer", 3, 7), session(1, "pfizer", 40, 9)]
    others = [
        session(2, "astrazeneca", 10, 30),
        session(2, "astrazeneca", 73, 4),
        session(2, "astrazeneca", 50, 9),
    ]
    sessions = days + others
    assert most_courses(list(with_scarcity(sessions, 11, INTERVALS, seed=1))) == 11
    with pytest.raises(NotEnoughSeatsError, match=r"12 free pairs .* can carry 11 at 2 locations"):
        with_scarcity(sessions, 12, INTERVALS, seed=1)


def test_vaccine_of_one_dose_gets_no_seat() -> None:
    sessions = [session(1, "janssen", day, 5) for day in range(60)]
    assert stock_of(list(with_scarcity(sessions, 0, INTERVALS, seed=1))) == {}
    with pytest.raises(NotEnoughSeatsError):
        with_scarcity(sessions, 1, INTERVALS, seed=1)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        with_scarcity([], -1, INTERVALS, seed=1)
    with pytest.raises(UnknownVaccineError):
        with_scarcity([session(1, "sputnik", 0, 1)], 0, INTERVALS, seed=1)


@pytest.mark.parametrize(
    ("interval", "days"),
    [
        ((21, 49), PairDays(1, 14, 35, 49)),
        ((63, 84), PairDays(1, 10, 73, 84)),
        ((21, 28), PairDays(1, 3, 24, 28)),
        ((42, 42), PairDays(1, 1, 43, 43)),
    ],
)
def test_pair_days(interval: tuple[int, int], days: PairDays) -> None:
    assert pair_days(*interval) == days


@given(days_min=st.integers(1, 120), extra=st.integers(0, 120))
def test_pair_days_leave_no_other_pair(days_min: int, extra: int) -> None:
    days_max = days_min + extra
    found = pair_days(days_min, days_max)
    early = range(found.dose_1_first, found.dose_1_last + 1)
    late = range(found.dose_2_first, found.dose_2_last + 1)
    assert early
    assert late
    assert 0 not in early
    for a in (*early, *late):
        for b in (*early, *late):
            assert (days_min <= b - a <= days_max) == (a in early and b in late)


@settings(max_examples=60)
@given(
    stock=st.dictionaries(
        st.tuples(st.integers(1, 12), st.sampled_from(["pfizer", "astrazeneca"]), st.integers(0, 90)),
        st.integers(0, 15),
        min_size=1,
        max_size=60,
    ),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_any_stock_any_number(stock: dict[tuple[int, str, int], int], share: float, seed: int) -> None:
    sessions = [session(*key, free) for key, free in stock.items()] + [session(99, "pfizer", 0, 0)]
    room = carried(stock)
    wanted = round(room * share)
    scarce = list(with_scarcity(sessions, wanted, INTERVALS, seed))
    assert most_courses(scarce) == wanted
    assert booked_until_nothing_is_left(scarce, Random(seed).choice) == wanted
    with pytest.raises(NotEnoughSeatsError):
        with_scarcity(sessions, room + 1, INTERVALS, seed)


def carried(stock: dict[tuple[int, str, int], int]) -> int:
    """Pairs that the stock's early and late days carry."""
    sums: Counter[tuple[int, str, bool]] = Counter()
    for (location, vaccine, day), free in stock.items():
        early_last, late_first, late_last = (14, 35, 49) if vaccine == "pfizer" else (10, 73, 84)
        if 1 <= day <= early_last or late_first <= day <= late_last:
            sums[location, vaccine, day <= early_last] += free
    return sum(
        min(sums[place, code, True], sums[place, code, False])
        for place, code, _ in {(place, code, True) for place, code, _ in sums}
    )


def _frame(plan: SessionPlan) -> tuple[object, ...]:
    return plan.location, plan.vaccine, plan.day, plan.starts_at, plan.slot_minutes, plan.slots, plan.lines
