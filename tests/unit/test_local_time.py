"""Night sessions over the hours that summer time takes and gives, and "today" in every department."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from engine.capacity.allocations import Allocation, Allocations
from engine.capacity.opening import plan_sessions
from engine.capacity.register import Hours, Register, load_register, zone_of
from engine.domain import seats
from engine.domain.capacity import Location, Session, SessionPlan

FRANCE = Path(__file__).parents[2] / "config" / "france"
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
NIGHT: Hours = ((0, 360),)


def planned(hours: Hours, day: date, weekly: int = 700, department: str = "75") -> list[SessionPlan]:
    location = Location(1, "9", "A", "", "75001", "Paris", department, "11", 48.9, 2.3, zone_of(department))
    register = Register((location,), {1: (hours,) * 7})
    return list(plan_sessions(register, Allocations({"9": Allocation(weekly, None)}), day, 1))


def local_times(plan: SessionPlan, department: str = "75") -> list[str]:
    """What a clock on the wall shows when each slot that has a seat begins."""
    session = Session(1, 1, "pfizer", plan.day, plan.starts_at, plan.slot_minutes, plan.slots, plan.lines)
    zone = ZoneInfo(zone_of(department))
    free = seats.free_slots(plan.seats, session.width)
    return [f"{session.slot_starts_at(slot).astimezone(zone):%H:%M%z}" for slot in free]


def wall(first: int, last: int, offset: str) -> list[str]:
    return [f"{minute // 60:02}:{minute % 60:02}{offset}" for minute in range(first, last, 10)]


def test_a_night_in_spring_has_no_slot_between_two_and_three() -> None:
    (plan,) = planned(NIGHT, SPRING)
    assert plan.starts_at == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert plan.slots == 30
    assert local_times(plan) == wall(0, 120, "+0100") + wall(180, 360, "+0200")


def test_a_night_in_autumn_has_the_hour_from_two_to_three_twice() -> None:
    (plan,) = planned(NIGHT, AUTUMN)
    assert plan.starts_at == datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert plan.slots == 42
    assert local_times(plan) == wall(0, 180, "+0200") + wall(120, 360, "+0100")


@pytest.mark.parametrize(
    ("hours", "times"),
    [
        # A break that ends, begins, or lies wholly in the hour that is skipped.
        (((0, 90), (150, 360)), wall(0, 90, "+0100") + wall(180, 360, "+0200")),
        (((0, 150), (180, 360)), wall(0, 120, "+0100") + wall(180, 360, "+0200")),
        (((0, 130), (170, 360)), wall(0, 120, "+0100") + wall(180, 360, "+0200")),
        # The first opening is in it.
        (((150, 360),), wall(180, 360, "+0200")),
    ],
)
def test_opening_hours_that_touch_the_skipped_hour(hours: Hours, times: list[str]) -> None:
    (plan,) = planned(hours, SPRING)
    assert local_times(plan) == times


def test_opening_hours_within_the_skipped_hour_make_no_session() -> None:
    assert planned(((120, 180),), SPRING) == []
    assert len(planned(((120, 180),), AUTUMN)) == 1


@pytest.mark.parametrize("department", ["971", "972", "973", "974", "976"])
@pytest.mark.parametrize("day", [SPRING, AUTUMN])
def test_overseas_departments_have_no_summer_time(department: str, day: date) -> None:
    (plan,) = planned(NIGHT, day, department=department)
    assert [time[:5] for time in local_times(plan, department)] == wall(0, 360, "")


cuts = st.lists(st.integers(0, 144), min_size=2, max_size=6, unique=True).map(
    lambda tens: tuple(
        (10 * first, 10 * last) for first, last in zip(sorted(tens)[::2], sorted(tens)[1::2], strict=False)
    )
)


@examples(hours=cuts, day=st.sampled_from([SPRING, AUTUMN, date(2026, 6, 7)]))
def test_every_slot_on_sale_is_within_the_opening_hours_and_none_is_left_out(hours: Hours, day: date) -> None:
    """Each ten minutes of the day that a clock on the wall shows within the hours, and no others."""
    zone = ZoneInfo("Europe/Paris")
    instant = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    open_now = []
    while (shown := instant.astimezone(zone)).date() == day:
        minute = shown.hour * 60 + shown.minute
        if any(opens <= minute < closes for opens, closes in hours):
            open_now.append(f"{shown:%H:%M%z}")
        instant += timedelta(minutes=10)
    if day == AUTUMN and any(120 < edge <= 180 for interval in hours for edge in interval):
        return  # Hours that begin or end in the hour that comes twice mean its first occurrence.
    ten_each = 7 * sum(closes - opens for opens, closes in hours)  # So that a slot lasts ten minutes.
    times = [time for plan in planned(hours, day, ten_each) for time in local_times(plan)]
    assert times == open_now


@pytest.mark.parametrize(
    ("department", "today"),
    [
        ("75", "2026-11-22"),
        ("2A", "2026-11-22"),
        ("971", "2026-11-21"),
        ("972", "2026-11-21"),
        ("973", "2026-11-21"),
        ("975", "2026-11-21"),
        ("977", "2026-11-21"),
        ("978", "2026-11-21"),
        ("974", "2026-11-22"),
        ("976", "2026-11-22"),
    ],
)
def test_today_is_the_departments_own_after_midnight_in_paris(department: str, today: str) -> None:
    midnight = datetime(2026, 11, 22, 0, 30, tzinfo=ZoneInfo("Europe/Paris"))
    assert midnight.astimezone(ZoneInfo(zone_of(department))).date().isoformat() == today


@pytest.mark.parametrize(("department", "begins"), [("974", 20), ("976", 21), ("75", 23), ("973", 27)])
def test_the_day_begins_where_one_is(department: str, begins: int) -> None:
    """In hours after midnight UTC of the day before, in winter."""
    zone = ZoneInfo(zone_of(department))
    first = datetime(2026, 11, 21, tzinfo=UTC) + timedelta(hours=begins)
    assert first.astimezone(zone).date() == date(2026, 11, 22)
    assert (first - timedelta(seconds=1)).astimezone(zone).date() == date(2026, 11, 21)


def test_every_location_of_the_register_is_in_its_departments_zone() -> None:
    locations = load_register(FRANCE / "centres.csv").locations
    overseas = {location.department: location.zone for location in locations if len(location.department) > 2}
    assert overseas == {code: zone_of(code) for code in overseas}
    assert {zone for zone in overseas.values() if zone == "Europe/Paris"} == set()
    assert {location.zone for location in locations if len(location.department) == 2} == {"Europe/Paris"}


@pytest.mark.parametrize("day", [SPRING, AUTUMN])
def test_every_instant_is_aware(day: date) -> None:
    (plan,) = planned(NIGHT, day)
    assert plan.starts_at.utcoffset() == timedelta(0)
