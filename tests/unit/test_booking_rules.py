"""What may be asked for, before Redis hears of it."""

from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from engine.booking.rules import Impossible, Rule, check_days, check_slots
from engine.domain.capacity import Session
from engine.rules.intervals import IntervalRule, Intervals, Vaccine

DAY = date(2021, 7, 12)
OPENS = datetime(2021, 7, 12, 7, tzinfo=UTC)
INTERVALS = Intervals(
    [Vaccine("pfizer", "Comirnaty", 2, 12), Vaccine("janssen", "Janssen", 1, 55)],
    [IntervalRule("pfizer", date(2021, 6, 16), 21, 49)],
)


def session(number: int, day: int = 0, location: int = 1, vaccine: str = "pfizer") -> Session:
    return Session(
        number, location, vaccine, DAY + timedelta(days=day), OPENS + timedelta(days=day), 10, 6, 4
    )


def days_rule(
    gap: int, *, slot: int = 0, now: datetime = OPENS - timedelta(hours=1), vaccine: str = "pfizer"
) -> Impossible | None:
    first, second = session(1, vaccine=vaccine), session(2, gap, vaccine=vaccine)
    return check_days(first, slot, second, INTERVALS, now, now.date())


@pytest.mark.parametrize("slots", [(0, 0), (5, 5)])
def test_slots_that_exist(slots: tuple[int, int]) -> None:
    assert check_slots(session(1), slots[0], session(2, 21), slots[1]) is None


@pytest.mark.parametrize(("slots", "dose"), [((6, 0), 1), ((-1, 0), 1), ((0, 6), 2), ((0, -1), 2)])
def test_slots_that_do_not(slots: tuple[int, int], dose: int) -> None:
    assert check_slots(session(1), slots[0], session(2, 21), slots[1]) == Impossible(Rule.UNKNOWN_SLOT, dose)


@pytest.mark.parametrize(
    ("second", "rule"),
    [
        (session(2, 21, location=2), Rule.TWO_LOCATIONS),
        (session(2, 21, vaccine="moderna"), Rule.TWO_VACCINES),
        (session(2, 0), Rule.OUT_OF_ORDER),
        (session(2, -21), Rule.OUT_OF_ORDER),
    ],
)
def test_sessions_that_do_not_go_together(second: Session, rule: Rule) -> None:
    assert check_slots(session(1), 0, second, 0) == Impossible(rule)


@pytest.mark.parametrize(("gap", "allowed"), [(20, False), (21, True), (49, True), (50, False)])
def test_both_ends_of_the_interval(gap: int, allowed: bool) -> None:
    refused = days_rule(gap)
    if allowed:
        assert refused is None
        return
    assert refused is not None
    assert (refused.rule, refused.dose, refused.days) == (Rule.INTERVAL, 2, gap)
    assert (refused.days_min, refused.days_max) == (21, 49)
    assert (refused.from_day, refused.until_day) == (DAY + timedelta(days=21), DAY + timedelta(days=49))


def test_a_slot_that_has_begun_is_past() -> None:
    begins = session(1).slot_starts_at(3)
    assert days_rule(21, slot=3, now=begins - timedelta(microseconds=1)) is None
    assert days_rule(21, slot=3, now=begins) == Impossible(Rule.PAST_SLOT, 1)


def test_a_vaccine_without_an_interval_has_no_second_dose() -> None:
    assert days_rule(21, vaccine="janssen") == Impossible(Rule.ONE_DOSE)
    assert days_rule(21, now=datetime(2021, 6, 15, 12, tzinfo=UTC)) == Impossible(Rule.ONE_DOSE)


def test_a_vaccine_of_another_campaign_is_unknown() -> None:
    assert days_rule(21, vaccine="of another campaign") == Impossible(Rule.UNKNOWN_VACCINE)


def test_days_are_local_dates_not_hours() -> None:
    first = session(1)
    late = msgspec.structs.replace(first, starts_at=OPENS + timedelta(hours=14))
    second = msgspec.structs.replace(session(2, 21), starts_at=OPENS + timedelta(days=21, hours=-3))
    now = OPENS - timedelta(hours=1)
    assert check_days(late, 0, second, INTERVALS, now, now.date()) is None
