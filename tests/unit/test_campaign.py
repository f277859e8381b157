"""The campaign's file: the real one against the tables it restates, and planted mistakes in a small one."""

import csv
from datetime import date
from pathlib import Path

import pytest

from engine.domain.person import Facts
from engine.rules.campaign import (
    Campaign,
    CampaignError,
    decode_campaign,
    load_campaign,
    load_regions,
)
from engine.rules.intervals import load_vaccines

FRANCE = Path(__file__).parents[2] / "config" / "france"
VACCINES = [vaccine.code for vaccine in load_vaccines(FRANCE / "vaccins.csv")]
REGIONS = load_regions(FRANCE / "departements.csv")

SMALL = """
territories = ["978"]
[[groups]]
code = "carer"
number = 0
label = "Carer"
[[groups]]
code = "recovered"
number = 31
label = "Recovered"
one_dose = true
[[products]]
name = "adult-product"
vaccine = "pfizer"
since = 2021-01-01
age_min = 18
age_max = 64
[[cohorts]]
name = "adults"
since = 2021-05-31
until = 2021-12-31
age_min = 18
areas = ["974", "Bretagne"]
[[boosters]]
name = "late"
since = 2021-09-01
days_min = 180
[changes]
changes_max = 8
move_cutoff_minutes = 60
cancel_cutoff_minutes = 0
[holds]
ttl_seconds = 300
extensions_max = 2
[households]
members_max = 8
span_minutes = 60
[waitlist]
offer_minutes = 15
"""


def decode(text: str) -> Campaign:
    return decode_campaign(text.encode(), "c.toml", VACCINES, REGIONS)


@pytest.fixture(scope="module")
def france() -> Campaign:
    return load_campaign(FRANCE / "campaign.toml", VACCINES, REGIONS)


def test_numbers_of_groups_are_unique_and_stay(france: Campaign) -> None:
    """A token that was given out holds them as bits: adding a line here is fine, changing one is not."""
    numbers = [group.number for group in france.groups]
    assert len(set(numbers)) == len(numbers)
    assert {group.code: group.number for group in france.groups} == {
        "health-worker": 0,
        "at-risk": 1,
        "pregnant": 2,
        "recovered": 3,
        "immunocompromised": 4,
    }


def test_groups_pack_into_bits_and_back(france: Campaign) -> None:
    declared = ("immunocompromised", "recovered")
    assert france.pack_groups(declared) == 0b11000
    assert france.unpack_groups(0b11000) == declared
    assert france.unpack_groups(1 << 31) == ()
    assert decode(SMALL).pack_groups(["recovered", "recovered"]) == 1 << 31
    with pytest.raises(KeyError):
        france.pack_groups(["astronaut"])


def test_boosters_restate_the_table(france: Campaign) -> None:
    with (FRANCE / "vaccins_rappel_historique.csv").open(encoding="utf-8", newline="") as lines:
        table = {
            (date.fromisoformat(row["a_partir_de"]), int(row["delai_min_jours"]))
            for row in csv.DictReader(lines)
        }
    assert {(rule.since, rule.days_min) for rule in france.boosters} == table


def test_every_vaccine_is_somebodys(france: Campaign) -> None:
    assert {product.vaccine for product in france.products} == set(VACCINES)


def test_a_region_stands_for_its_departments() -> None:
    assert decode(SMALL).cohorts[0].areas == ("974", "22", "29", "35", "56")


def test_a_territory_without_a_line_in_the_table_is_an_area() -> None:
    assert decode(SMALL.replace('"974"', '"978"')).cohorts[0].areas[0] == "978"


def test_the_opening_that_the_comments_teach_can_be_used(france: Campaign) -> None:
    text = (FRANCE / "campaign.toml").read_text(encoding="utf-8")
    taught = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    lines = taught[taught.index("[[cohorts]]") :]
    campaign = decode(text + "\n".join(lines))
    assert campaign.cohorts[:-1] == france.cohorts
    assert campaign.cohorts[-1].areas == ("974", "976")


@pytest.mark.parametrize(
    ("old", "new", "place", "reason"),
    [
        ("[waitlist]", "[wait list]", "line", "Expected"),
        ("since = 2021-09-01", "since = 2021-02-30", "line", "Invalid"),
        ("days_min = 180", "days_minimum = 180", "boosters[0]", "unknown field `days_minimum`"),
        ("offer_minutes = 15", "", "waitlist", "missing required field `offer_minutes`"),
        ('vaccine = "pfizer"', 'vaccine = "sputnik"', "products[0].vaccine", "unknown vaccine 'sputnik'"),
        ("age_min = 18\nareas", 'groups = ["x"]\nareas', "cohorts[0].groups", "unknown group 'x'"),
        ("age_min = 18\nareas", 'vaccines = ["x"]\nareas', "cohorts[0].vaccines", "unknown vaccine 'x'"),
        ('"974"', '"99"', "cohorts[0].areas", "unknown area '99'"),
        ('"Bretagne"', '"Brittany"', "cohorts[0].areas", "unknown area 'Brittany'"),
        ("age_min = 18\nareas", 'kinds = ["third"]\nareas', "cohorts[0].kinds[0]", "'third'"),
        ("age_min = 18\nareas", "kinds = []\nareas", "cohorts[0].kinds", "admits nobody"),
        ("age_min = 18\nareas", 'kinds = ["booster"]\nareas', "cohorts[0]", "admits nobody"),
        ("age_min = 18\nareas", "age_min = 65\nareas", "cohorts[0]", "admits nobody"),
        ("age_min = 18\nareas", "age_max = 17\nareas", "cohorts[0]", "admits nobody"),
        ("age_min = 18\nareas", 'vaccines = ["moderna"]\nareas', "cohorts[0]", "admits nobody"),
        ("age_min = 18\nareas", "age_min = 18\nage_max = 17\nareas", "cohorts[0].age_max", "below age_min"),
        ("age_max = 64", "age_max = 17", "products[0].age_max", "below age_min"),
        ("until = 2021-12-31", "until = 2021-05-30", "cohorts[0].until", "before since"),
        ("since = 2021-05-31", "since = 2021-05-31T08:00:00", "cohorts[0].since", "Expected `date`"),
        ("number = 31", "number = 0", "groups[1].number", "0 is there twice"),
        ("number = 31", "number = 32", "groups[1].number", "`int`"),
        ('code = "recovered"', 'code = "carer"', "groups[1].code", "'carer' is there twice"),
        ('code = "carer"', 'code = "Carer of"', "groups[0].code", "regex"),
        ("changes_max = 8", "changes_max = 9", "changes.changes_max", "<= 8"),
        ("members_max = 8", "members_max = 9", "households.members_max", "<= 8"),
        ("days_min = 180", 'days_min = 180\ngroups = ["x"]', "boosters[0].groups", "unknown group 'x'"),
        ("days_min = 180", 'days_min = 180\nlast_vaccines = ["x"]', "boosters[0].last_vaccines", "'x'"),
        ("age_max = 64", 'age_max = 64\nlifted_by = ["x"]', "products[0].lifted_by", "unknown group 'x'"),
        ("age_max = 64", 'age_max = 64\nkinds = ["primary", "primary"]', "products[0].since", "two primary"),
        ("age_max = 64", "age_max = 121", "products[0].age_max", "<= 120"),
        ('territories = ["978"]', "surprise = 1", "top level", "unknown field `surprise`"),
    ],
)
def test_a_mistake_names_its_place_and_reason(old: str, new: str, place: str, reason: str) -> None:
    assert SMALL.count(old) == 1
    with pytest.raises(CampaignError) as caught:
        decode(SMALL.replace(old, new))
    error = caught.value
    assert error.source == "c.toml"
    assert error.place == place or (place == "line" and error.place.startswith("line "))
    assert reason in error.reason
    assert str(error) == f"c.toml, {error.place}: {error.reason}"


@pytest.mark.parametrize("table", ["cohorts", "products", "boosters"])
def test_a_name_is_used_once_in_a_table(table: str) -> None:
    block = SMALL[SMALL.index(f"[[{table}]]") :]
    block = block[: block.index("\n[", 1) + 1]
    with pytest.raises(CampaignError, match="is there twice") as caught:
        decode(f"{SMALL}\n{block}")
    assert caught.value.place == f"{table}[1].name"


def test_two_rules_of_a_vaccine_from_one_day_contradict_each_other() -> None:
    again = '\n[[products]]\nname = "again"\nvaccine = "pfizer"\nsince = 2021-01-01\n'
    with pytest.raises(CampaignError, match="two primary rules from 2021-01-01") as caught:
        decode(SMALL + again)
    assert caught.value.place == "products[1].since"
    assert len(decode(SMALL + again + 'kinds = ["booster"]\n').products) == 2


def test_a_group_that_lifts_the_ages_makes_a_cohort_possible() -> None:
    text = SMALL.replace("age_min = 18\nareas", 'age_min = 80\ngroups = ["carer"]\nareas')
    with pytest.raises(CampaignError, match="admits nobody"):
        decode(text)
    assert decode(text.replace("age_max = 64", 'age_max = 64\nlifted_by = ["carer"]')).cohorts


def test_a_file_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(CampaignError, match="not UTF-8") as caught:
        decode_campaign(b"# \xe9", "c.toml", VACCINES, REGIONS)
    assert caught.value.place == "byte 2"


def test_more_groups_than_bits_are_refused() -> None:
    groups = "".join(f'\n[[groups]]\ncode = "g{n}"\nnumber = {n}\nlabel = "G"' for n in range(1, 31))
    assert len(decode(SMALL + groups).groups) == 32
    with pytest.raises(CampaignError, match="length <= 32") as caught:
        decode(f'{SMALL}{groups}\n[[groups]]\ncode = "one-more"\nnumber = 5\nlabel = "G"')
    assert caught.value.place == "groups"


@pytest.mark.parametrize(
    ("born", "years", "first"),
    [
        (date(2003, 7, 12), 18, date(2021, 7, 12)),
        (date(2004, 2, 29), 18, date(2022, 3, 1)),
        (date(2004, 2, 29), 20, date(2024, 2, 29)),
    ],
)
def test_the_first_day_of_an_age(born: date, years: int, first: date) -> None:
    facts = Facts(born)
    assert facts.day_of_age(years) == first
    assert facts.age_on(first) == years
    assert facts.age_on(date.fromordinal(first.toordinal() - 1)) == years - 1
