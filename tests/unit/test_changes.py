"""Which doses of a booked course can be moved or cancelled, until when, and what goes with them."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from engine.domain.capacity import Session
from engine.domain.course import Kind
from engine.domain.person import Facts, Given
from engine.rules.campaign import load_campaign, load_regions
from engine.rules.changes import Act, check, check_move, released
from engine.rules.courses import Dose, Person, Rules
from engine.rules.intervals import load_intervals
from engine.rules.refusal import Refusal, Rule

FRANCE = Path(__file__).parents[2] / "config" / "france"
INTERVALS = load_intervals(FRANCE / "vaccins.csv", FRANCE / "vaccins_intervalle_historique.csv")
CAMPAIGN = load_campaign(
    FRANCE / "campaign.toml", INTERVALS.vaccines, load_regions(FRANCE / "departements.csv")
)
DAY_1 = date(2026, 12, 1)
OPENS = datetime(2026, 12, 1, 9, tzinfo=UTC)
ADULT = Person(Facts(date(1986, 5, 4)))
NEVER_BEFORE = OPENS - timedelta(days=5)


def dose(number: int, day: int, *, slot: int = 0, location: int = 1, vaccine: str = "pfizer") -> Dose:
    """A dose ``day`` days after the first one; slots of ten minutes from 09:00 UTC."""
    later = timedelta(days=day)
    return Dose(
        number, Session(100 + day, location, vaccine, DAY_1 + later, OPENS + later, 10, 36, 4), slot, "75"
    )


PAIR = dose(1, 0), dose(2, 28)


def rules(move: int = 60, cancel: int = 30, changes_max: int = 3) -> Rules:
    changes = msgspec.structs.replace(
        CAMPAIGN.changes,
        move_cutoff_minutes=move,
        cancel_cutoff_minutes=cancel,
        changes_max=changes_max,
    )
    return Rules(msgspec.structs.replace(CAMPAIGN, changes=changes), INTERVALS)


def may(
    act: Act, *numbers: int, now: datetime = NEVER_BEFORE, changed: int = 0, current: tuple[Dose, ...] = PAIR
) -> Refusal | None:
    return check(rules().campaign, act, numbers, current, changed, now)


def move(
    *moved: Dose, now: datetime = NEVER_BEFORE, current: tuple[Dose, ...] = PAIR, person: Person = ADULT
) -> Refusal | None:
    return check_move(rules(), Kind.PRIMARY, current, moved, person, 0, now, now.date())


@pytest.mark.parametrize(("act", "minutes"), [(Act.MOVE, 60), (Act.CANCEL, 30)])
@pytest.mark.parametrize("slot", [0, 30])
def test_the_cut_off_counts_from_the_slots_own_time(act: Act, minutes: int, slot: int) -> None:
    current = (dose(1, 0, slot=slot),)
    last = OPENS + timedelta(minutes=10 * slot - minutes)
    assert may(act, 1, now=last, current=current) is None
    late = Refusal(Rule.CUT_OFF, 1, minutes=minutes)
    assert may(act, 1, now=last + timedelta(microseconds=1), current=current) == late


@pytest.mark.parametrize("act", list(Act))
def test_a_dose_whose_slot_has_begun_neither_moves_nor_goes(act: Act) -> None:
    assert may(act, 1, now=OPENS) == Refusal(Rule.SLOT_BEGUN, 1)
    assert may(act, 1, 2, now=OPENS) == Refusal(Rule.SLOT_BEGUN, 1)
    assert may(act, 2, now=OPENS) is None


def test_without_a_cut_off_a_dose_can_go_until_it_begins() -> None:
    campaign = rules(cancel=0).campaign
    assert check(campaign, Act.CANCEL, [1], PAIR, 0, OPENS - timedelta(microseconds=1)) is None
    assert check(campaign, Act.CANCEL, [1], PAIR, 0, OPENS) == Refusal(Rule.SLOT_BEGUN, 1)


def test_cancelling_dose_1_gives_dose_2_back() -> None:
    assert released([1], PAIR) == (1, 2)
    assert released([1, 2], PAIR) == (1, 2)


def test_cancelling_dose_2_keeps_dose_1() -> None:
    assert released([2], PAIR) == (2,)
    assert released([2], PAIR[1:]) == (2,)


@pytest.mark.parametrize(("numbers", "dose_"), [((), 0), ((3,), 3), ((1, 3), 3)])
@pytest.mark.parametrize("act", list(Act))
def test_a_dose_that_is_not_booked_cannot_be_changed(act: Act, numbers: tuple[int, ...], dose_: int) -> None:
    assert may(act, *numbers) == Refusal(Rule.NO_SUCH_DOSE, dose_)


@pytest.mark.parametrize(("act", "numbers"), [(Act.MOVE, (1,)), (Act.MOVE, (1, 2)), (Act.CANCEL, (2,))])
def test_a_course_is_changed_only_so_often(act: Act, numbers: tuple[int, ...]) -> None:
    assert may(act, *numbers, changed=2) is None
    assert may(act, *numbers, changed=3) == Refusal(Rule.CHANGES_USED)


@pytest.mark.parametrize(("numbers", "current"), [((1,), PAIR), ((1, 2), PAIR), ((2,), PAIR[1:])])
def test_giving_up_the_whole_course_is_always_possible(
    numbers: tuple[int, ...], current: tuple[Dose, ...]
) -> None:
    assert may(Act.CANCEL, *numbers, changed=99, current=current) is None


def test_moving_a_dose_keeps_the_other() -> None:
    assert move(dose(1, 2)) is None
    assert move(dose(2, 30)) is None
    assert move(dose(2, 30, location=2)) is None


@examples(day=st.integers(-4, 60))
def test_moving_dose_1_says_when_dose_2_would_fit(day: int) -> None:
    """Dose 2 is 28 days after the old dose 1; 21 to 49 days must lie between them."""
    refused = move(dose(1, day))
    if 21 <= 28 - day <= 49:
        assert refused is None
        return
    assert refused is not None
    if day >= 28:
        assert refused.rule is Rule.OUT_OF_ORDER
        return
    assert (refused.rule, refused.dose, refused.days) == (Rule.INTERVAL, 2, 28 - day)
    window = DAY_1 + timedelta(days=day + 21), DAY_1 + timedelta(days=day + 49)
    assert (refused.from_day, refused.until_day) == window
    assert move(dose(1, day), dose(2, day + 21)) is None
    assert move(dose(1, day), dose(2, day + 49)) is None


def test_dose_2_moves_after_dose_1_has_been_given() -> None:
    now = OPENS + timedelta(days=10)
    assert move(dose(2, 35), now=now) is None
    assert move(dose(1, 12), now=now) == Refusal(Rule.SLOT_BEGUN, 1)
    refused = move(dose(2, 50), now=now)
    assert refused is not None
    assert (refused.rule, refused.days) == (Rule.INTERVAL, 50)


def test_a_dose_moves_to_no_slot_that_has_begun() -> None:
    now = OPENS + timedelta(days=22)
    assert move(dose(2, 21), now=now) == Refusal(Rule.PAST_SLOT, 2)


def test_one_dose_alone_does_not_change_its_vaccine() -> None:
    assert move(dose(2, 30, vaccine="moderna")) == Refusal(Rule.TWO_VACCINES)
    assert move(dose(1, 0, vaccine="moderna"), dose(2, 28, vaccine="moderna")) is None


def test_a_second_dose_alone_moves_by_the_dose_given_elsewhere() -> None:
    person = Person(ADULT.facts, Given("pfizer", date(2026, 11, 20)))
    current = (dose(2, 20),)
    assert move(dose(2, 38), current=current, person=person) is None
    assert move(dose(2, 39), current=current, person=person) is None, "late, but still needed"
    refused = move(dose(2, 5), current=current, person=person)
    assert refused is not None
    assert refused.from_day == date(2026, 12, 11)


def test_a_dose_is_not_moved_twice_at_once() -> None:
    assert move(dose(2, 30), dose(2, 31)) == Refusal(Rule.DOSES)


def test_a_move_asks_whether_the_new_day_is_admitted() -> None:
    twelve = Person(Facts(date(2014, 12, 1)))
    assert move(dose(1, 1), current=(dose(1, 0), dose(2, 28)), person=twelve) is None
    refused = move(dose(1, -1), person=twelve)
    assert refused is not None
    assert (refused.rule, refused.dose, refused.from_day) == (Rule.VACCINE_NOT_ADMITTED, 1, DAY_1)
