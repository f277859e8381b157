"""What a course may consist of, for everybody who may need one."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from engine.domain.capacity import Session
from engine.domain.course import Kind
from engine.domain.person import Facts, Given
from engine.rules.campaign import load_campaign, load_regions
from engine.rules.courses import Dose, Person, Rules, check
from engine.rules.intervals import load_intervals
from engine.rules.refusal import Basis, Refusal, Rule

FRANCE = Path(__file__).parents[2] / "config" / "france"
INTERVALS = load_intervals(FRANCE / "vaccins.csv", FRANCE / "vaccins_intervalle_historique.csv")
RULES = Rules(
    load_campaign(FRANCE / "campaign.toml", INTERVALS.vaccines, load_regions(FRANCE / "departements.csv")),
    INTERVALS,
)
TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
ADULT = Person(Facts(date(1986, 5, 4)))
SENIOR = Person(Facts(date(1956, 5, 4)))
RECOVERED = Person(Facts(date(1986, 5, 4), ("recovered",)))


def dose(
    number: int,
    day: int,
    vaccine: str = "pfizer",
    location: int = 1,
    *,
    slot: int = 0,
    area: str = "75",
    zone: str = "Europe/Paris",
    hour: int = 10,
) -> Dose:
    """A dose ``day`` days from today, in a session of six slots of ten minutes that opens at ``hour``."""
    date_ = TODAY + timedelta(days=day)
    opens = datetime(date_.year, date_.month, date_.day, hour, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return Dose(number, Session(100 + day, location, vaccine, date_, opens, 10, 6, 4), slot, area)


def asked(*doses: Dose, person: Person = ADULT, kind: Kind = Kind.PRIMARY) -> Refusal | None:
    return check(RULES, kind, doses, person, NOW, TODAY)


def had(vaccine: str, days_ago: int, person: Person = ADULT) -> Person:
    return msgspec.structs.replace(person, given=Given(vaccine, TODAY - timedelta(days=days_ago)))


# --- Both doses. ---


def test_both_doses_at_one_location() -> None:
    assert asked(dose(1, 1), dose(2, 29)) is None


def test_dose_2_may_be_at_another_location() -> None:
    assert asked(dose(1, 1), dose(2, 29, location=2, area="974", zone="Indian/Reunion")) is None


def test_the_order_in_which_doses_are_named_does_not_matter() -> None:
    assert asked(dose(2, 29), dose(1, 1)) is None


@examples(gap=st.integers(1, 80))
def test_the_interval_names_the_days_of_dose_2(gap: int) -> None:
    refused = asked(dose(1, 1), dose(2, 1 + gap))
    assert (refused is None) == (21 <= gap <= 49)
    if refused is not None:
        first, last = TODAY + timedelta(days=22), TODAY + timedelta(days=50)
        assert refused == Refusal(
            Rule.INTERVAL,
            2,
            gap,
            21,
            49,
            from_day=first,
            until_day=last,
            basis=Basis.DOSE,
            dose_from=first,
        )


def test_the_interval_in_force_on_the_day_of_booking_counts() -> None:
    booked = datetime(2021, 6, 10, 8, tzinfo=UTC)
    days = [date(2021, 6, 20), date(2021, 7, 11), date(2021, 8, 1)]
    first, early, right = (
        Dose(number, Session(1, 1, "pfizer", day, booked + timedelta(days=10 + n), 10, 6, 4), 0, "75")
        for n, (number, day) in enumerate(zip((1, 2, 2), days, strict=True))
    )
    assert check(RULES, Kind.PRIMARY, [first, right], ADULT, booked, booked.date()) is None
    refused = check(RULES, Kind.PRIMARY, [first, early], ADULT, booked, booked.date())
    assert refused is not None
    assert (refused.days, refused.days_min, refused.days_max) == (21, 42, 42)


@pytest.mark.parametrize(
    ("doses", "refusal"),
    [
        ([dose(1, 1), dose(2, 29, "moderna")], Refusal(Rule.TWO_VACCINES)),
        ([dose(1, 29), dose(2, 1)], Refusal(Rule.OUT_OF_ORDER)),
        ([dose(1, 1), dose(2, 1, slot=5)], Refusal(Rule.OUT_OF_ORDER)),
        ([dose(1, 1, slot=6), dose(2, 29)], Refusal(Rule.UNKNOWN_SLOT, 1)),
        ([dose(1, 1), dose(2, 29, slot=-1)], Refusal(Rule.UNKNOWN_SLOT, 2)),
        ([dose(1, -1), dose(2, 29)], Refusal(Rule.PAST_SLOT, 1)),
        ([dose(1, 1, "x"), dose(2, 29, "x")], Refusal(Rule.UNKNOWN_VACCINE, 1)),
        ([dose(1, 1), dose(1, 29)], Refusal(Rule.DOSES)),
        ([dose(1, 1), dose(2, 29), dose(3, 60)], Refusal(Rule.DOSES)),
        ([dose(3, 1)], Refusal(Rule.DOSES)),
        ([], Refusal(Rule.DOSES)),
    ],
)
def test_doses_that_make_no_pair(doses: list[Dose], refusal: Refusal) -> None:
    assert asked(*doses) == refusal


def test_dose_1_is_admitted_on_its_own_day() -> None:
    birthday = TODAY + timedelta(days=20)
    child = Person(Facts(birthday.replace(year=birthday.year - 12)))
    refused = asked(dose(1, 19), dose(2, 47), person=child)
    assert refused is not None
    assert (refused.rule, refused.dose, refused.from_day) == (Rule.VACCINE_NOT_ADMITTED, 1, birthday)
    assert asked(dose(1, 20), dose(2, 48), person=child) is None


def test_dose_2_is_admitted_on_its_own_day() -> None:
    """A campaign for minors only, and somebody who is 18 before dose 2."""
    minors = tuple(cohort for cohort in RULES.campaign.cohorts if cohort.name == "minors-12")
    rules = Rules(msgspec.structs.replace(RULES.campaign, cohorts=minors), INTERVALS)
    birthday = TODAY + timedelta(days=29)
    minor = Person(Facts(birthday.replace(year=birthday.year - 18)))
    refused = check(rules, Kind.PRIMARY, [dose(1, 1), dose(2, 29)], minor, NOW, TODAY)
    assert refused == Refusal(Rule.COHORT_NOT_OPEN, 2, name="minors-12")
    assert check(rules, Kind.PRIMARY, [dose(1, 1), dose(2, 28)], minor, NOW, TODAY) is None


def test_each_dose_is_admitted_in_its_own_area() -> None:
    everywhere = tuple(msgspec.structs.replace(cohort, areas=("974",)) for cohort in RULES.campaign.cohorts)
    rules = Rules(msgspec.structs.replace(RULES.campaign, cohorts=everywhere), INTERVALS)
    doses = dose(1, 1, area="974"), dose(2, 29, location=2, area="75")
    refused = check(rules, Kind.PRIMARY, doses, ADULT, NOW, TODAY)
    assert refused == Refusal(Rule.COHORT_NOT_OPEN, 2)


# --- One dose that is enough. ---


def test_who_has_recovered_is_not_forced_into_a_pair() -> None:
    assert asked(dose(1, 1), person=RECOVERED) is None
    assert asked(dose(1, 1, "moderna"), person=RECOVERED) is None


def test_a_vaccine_of_one_dose_is_not_forced_into_a_pair() -> None:
    assert asked(dose(1, 1, "janssen"), person=SENIOR) is None
    assert asked(dose(1, 1, "janssen"), dose(2, 29, "janssen"), person=SENIOR) == Refusal(Rule.ONE_DOSE)


def test_who_has_recovered_may_have_both_doses() -> None:
    assert asked(dose(1, 1), dose(2, 29), person=RECOVERED) is None


def test_a_lone_first_dose_of_two_is_refused() -> None:
    assert asked(dose(1, 1)) == Refusal(Rule.SECOND_DOSE_NEEDED, 2)


def test_another_group_does_not_make_one_dose_enough() -> None:
    person = Person(Facts(date(1986, 5, 4), ("at-risk", "health-worker")))
    assert asked(dose(1, 1), person=person) == Refusal(Rule.SECOND_DOSE_NEEDED, 2)


def test_a_vaccine_without_an_interval_has_no_second_dose() -> None:
    assert asked(dose(1, 1, "novavax"), dose(2, 29, "novavax")) == Refusal(Rule.ONE_DOSE)


# --- Only the second dose. ---


def test_only_the_second_dose_after_a_first_elsewhere() -> None:
    assert asked(dose(2, 8), person=had("pfizer", 13)) is None


def test_the_second_dose_keeps_the_interval_from_the_first_elsewhere() -> None:
    refused = asked(dose(2, 7), person=had("pfizer", 13))
    assert refused is not None
    assert (refused.rule, refused.dose, refused.days) == (Rule.INTERVAL, 2, 20)
    assert (refused.from_day, refused.until_day) == (
        TODAY + timedelta(days=8),
        TODAY + timedelta(days=36),
    )


@pytest.mark.parametrize(
    ("doses", "person", "refusal"),
    [
        ([dose(2, 8)], ADULT, Refusal(Rule.GIVEN_MISSING)),
        ([dose(2, 8)], had("moderna", 13), Refusal(Rule.TWO_VACCINES)),
        ([dose(2, 8)], had("pfizer", -1), Refusal(Rule.GIVEN_IN_FUTURE)),
        ([dose(2, 8, "janssen")], had("janssen", 30, SENIOR), Refusal(Rule.ONE_DOSE)),
        ([dose(1, 1), dose(2, 29)], had("pfizer", 13), Refusal(Rule.GIVEN_ALREADY, 1)),
        ([dose(1, 1)], had("pfizer", 13, RECOVERED), Refusal(Rule.GIVEN_ALREADY, 1)),
        ([dose(2, -1)], had("pfizer", 30), Refusal(Rule.PAST_SLOT, 2)),
    ],
)
def test_second_doses_that_do_not_follow(doses: list[Dose], person: Person, refusal: Refusal) -> None:
    assert asked(*doses, person=person) == refusal


def test_a_first_dose_of_today_is_not_in_the_future() -> None:
    assert asked(dose(2, 21), person=had("pfizer", 0)) is None


# --- Boosters. ---


def test_a_booster_of_another_vaccine_than_the_last_dose() -> None:
    assert asked(dose(1, 1), person=had("astrazeneca", 200), kind=Kind.BOOSTER) is None


def test_a_booster_is_not_held_to_the_interval_of_a_pair() -> None:
    assert asked(dose(1, 1), person=had("pfizer", 900), kind=Kind.BOOSTER) is None


def test_a_booster_before_its_delay_names_its_first_day() -> None:
    refused = asked(dose(1, 1), person=had("pfizer", 88), kind=Kind.BOOSTER)
    assert refused is not None
    assert (refused.rule, refused.dose, refused.days, refused.days_min) == (Rule.BOOSTER_NOT_DUE, 1, 89, 90)
    assert refused.from_day == TODAY + timedelta(days=2)
    assert asked(dose(1, 2), person=had("pfizer", 88), kind=Kind.BOOSTER) is None


@pytest.mark.parametrize(
    ("doses", "person", "rule"),
    [
        ([dose(1, 1)], ADULT, Rule.GIVEN_MISSING),
        ([dose(1, 1)], had("pfizer", -1), Rule.GIVEN_IN_FUTURE),
        ([dose(2, 1)], had("pfizer", 200), Rule.DOSES),
        ([dose(1, 1), dose(2, 29)], had("pfizer", 200), Rule.DOSES),
        ([dose(1, 1, "janssen")], had("janssen", 200, SENIOR), Rule.VACCINE_NOT_ADMITTED),
    ],
)
def test_boosters_that_cannot_be_had(doses: list[Dose], person: Person, rule: Rule) -> None:
    refused = asked(*doses, person=person, kind=Kind.BOOSTER)
    assert refused is not None
    assert refused.rule is rule


# --- Time. ---


def test_a_slot_that_has_begun_is_past() -> None:
    begins = dose(1, 1, slot=3).starts_at
    doses = dose(1, 1, slot=3), dose(2, 29)
    assert check(RULES, Kind.PRIMARY, doses, ADULT, begins - timedelta(microseconds=1), TODAY) is None
    assert check(RULES, Kind.PRIMARY, doses, ADULT, begins, TODAY) == Refusal(Rule.PAST_SLOT, 1)


@pytest.mark.parametrize(("hour_1", "hour_2"), [(0, 23), (23, 0), (12, 12)])
def test_days_between_doses_are_local_dates_not_hours(hour_1: int, hour_2: int) -> None:
    """Twenty days and 23 hours, or 21 days by the calendar: only the calendar counts, in each place."""
    first = dose(1, 1, hour=hour_1, area="972", zone="America/Martinique")
    second = dose(2, 22, hour=hour_2, area="974", zone="Indian/Reunion", location=2)
    assert asked(first, second) is None
    too_early = dose(2, 21, hour=hour_2, area="974", zone="Indian/Reunion", location=2)
    refused = asked(first, too_early)
    assert refused is not None
    assert refused.days == 20


def test_a_next_day_that_begins_before_the_day_before_is_out_of_order() -> None:
    """23:00 in Martinique is the next day at 07:00 in La Réunion, after its midnight."""
    first = dose(1, 1, hour=23, zone="America/Martinique")
    second = dose(2, 2, hour=0, zone="Indian/Reunion", location=2)
    assert second.starts_at < first.starts_at
    assert asked(first, second) == Refusal(Rule.OUT_OF_ORDER)


def test_an_instant_without_a_zone_is_a_fault() -> None:
    with pytest.raises(TypeError, match="offset-naive"):
        check(RULES, Kind.PRIMARY, [dose(1, 1), dose(2, 29)], ADULT, NOW.replace(tzinfo=None), TODAY)


def test_a_dose_that_is_kept_may_be_past() -> None:
    doses = dose(1, -1), dose(2, 29)
    assert check(RULES, Kind.PRIMARY, doses, ADULT, NOW, TODAY, kept={1}) is None
