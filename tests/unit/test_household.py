"""People who book together: how many, where, how close in time, and whose doses a refusal is about."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from engine.domain.capacity import Session
from engine.domain.course import Kind
from engine.domain.person import Facts, Given
from engine.rules import household
from engine.rules.campaign import load_campaign, load_regions
from engine.rules.courses import Dose, Person, Rules
from engine.rules.household import Member
from engine.rules.intervals import load_intervals
from engine.rules.refusal import Refusal, Rule

FRANCE = Path(__file__).parents[2] / "config" / "france"
INTERVALS = load_intervals(FRANCE / "vaccins.csv", FRANCE / "vaccins_intervalle_historique.csv")
RULES = Rules(
    load_campaign(FRANCE / "campaign.toml", INTERVALS.vaccines, load_regions(FRANCE / "departements.csv")),
    INTERVALS,
)
TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)


def dose(number: int, day: int, slot: int = 0, location: int = 1) -> Dose:
    opens = NOW + timedelta(days=day)
    session = Session(100 * location + day, location, "pfizer", TODAY + timedelta(days=day), opens, 10, 36, 4)
    return Dose(number, session, slot, "75")


def pair(slot: int = 0, age: int = 40, location_2: int = 1) -> Member:
    person = Person(Facts(date(TODAY.year - age, 1, 1)))
    return Member(person, Kind.PRIMARY, (dose(1, 1, slot), dose(2, 29, slot, location_2)))


def check(*members: Member) -> Refusal | None:
    return household.check(RULES, members, NOW, TODAY)


def test_eight_people_at_most_and_one_at_least() -> None:
    assert check(*[pair()] * 8) is None
    assert check(*[pair()] * 9) == Refusal(Rule.HOUSEHOLD_SIZE)
    assert check() == Refusal(Rule.HOUSEHOLD_SIZE)


def test_members_may_need_different_courses() -> None:
    recovered = Member(Person(Facts(date(1980, 1, 1), ("recovered",))), Kind.PRIMARY, (dose(1, 1),))
    elsewhere = Member(
        Person(Facts(date(1980, 1, 1)), Given("pfizer", TODAY - timedelta(days=30))),
        Kind.PRIMARY,
        (dose(2, 1, 1),),
    )
    booster = Member(
        Person(Facts(date(1950, 1, 1)), Given("pfizer", TODAY - timedelta(days=300))),
        Kind.BOOSTER,
        (dose(1, 1, 2),),
    )
    assert check(pair(), recovered, elsewhere, booster) is None


@pytest.mark.parametrize("index", range(3))
def test_a_refusal_says_whose_it_is(index: int) -> None:
    members = [pair() for _ in range(3)]
    members[index] = pair(age=8)
    refused = check(*members)
    assert refused is not None
    assert (refused.rule, refused.dose, refused.member) == (Rule.VACCINE_NOT_ADMITTED, 1, index)


def test_a_member_without_doses_is_refused() -> None:
    nothing = Member(pair().person, Kind.PRIMARY, ())
    assert check(pair(), nothing) == Refusal(Rule.DOSES, member=1)


def test_every_dose_is_at_one_location() -> None:
    assert check(pair(), pair(location_2=2)) == Refusal(Rule.TWO_LOCATIONS, 2, member=1)


def test_first_doses_are_at_neighbouring_times() -> None:
    assert check(pair(6), pair(0), pair(3)) is None
    assert check(pair(7), pair(0)) == Refusal(Rule.NOT_NEIGHBOURING, 1, minutes=60, member=0)
    assert check(pair(0), pair(6), pair(7)) == Refusal(Rule.NOT_NEIGHBOURING, 1, minutes=60, member=2)
