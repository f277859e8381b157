"""Vaccines and dated intervals, against the real tables and against planted mistakes in them."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rules.intervals import (
    IntervalRule,
    Intervals,
    NoIntervalError,
    UnknownVaccineError,
    Vaccine,
    load_intervals,
    load_rules,
    load_vaccines,
)
from engine.rules.tables import BadRowError

FRANCE = Path(__file__).parents[2] / "config" / "france"
VACCINES = FRANCE / "vaccins.csv"
HISTORY = FRANCE / "vaccins_intervalle_historique.csv"


@pytest.fixture(scope="module")
def intervals() -> Intervals:
    return load_intervals(VACCINES, HISTORY)


@pytest.mark.parametrize(
    ("code", "day", "expected"),
    [
        ("pfizer", date(2021, 1, 26), (21, 28)),
        ("pfizer", date(2021, 4, 13), (21, 28)),
        ("pfizer", date(2021, 4, 14), (42, 42)),
        ("pfizer", date(2021, 6, 15), (42, 42)),
        ("pfizer", date(2021, 6, 16), (21, 49)),
        ("pfizer", date(2026, 11, 22), (21, 49)),
        ("moderna", date(2021, 1, 26), (28, 28)),
        ("moderna", date(2021, 7, 12), (21, 49)),
        ("astrazeneca", date(2021, 3, 1), (63, 84)),
        ("astrazeneca", date(2021, 7, 12), (63, 84)),
    ],
)
def test_rule_in_force(intervals: Intervals, code: str, day: date, expected: tuple[int, int]) -> None:
    assert intervals.on(code, day) == expected


def test_vaccines_of_the_campaign(intervals: Intervals) -> None:
    doses = {code: (vaccine.doses, vaccine.age_min) for code, vaccine in intervals.vaccines.items()}
    assert doses == {
        "pfizer": (2, 12),
        "moderna": (2, 18),
        "astrazeneca": (2, 55),
        "janssen": (1, 55),
        "novavax": (2, 18),
    }
    assert intervals.vaccine("pfizer").name == "Comirnaty 30 µg"


def test_unknown_vaccine_is_named_with_the_known_ones(intervals: Intervals) -> None:
    with pytest.raises(UnknownVaccineError, match=r"'sputnik'.*astrazeneca, janssen, moderna"):
        intervals.on("sputnik", date(2021, 7, 12))


@pytest.mark.parametrize(
    ("code", "day", "reason"),
    [
        ("janssen", date(2021, 7, 12), "one dose"),
        ("novavax", date(2022, 3, 1), "no interval is known"),
        ("pfizer", date(2021, 1, 25), "only from 2021-01-26"),
        ("astrazeneca", date(2021, 2, 28), "only from 2021-03-01"),
    ],
)
def test_no_interval_is_guessed(intervals: Intervals, code: str, day: date, reason: str) -> None:
    with pytest.raises(NoIntervalError, match=reason):
        intervals.on(code, day)


def test_product_interval_where_no_rule_is_dated() -> None:
    undated = Intervals([Vaccine("new", "New", 2, 18, 1, 10, 20)], [])
    assert undated.on("new", date(2021, 1, 1)) == (10, 20)


@pytest.mark.parametrize(
    ("days", "allowed"), [(20, False), (21, True), (49, True), (50, False), (-21, False)]
)
def test_allows_counts_days_between_dates(intervals: Intervals, days: int, allowed: bool) -> None:
    first = date(2026, 3, 20)  # Summer time begins on the 29th in between: dates do not notice.
    second = first + timedelta(days=days)
    assert intervals.allows("pfizer", date(2026, 3, 1), first, second) is allowed


@given(
    days=st.lists(st.dates(date(2021, 1, 1), date(2021, 12, 31)), min_size=1, max_size=8, unique=True),
    asked=st.dates(date(2020, 12, 1), date(2022, 2, 1)),
)
def test_latest_rule_wins_in_any_file_order(days: list[date], asked: date) -> None:
    rules = [IntervalRule("v", day, number + 1, number + 1) for number, day in enumerate(days)]
    intervals = Intervals([Vaccine("v", "V", 2, 12, 1)], rules)
    begun = [rule for rule in rules if rule.since <= asked]
    if not begun:
        with pytest.raises(NoIntervalError):
            intervals.on("v", asked)
        return
    newest = begun[0]
    for rule in begun:
        newest = rule if rule.since > newest.since else newest
    assert intervals.on("v", asked) == (newest.days_min, newest.days_max)


RULE_HEADER = "a_partir_de,vaccin,min_jours,max_jours,note\n"


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        ("2021-02-30,pfizer,21,28,", "a_partir_de", "not a date"),
        ("2021-01-26,sputnik,21,28,", "vaccin", "unknown vaccine 'sputnik'"),
        ("2021-01-26,pfizer,x,28,", "min_jours", "not a whole number"),
        ("2021-01-26,pfizer,0,28,", "min_jours", "not between 1"),
        ("2021-01-26,pfizer,28,21,", "max_jours", "not between 28"),
        ("2021-01-26,pfizer,21,,", "max_jours", "is empty"),
        ("2021-01-26,pfizer,21", "note", "columns"),
        ("2021-01-01,pfizer,21,28,again", "a_partir_de", "two rules"),
    ],
)
def test_bad_rule_names_line_column_reason(tmp_path: Path, line: str, column: str, reason: str) -> None:
    path = tmp_path / "rules.csv"
    path.write_text(f"{RULE_HEADER}2021-01-01,pfizer,21,28,\n{line}\n")
    with pytest.raises(BadRowError, match=reason) as caught:
        load_rules(path, ["pfizer"])
    assert (caught.value.source, caught.value.line, caught.value.column) == ("rules.csv", 3, column)


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rules.csv"
    path.write_text("a_partir_de,vaccin,min_jours\n")
    with pytest.raises(BadRowError, match="max_jours") as caught:
        load_rules(path, ["pfizer"])
    assert (caught.value.line, caught.value.column) == (1, "max_jours")


def test_vaccine_twice_is_refused(tmp_path: Path) -> None:
    text = VACCINES.read_text(encoding="utf-8")
    path = tmp_path / "vaccins.csv"
    path.write_text(text + text.splitlines()[1] + "\n", encoding="utf-8")
    with pytest.raises(BadRowError, match="twice"):
        load_vaccines(path)
