"""Who is admitted to which dose, and that the day a refusal names is really the first one."""

from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st

from engine.domain.course import Kind
from engine.domain.person import Facts, Given
from engine.rules.campaign import (
    KIND_NAMES,
    Booster,
    Campaign,
    Cohort,
    KindName,
    Product,
    load_campaign,
    load_regions,
)
from engine.rules.eligibility import check
from engine.rules.intervals import load_vaccines
from engine.rules.refusal import Basis, Refusal, Rule

FRANCE = Path(__file__).parents[2] / "config" / "france"
CAMPAIGN = load_campaign(
    FRANCE / "campaign.toml",
    [vaccine.code for vaccine in load_vaccines(FRANCE / "vaccins.csv")],
    load_regions(FRANCE / "departements.csv"),
)
TODAY = date(2026, 11, 22)


def born(age: int, on: date = TODAY, groups: tuple[str, ...] = ()) -> Facts:
    """Somebody who has been ``age`` for a hundred days."""
    return Facts((on - timedelta(days=100)).replace(year=on.year - age), groups)


def primary(facts: Facts, vaccine: str, booked: date, dose: date | None = None) -> Refusal | None:
    return check(CAMPAIGN, facts, Kind.PRIMARY, vaccine, "75", booked, dose or booked)


def booster(facts: Facts, last: Given, booked: date, vaccine: str = "pfizer") -> Refusal | None:
    return check(CAMPAIGN, facts, Kind.BOOSTER, vaccine, "75", booked, booked, last)


@pytest.mark.parametrize("age", [12, 13, 17, 18, 30, 54, 55, 75, 100])
@pytest.mark.parametrize("vaccine", ["pfizer", "moderna"])
def test_everybody_of_12_and_over_is_admitted_today(age: int, vaccine: str) -> None:
    assert primary(born(age), vaccine, TODAY) is None


@pytest.mark.parametrize(
    ("vaccine", "age", "admitted"),
    [
        ("pfizer", 11, False),
        ("novavax", 17, False),
        ("novavax", 18, True),
        ("astrazeneca", 54, False),
        ("astrazeneca", 55, True),
        ("janssen", 54, False),
        ("janssen", 55, True),
    ],
)
def test_ages_of_the_vaccines_today(vaccine: str, age: int, admitted: bool) -> None:
    assert (primary(born(age), vaccine, TODAY) is None) is admitted


@pytest.mark.parametrize(
    ("age", "groups", "vaccine", "opened"),
    [
        (80, (), "pfizer", date(2021, 1, 18)),
        (71, (), "pfizer", date(2021, 3, 27)),
        (61, (), "moderna", date(2021, 4, 16)),
        (56, (), "astrazeneca", date(2021, 4, 12)),
        (56, (), "janssen", date(2021, 4, 12)),
        (51, (), "pfizer", date(2021, 5, 10)),
        (30, ("at-risk",), "pfizer", date(2021, 5, 1)),
        (30, (), "pfizer", date(2021, 5, 31)),
        (14, (), "pfizer", date(2021, 6, 15)),
        (14, (), "moderna", date(2021, 7, 28)),
        (60, ("health-worker",), "astrazeneca", date(2021, 3, 1)),
    ],
)
def test_openings_of_2021(age: int, groups: tuple[str, ...], vaccine: str, opened: date) -> None:
    facts = born(age, opened, groups)
    refused = primary(facts, vaccine, opened - timedelta(days=1))
    assert refused is not None
    assert (refused.from_day, refused.basis, refused.dose_from) == (opened, Basis.BOOKING, opened)
    assert primary(facts, vaccine, opened) is None


def test_a_cohort_that_opens_is_named_with_its_day_of_booking() -> None:
    refused = primary(born(30, date(2021, 5, 31)), "pfizer", date(2021, 5, 30), date(2021, 7, 1))
    assert refused == Refusal(
        Rule.COHORT_NOT_OPEN,
        name="adults",
        from_day=date(2021, 5, 31),
        basis=Basis.BOOKING,
        dose_from=date(2021, 7, 1),
    )


def test_at_17_a_vaccine_for_adults_is_for_a_dose_from_the_18th_birthday() -> None:
    facts = Facts(date(2009, 1, 10))
    birthday = date(2027, 1, 10)
    assert primary(facts, "novavax", TODAY, birthday - timedelta(days=1)) == Refusal(
        Rule.VACCINE_NOT_ADMITTED,
        name="novavax-18",
        from_day=birthday,
        basis=Basis.DOSE,
        dose_from=birthday,
    )
    assert primary(facts, "novavax", TODAY, birthday) is None


def test_the_earlier_of_two_ways_is_named() -> None:
    """At 17 in July 2021: 18 in September, but Moderna opens to 12 and over on the 28th."""
    refused = primary(Facts(date(2003, 9, 1)), "moderna", date(2021, 7, 1))
    assert refused is not None
    assert (refused.name, refused.from_day, refused.basis) == (
        "moderna-12",
        date(2021, 7, 28),
        Basis.BOOKING,
    )
    soon = primary(Facts(date(2003, 7, 5)), "moderna", date(2021, 7, 1))
    assert soon is not None
    assert (soon.name, soon.from_day, soon.basis) == ("moderna-18", date(2021, 7, 5), Basis.DOSE)


def test_a_later_rule_of_a_vaccine_narrows_the_earlier_one() -> None:
    facts = born(30, date(2021, 3, 18), ("health-worker",))
    assert primary(facts, "astrazeneca", date(2021, 3, 18)) is None
    refused = primary(facts, "astrazeneca", date(2021, 3, 19))
    assert refused is not None
    assert (refused.rule, refused.name) == (Rule.VACCINE_NOT_ADMITTED, "astrazeneca-55")
    assert refused.from_day == facts.day_of_age(55)


def test_a_declared_group_lifts_the_ages_of_a_product() -> None:
    products = tuple(
        msgspec.structs.replace(product, lifted_by=("health-worker",)) for product in CAMPAIGN.products
    )
    campaign = msgspec.structs.replace(CAMPAIGN, products=products)
    asked = Kind.PRIMARY, "janssen", "75", TODAY, TODAY
    assert check(campaign, born(30), *asked) is not None
    assert check(campaign, born(30, groups=("health-worker",)), *asked) is None


def test_a_cohort_opens_in_its_areas_only() -> None:
    islands = Cohort("islands", date(2021, 5, 12), areas=("974", "976"), age_min=18)
    campaign = msgspec.structs.replace(CAMPAIGN, cohorts=(*CAMPAIGN.cohorts, islands))
    facts, day = born(30, date(2021, 5, 12)), date(2021, 5, 12)
    assert check(campaign, facts, Kind.PRIMARY, "pfizer", "974", day, day) is None
    elsewhere = check(campaign, facts, Kind.PRIMARY, "pfizer", "75", day, day)
    assert elsewhere is not None
    assert (elsewhere.name, elsewhere.from_day) == ("adults", date(2021, 5, 31))


def test_a_cohort_for_minors_ends_with_the_day_before_they_are_18() -> None:
    only = Cohort("minors", date(2021, 6, 15), age_min=12, age_max=17)
    campaign = msgspec.structs.replace(CAMPAIGN, cohorts=(only,))
    facts, birthday = Facts(date(2008, 12, 24)), date(2026, 12, 24)
    asked = campaign, facts, Kind.PRIMARY, "pfizer", "75", TODAY
    assert check(*asked, birthday - timedelta(days=1)) is None
    assert check(*asked, birthday) == Refusal(Rule.COHORT_NOT_OPEN, name="minors")


def test_a_cohort_that_has_ended_is_never_open_again() -> None:
    only = Cohort("spring", date(2021, 3, 1), date(2021, 3, 31))
    campaign = msgspec.structs.replace(CAMPAIGN, cohorts=(only,))
    facts, last = born(30, date(2021, 3, 31)), date(2021, 3, 31)
    assert check(campaign, facts, Kind.PRIMARY, "pfizer", "75", last, last) is None
    after = last + timedelta(days=1)
    assert check(campaign, facts, Kind.PRIMARY, "pfizer", "75", after, after) == Refusal(Rule.COHORT_NOT_OPEN)


@pytest.mark.parametrize(
    ("age", "groups", "vaccine", "booked", "days"),
    [
        (70, (), "pfizer", date(2021, 9, 1), 180),
        (30, ("at-risk",), "pfizer", date(2021, 9, 1), 180),
        (70, (), "pfizer", date(2021, 11, 27), 150),
        (30, (), "pfizer", date(2021, 11, 27), 150),
        (30, (), "pfizer", date(2021, 12, 28), 90),
        (70, ("at-risk",), "pfizer", date(2021, 12, 28), 90),
        (60, (), "janssen", date(2021, 12, 14), 150),
        (60, (), "janssen", date(2021, 12, 15), 28),
        (60, (), "sputnik", TODAY, 90),
    ],
)
def test_delay_before_a_booster(
    age: int, groups: tuple[str, ...], vaccine: str, booked: date, days: int
) -> None:
    facts = born(age, booked, groups)
    assert booster(facts, Given(vaccine, booked - timedelta(days=days)), booked) is None
    refused = booster(facts, Given(vaccine, booked - timedelta(days=days - 1)), booked)
    assert refused is not None
    assert (refused.rule, refused.days, refused.days_min) == (Rule.BOOSTER_NOT_DUE, days - 1, days)
    assert refused.dose_from == booked + timedelta(days=1)


def test_a_booster_names_the_day_from_the_last_dose() -> None:
    refused = booster(born(40), Given("pfizer", date(2026, 10, 1)), TODAY)
    assert refused == Refusal(
        Rule.BOOSTER_NOT_DUE,
        days=52,
        days_min=90,
        name="booster-3-months",
        from_day=date(2026, 12, 30),
        basis=Basis.DOSE,
        dose_from=date(2026, 12, 30),
    )


def test_a_booster_of_a_vaccine_that_is_none_is_never_allowed() -> None:
    refused = booster(born(60), Given("pfizer", date(2026, 1, 1)), TODAY, "janssen")
    assert refused == Refusal(Rule.VACCINE_NOT_ADMITTED)


def test_a_booster_needs_the_last_dose() -> None:
    assert check(CAMPAIGN, born(40), Kind.BOOSTER, "pfizer", "75", TODAY, TODAY) == Refusal(
        Rule.GIVEN_MISSING
    )


# --- The named day, against every day of a small calendar and rules written anew. ---

START = date(2021, 3, 1)
LENGTH = 40
CALENDAR = [START + timedelta(days=n) for n in range(LENGTH)]
days = st.sampled_from(CALENDAR)
KINDS: tuple[tuple[KindName, ...], ...] = (("primary",), ("booster",), ("primary", "booster"))
kinds = st.sampled_from(KINDS)
groups = st.sampled_from([(), ("a",), ("b",), ("a", "b")])
vaccines = st.sampled_from([(), ("v",), ("w",)])
ages = st.sampled_from([(0, None), (18, None), (18, 18), (0, 17), (19, None)])


@st.composite
def campaigns(draw: st.DrawFn) -> Campaign:
    cohorts = []
    for number in range(draw(st.integers(0, 4))):
        low, high = draw(ages)
        since = draw(days)
        open_days = draw(st.none() | st.integers(0, 15))
        cohorts.append(
            Cohort(
                f"c{number}",
                since,
                None if open_days is None else since + timedelta(days=open_days),
                draw(st.sampled_from([(), ("1",), ("2",)])),
                draw(kinds),
                low,
                high,
                draw(groups),
                draw(vaccines),
            )
        )
    products = []
    for number, since in enumerate(draw(st.lists(days, max_size=3, unique=True))):
        low, high = draw(ages)
        products.append(Product(f"p{number}", "v", since, draw(kinds), low, high, draw(groups)))
    boosters = [
        Booster(
            f"b{number}",
            draw(days),
            draw(st.integers(1, 30)),
            draw(st.sampled_from([0, 18])),
            draw(groups),
            draw(vaccines),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    return msgspec.structs.replace(
        CAMPAIGN, cohorts=tuple(cohorts), products=tuple(products), boosters=tuple(boosters)
    )


def is_of_age(facts: Facts, day: date, rule: Cohort | Product) -> bool:
    return rule.age_min <= facts.age_on(day) <= (200 if rule.age_max is None else rule.age_max)


def allowed(campaign: Campaign, facts: Facts, kind: Kind, booked: date, dose: date, last: Given) -> bool:
    """The same rules, as one would say them: department 1, vaccine v."""
    name = KIND_NAMES[kind]
    begun = [rule for rule in campaign.products if rule.since <= booked and name in rule.kinds]
    if not begun:
        return False
    product = sorted(begun, key=lambda rule: rule.since)[-1]
    if not (set(product.lifted_by) & set(facts.groups) or is_of_age(facts, dose, product)):
        return False
    in_turn = any(
        rule.since <= booked
        and (rule.until is None or booked <= rule.until)
        and (not rule.areas or "1" in rule.areas)
        and name in rule.kinds
        and is_of_age(facts, dose, rule)
        and (not rule.groups or set(rule.groups) & set(facts.groups))
        and (not rule.vaccines or "v" in rule.vaccines)
        for rule in campaign.cohorts
    )
    if not in_turn or kind is Kind.PRIMARY:
        return in_turn
    delays = [
        rule.days_min
        for rule in campaign.boosters
        if rule.since <= booked
        and facts.age_on(dose) >= rule.age_min
        and (not rule.groups or set(rule.groups) & set(facts.groups))
        and (not rule.last_vaccines or last.vaccine in rule.last_vaccines)
    ]
    return bool(delays) and (dose - last.day).days >= min(delays)


@settings(max_examples=300, deadline=None)
@examples(
    campaign=campaigns(),
    birthday=st.integers(-2, 20),
    declared=groups,
    kind=st.sampled_from([Kind.PRIMARY, Kind.BOOSTER]),
    last=st.builds(Given, st.sampled_from(["v", "w"]), st.sampled_from(CALENDAR[:10])),
    booked=st.integers(0, 20),
    later=st.integers(0, 15),
)
def test_the_day_named_is_the_first_one(
    campaign: Campaign,
    birthday: int,
    declared: tuple[str, ...],
    kind: Kind,
    last: Given,
    booked: int,
    later: int,
) -> None:
    booking_day, dose_day = CALENDAR[booked], CALENDAR[booked + later]
    eighteen = dose_day + timedelta(days=birthday)
    facts = Facts(eighteen.replace(year=eighteen.year - 18), declared)

    def grants(book: date, dose: date) -> bool:
        return allowed(campaign, facts, kind, book, dose, last)

    refused = check(campaign, facts, kind, "v", "1", booking_day, dose_day, last)
    assert (refused is None) == grants(booking_day, dose_day)
    if refused is None:
        return
    # The dose comes first, then the booking: the order in which the best way is chosen.
    openings = [
        (dose, book)
        for dose in CALENDAR
        for book in CALENDAR
        if dose >= dose_day and booking_day <= book <= dose and grants(book, dose)
    ]
    if refused.dose_from is None or refused.dose_from > CALENDAR[-1]:
        assert not openings
        return
    dose, book = min(openings)
    assert refused.dose_from == dose
    expected = (book, Basis.BOOKING) if book > booking_day else (dose, Basis.DOSE)
    assert (refused.from_day, refused.basis) == expected
    assert check(campaign, facts, kind, "v", "1", book, dose, last) is None
