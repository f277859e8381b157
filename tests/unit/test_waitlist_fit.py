"""Pure checks of plans, deadlines and the front of a line."""

from datetime import UTC, date, datetime, timedelta

import pytest

from engine import limits
from engine.domain.capacity import Session
from engine.domain.course import Wish
from engine.storage.waitlist import Form, InLine
from engine.waitlist.fit import deadline, first_day, front, is_for, slots_of
from engine.waitlist.needs import Freed, Plan
from engine.waitlist.wakes import Wakes

DAY = date(2030, 1, 7)
BEGINS = datetime(2030, 1, 7, 8, tzinfo=UTC)
SESSIONS = {
    1: Session(1, 1, "pfizer", DAY, BEGINS, 10, 3, 2),
    2: Session(2, 1, "pfizer", DAY + timedelta(28), BEGINS + timedelta(28), 10, 3, 2),
    3: Session(3, 9, "pfizer", DAY, BEGINS, 10, 3, 2),
}
BOTH: Plan = ((Wish(1, 1, 1), Wish(2, 2, 0)),)


@pytest.mark.parametrize(
    ("plan", "freed", "size", "fits"),
    [
        (BOTH, Freed(1, 1), 1, True),
        (BOTH, Freed(2, 0), 1, True),
        (BOTH, Freed(1, 0), 1, False),
        (BOTH, Freed(1, 1), 2, False),
        (((),), Freed(1, 1), 1, False),
        (((Wish(1, 1, 1),), (Wish(1, 3, 1),)), Freed(1, 1), 2, False),
        (((Wish(1, 7, 1),),), Freed(7, 1), 1, False),
    ],
)
def test_whether_a_plan_is_for_them(plan: Plan, freed: Freed, size: int, fits: bool) -> None:
    assert is_for(plan, freed, size, SESSIONS) == fits


def test_the_day_is_that_of_the_first_dose_and_each_slot_counts_once() -> None:
    assert first_day(BOTH, SESSIONS) == DAY
    assert slots_of((*BOTH, *BOTH)) == [Freed(1, 1), Freed(2, 0)]


@pytest.mark.parametrize(
    ("before_s", "lasts_s"),
    [
        (86_400, limits.OFFER_S_MAX),
        (limits.OFFER_BEFORE_SLOT_S + 600, 600),
        (limits.OFFER_BEFORE_SLOT_S + limits.OFFER_S_MIN, limits.OFFER_S_MIN),
        (limits.OFFER_BEFORE_SLOT_S + limits.OFFER_S_MIN - 1, None),
        (0, None),
        (-1, None),
    ],
)
def test_an_offer_ends_well_before_its_first_slot(before_s: float, lasts_s: float | None) -> None:
    now = SESSIONS[1].slot_starts_at(1) - timedelta(seconds=before_s)
    expected = None if lasts_s is None else now + timedelta(seconds=lasts_s)
    assert deadline(BOTH, SESSIONS, now) == expected


def test_the_front_ends_with_the_first_who_wants_something_else() -> None:
    one, two = Form(1, "one", 1), Form(1, "one", 2)
    line = [InLine(number, form, ()) for number, form in enumerate((one, one, two, one))]
    assert [entry.id for entry in front(line)] == [0, 1]
    assert front([]) == []


def test_wakes_are_bounded_and_each_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITLIST_WAKES_MAX", 2)
    wakes = Wakes()
    for session in (1, 1, 2, 3):
        wakes.add(session, 0)
    assert (wakes.dropped, len(wakes)) == (1, 2)
    assert wakes.take(1) == [Freed(1, 0)]
    assert wakes.take(9) == [Freed(2, 0)]
    assert wakes.take(9) == []
