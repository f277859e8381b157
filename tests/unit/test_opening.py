"""Sessions planned from the real hours and allocations, checked against the tables read anew."""

import csv
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import fmean, median
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.capacity.allocations import (
    VACCINE_OF_DOSES_PER_VIAL,
    Allocation,
    Allocations,
    AllocationWeek,
    load_allocations,
    usual_weeks,
)
from engine.capacity.opening import (
    PLANNED_LINES_MAX,
    OpeningNotes,
    default_vaccine,
    opening_notes,
    plan_sessions,
    plan_weeks,
)
from engine.capacity.register import Hours, Register, Week, load_register
from engine.domain import seats
from engine.domain.capacity import Location, SessionPlan
from engine.rules.tables import BadRowError

FRANCE = Path(__file__).parents[2] / "config" / "france"
FIRST_DAY = date(2026, 3, 2)  # A Monday; summer time begins on 29 March in Paris.
WEEKDAYS = ("lun", "mar", "mer", "jeu", "ven", "sam", "dim")
COMPLETE_WEEKS = {"2021-08-16", "2021-08-23", "2021-08-30"}


@pytest.fixture(scope="module")
def register() -> Register:
    return load_register(FRANCE / "centres.csv")


@pytest.fixture(scope="module")
def allocations() -> Allocations:
    return load_allocations(FRANCE / "allocations_rdv_2021-08.csv")


@pytest.fixture(scope="module")
def notes(register: Register, allocations: Allocations) -> OpeningNotes:
    return opening_notes(register, allocations)


@pytest.fixture(scope="module")
def plans(register: Register, allocations: Allocations) -> list[SessionPlan]:
    return list(plan_sessions(register, allocations, FIRST_DAY))


@pytest.fixture(scope="module")
def centres() -> dict[int, dict[str, str]]:
    """Rows of the register by location id, read without the code under test."""
    with (FRANCE / "centres.csv").open(encoding="utf-8", newline="") as lines:
        selected = [row for row in csv.DictReader(lines) if row["selection"] == "t"]
    return dict(enumerate(sorted(selected, key=lambda row: int(row["gid"])), start=1))


@pytest.fixture(scope="module")
def doses() -> dict[str, float]:
    """Mean weekly doses by centre over the complete weeks, read without the code under test."""
    found = defaultdict(list)
    with (FRANCE / "allocations_rdv_2021-08.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["flacons_ucd"] != "0" and row["semaine"] in COMPLETE_WEEKS:
                found[row["gid"]].append(int(row["doses_allouees"]))
    return {gid: fmean(weeks) for gid, weeks in found.items()}


def hours_of(row: dict[str, str], weekday: int) -> list[tuple[int, int]]:
    """Opening intervals of the centre's weekday, by the rule that the README of the room states."""
    if not any(row[column] for column in WEEKDAYS):
        return [(540, 780), (840, 1080)] if weekday < 5 else []
    text = row[WEEKDAYS[weekday]]
    if text in ("", "ferme"):
        return []
    clock = [[int(part[:2]) * 60 + int(part[3:]) for part in span.split("-")] for span in text.split(",")]
    return [(begin, end) for begin, end in clock]


def minute_of(zone: str, instant: datetime) -> int:
    local = instant.astimezone(ZoneInfo(zone))
    return local.hour * 60 + local.minute


def test_one_session_per_location_and_open_day(
    plans: list[SessionPlan], centres: dict[int, dict[str, str]]
) -> None:
    calendar = [FIRST_DAY + timedelta(days=n) for n in range(91)]
    expected = {
        (key, day) for key, row in centres.items() for day in calendar if hours_of(row, day.weekday())
    }
    assert Counter((plan.location, plan.day) for plan in plans) == Counter(expected)


def test_sessions_span_first_opening_to_last_closing(
    register: Register, plans: list[SessionPlan], centres: dict[int, dict[str, str]]
) -> None:
    zones = {location.id: location.zone for location in register.locations}
    for plan in plans:
        hours = hours_of(centres[plan.location], plan.day.weekday())
        zone = zones[plan.location]
        assert plan.starts_at.utcoffset() == timedelta(0)
        assert plan.starts_at.astimezone(ZoneInfo(zone)).date() == plan.day
        assert minute_of(zone, plan.starts_at) == hours[0][0]
        assert 0 <= hours[-1][1] - hours[0][0] - plan.slots * plan.slot_minutes < plan.slot_minutes
        assert len(plan.seats) == plan.slots * seats.width_of(plan.lines)
        assert plan.slot_minutes in (5, 10, 15, 30)
        assert 1 <= plan.lines <= PLANNED_LINES_MAX


def test_breaks_carry_no_seat_and_open_slots_do(
    plans: list[SessionPlan], centres: dict[int, dict[str, str]]
) -> None:
    for plan in (plan for plan in plans if plan.day < FIRST_DAY + timedelta(days=7)):
        hours = hours_of(centres[plan.location], plan.day.weekday())
        width = seats.width_of(plan.lines)
        for slot in range(plan.slots):
            begin = hours[0][0] + slot * plan.slot_minutes
            is_open = any(opens <= begin and begin + plan.slot_minutes <= closes for opens, closes in hours)
            free = seats.free_in_slot(plan.seats, width, slot)
            assert free <= plan.lines
            assert is_open or free == 0


def test_lunch_break_of_a_known_centre(register: Register, plans: list[SessionPlan]) -> None:
    location = next(location for location in register.locations if location.register_id == "15")
    plan = next(plan for plan in plans if plan.location == location.id)
    width = seats.width_of(plan.lines)
    assert (plan.day, plan.slot_minutes, plan.slots) == (FIRST_DAY, 10, 54)
    free = list(seats.free_slots(plan.seats, width))
    assert free == [*range(24), *range(30, 54)]


def test_weekly_seats_are_the_mean_of_the_complete_weeks(
    notes: OpeningNotes, plans: list[SessionPlan], centres: dict[int, dict[str, str]], doses: dict[str, float]
) -> None:
    real = {gid: mean for gid, mean in doses.items() if gid != "2165"}
    default = round(median(round(mean) for mean in real.values()))
    assert notes.default_weekly_seats == default
    by_week: Counter[tuple[int, int]] = Counter()
    for plan in plans:
        by_week[plan.location, (plan.day - FIRST_DAY).days // 7] += seats.count_free(plan.seats)
    short = set()
    for location, row in centres.items():
        wanted = round(real.get(row["gid"], default))
        found = {by_week[location, week] for week in range(13)}
        assert len(found) == 1
        if found != {wanted}:
            assert max(found) < wanted
            short.add(location)
    assert len(short) == notes.capped == 4
    at_bound = {plan.location for plan in plans if plan.lines == PLANNED_LINES_MAX and plan.slot_minutes == 5}
    assert short <= at_bound


def test_seats_are_spread_evenly_over_the_day(plans: list[SessionPlan]) -> None:
    for plan in plans[::50]:
        width = seats.width_of(plan.lines)
        in_slot = [seats.free_in_slot(plan.seats, width, slot) for slot in range(plan.slots)]
        if sum(in_slot) >= plan.slots:
            open_slots = [count for count in in_slot if count]
            assert max(open_slots) - min(open_slots) <= 1


def test_notes_count_the_defaults(notes: OpeningNotes) -> None:
    assert (notes.locations, notes.hours_default, notes.never_open) == (1575, 238, 0)
    assert (notes.allocation_default, notes.redistributors, notes.default_weekly_seats) == (463, 1, 1308)
    assert notes.vaccines == {"pfizer": 1349, "moderna": 133, "astrazeneca": 93}
    assert notes.weekly_seats == 3_186_959
    text = "\n".join(notes.summary())
    assert all(figure in text for figure in ("1575", "238", "463", "1308", "3186959"))


def test_redistributing_platform_is_open_with_the_default(
    register: Register, allocations: Allocations, plans: list[SessionPlan]
) -> None:
    assert allocations.by_register_id["2165"].weekly_doses == 273_000
    platform = next(location.id for location in register.locations if location.register_id == "2165")
    week = [plan for plan in plans if plan.location == platform][:7]
    assert sum(seats.count_free(plan.seats) for plan in week) == 1308


def test_overseas_sessions_open_by_their_own_clock(register: Register, plans: list[SessionPlan]) -> None:
    reunion = {location.id for location in register.locations if location.department == "974"}
    guadeloupe = {location.id for location in register.locations if location.department == "971"}
    for plan in plans:
        if plan.location in reunion:
            assert plan.starts_at.astimezone(UTC).hour in range(2, 12)  # Local time less four hours.
        if plan.location in guadeloupe:
            assert plan.starts_at.astimezone(UTC).hour in range(11, 23)  # Local time plus four hours.


def test_ninety_one_days_are_planned_quickly(register: Register, allocations: Allocations) -> None:
    begun = time.process_time()
    count = sum(1 for _ in plan_sessions(register, allocations, FIRST_DAY + timedelta(days=400)))
    assert count > 90_000
    assert time.process_time() - begun < 3


def test_same_arguments_same_sessions(register: Register, allocations: Allocations) -> None:
    first = list(plan_sessions(register, allocations, FIRST_DAY, days=3))
    assert first == list(plan_sessions(register, allocations, FIRST_DAY, days=3))
    assert {plan.day for plan in first} == {FIRST_DAY + timedelta(days=n) for n in range(3)}


# --- Made-up locations: clocks that change, odd hours, vaccines. ---


def one_location(week: Week, zone: str = "Europe/Paris", gid: int = 9) -> Register:
    location = Location(
        id=1,
        register_id=str(gid),
        name="A",
        address="",
        postcode="75001",
        municipality="Paris",
        department="75",
        region="11",
        lat=48.9,
        lon=2.3,
        zone=zone,
    )
    return Register(locations=(location,), weeks={1: week})


def planned(
    week: Week, weekly: int, day: date, zone: str = "Europe/Paris", days: int = 1
) -> list[SessionPlan]:
    allocations = Allocations(by_register_id={"9": Allocation(weekly, None)})
    return list(plan_sessions(one_location(week, zone), allocations, day, days))


def test_slot_zero_follows_the_local_clock_across_the_change() -> None:
    saturday, sunday = planned((((540, 1020),),) * 7, 700, date(2026, 3, 28), days=2)
    assert saturday.starts_at == datetime(2026, 3, 28, 8, tzinfo=UTC)
    assert sunday.starts_at == datetime(2026, 3, 29, 7, tzinfo=UTC)
    assert sunday.seats == saturday.seats


@pytest.mark.parametrize(
    ("day", "slots", "free"),
    [
        # Open 00:00-01:00 and 04:00-06:00; ten minutes a slot. At 02:00 the clock goes to 03:00 …
        (date(2026, 3, 29), 30, [*range(6), *range(18, 30)]),
        # … in autumn at 03:00 to 02:00 …
        (date(2026, 10, 25), 42, [*range(6), *range(30, 42)]),
        # … and on an ordinary Sunday not at all.
        (date(2026, 4, 5), 36, [*range(6), *range(24, 36)]),
    ],
)
def test_change_of_the_clock_during_a_session(day: date, slots: int, free: list[int]) -> None:
    hours: Hours = ((0, 60), (240, 360))
    (plan,) = planned((hours,) * 7, 700, day)
    assert plan.slot_minutes == 10
    assert plan.slots == slots
    assert list(seats.free_slots(plan.seats, seats.width_of(plan.lines))) == free
    assert seats.count_free(plan.seats) == 100
    closes = plan.starts_at + timedelta(minutes=plan.slots * plan.slot_minutes)
    assert minute_of("Europe/Paris", closes) == 360


@pytest.mark.parametrize(
    ("weekly", "slot_minutes", "lines"),
    [(6 * 8 * 7, 10, 1), (6 * 8 * 7 - 1, 15, 2), (4 * 8 * 7 - 1, 30, 2), (1, 30, 1), (40_000, 5, 60)],
)
def test_slot_length_follows_the_allocation(weekly: int, slot_minutes: int, lines: int) -> None:
    week = planned((((540, 1020),),) * 7, weekly, FIRST_DAY, days=7)
    assert {(plan.slot_minutes, plan.lines) for plan in week} == {(slot_minutes, lines)}
    assert sum(seats.count_free(plan.seats) for plan in week) == weekly


intervals_of_a_day = st.lists(st.integers(0, 1440), min_size=2, max_size=6, unique=True).map(
    lambda cuts: tuple(pairs(sorted(cuts)))
)


def pairs(cuts: list[int]) -> Iterator[tuple[int, int]]:
    return zip(cuts[::2], cuts[1::2], strict=False)


@given(
    week=st.lists(st.one_of(st.just(()), intervals_of_a_day), min_size=7, max_size=7),
    weekly=st.integers(1, 20_000),
    zone=st.sampled_from(["Europe/Paris", "Indian/Reunion", "America/Miquelon"]),
)
def test_any_week_has_its_seats_or_its_lines_at_their_bound(
    week: list[Hours], weekly: int, zone: str
) -> None:
    plans = planned(tuple(week), weekly, date(2026, 6, 1), zone, days=7)
    for plan in plans:
        width = seats.width_of(plan.lines)
        hours = week[plan.day.weekday()]
        assert 1 <= plan.lines <= PLANNED_LINES_MAX
        for slot in seats.free_slots(plan.seats, width):
            begin = hours[0][0] + slot * plan.slot_minutes
            assert any(opens <= begin and begin + plan.slot_minutes <= closes for opens, closes in hours)
            assert not any(
                seats.is_free(plan.seats, width, slot, seat) for seat in range(plan.lines, width * 8)
            )
    found = sum(seats.count_free(plan.seats) for plan in plans)
    if any(closes - opens >= 5 for hours in week for opens, closes in hours):
        assert found <= weekly
        assert found == weekly or plans[0].lines == PLANNED_LINES_MAX
    else:
        assert found == 0


def test_location_that_is_closed_all_week_is_counted() -> None:
    register = one_location(((),) * 7)
    allocations = Allocations(by_register_id={})
    assert list(plan_sessions(register, allocations, FIRST_DAY)) == []
    assert opening_notes(register, allocations).never_open == 1


def test_opening_shorter_than_ten_minutes_still_has_a_session() -> None:
    week: Week = (((540, 548),), ((540, 1020),), (), (), (), (), ())
    monday, tuesday = planned(week, 970, FIRST_DAY, days=7)
    assert (monday.slot_minutes, monday.slots, tuesday.slots) == (5, 1, 96)
    assert seats.count_free(monday.seats) + seats.count_free(tuesday.seats) == 970


def test_day_unknown_in_a_known_week_is_closed() -> None:
    week: Week = (None, ((540, 600),), None, None, None, None, None)
    assert [plan.day.weekday() for plan in planned(week, 60, FIRST_DAY, days=7)] == [1]


def test_vaccine_by_doses_per_vial() -> None:
    monday, next_monday = date(2021, 8, 16), date(2021, 8, 23)
    weeks = [
        AllocationWeek("1", monday, 10, 60),
        AllocationWeek("1", next_monday, 20, 120),
        AllocationWeek("2", monday, 10, 100),
        AllocationWeek("2", next_monday, 0, 0),  # A week without vials does not count.
        AllocationWeek("3", monday, 10, 80),
        AllocationWeek("3", next_monday, 10, 60),  # Two products: the vials do not tell.
        AllocationWeek("4", monday, 100, 641),
        AllocationWeek("4", next_monday, 100, 641),  # No whole number of doses.
        AllocationWeek("5", monday, 0, 0),
    ]
    assert usual_weeks(weeks).by_register_id == {
        "1": Allocation(90, "pfizer"),
        "2": Allocation(100, "moderna"),
        "3": Allocation(70, None),
        "4": Allocation(641, None),
    }


def test_week_that_was_cut_off_does_not_count(allocations: Allocations) -> None:
    # Centre 831: 6,600 doses in each complete week, 11,000 in the one that was cut off.
    assert allocations.by_register_id["831"] == Allocation(6_600, "pfizer")
    assert "2387" not in allocations.by_register_id
    assert len(allocations.by_register_id) == 1113


def test_doses_per_vial_are_those_of_the_product_table() -> None:
    with (FRANCE / "vaccins.csv").open(encoding="utf-8", newline="") as lines:
        stated = {row["code"]: int(row["doses_par_flacon"]) for row in csv.DictReader(lines)}
    assert {code: doses for doses, code in VACCINE_OF_DOSES_PER_VIAL.items()} == {
        code: doses for code, doses in stated.items() if code != "novavax"
    }


def test_default_vaccines_are_a_share_by_register_key(register: Register, allocations: Allocations) -> None:
    drawn = [default_vaccine(str(gid)) for gid in range(10)]
    assert Counter(drawn) == {"moderna": 3, "astrazeneca": 2, "pfizer": 5}
    weeks, _ = plan_weeks(register, allocations)
    for week in weeks:
        allocation = allocations.by_register_id.get(week.location.register_id)
        if allocation is None:
            assert week.vaccine == default_vaccine(week.location.register_id)
        else:
            assert week.vaccine == "pfizer"


def test_bad_allocation_names_line_column_reason(tmp_path: Path) -> None:
    path = tmp_path / "allocations.csv"
    path.write_text("gid,semaine,flacons_ucd,doses_allouees\n17,2021-08-16,1,6\n17,2021-08-23,1,many\n")
    with pytest.raises(BadRowError, match="line 3, column doses_allouees: 'many'"):
        load_allocations(path)
    path.write_text("gid,semaine,flacons_ucd,doses_allouees\n17,2021-08-16,1,6\n17,2021-08-16,1,6\n")
    with pytest.raises(BadRowError, match="line 3, column semaine: centre 17 has 2021-08-16 twice"):
        load_allocations(path)
