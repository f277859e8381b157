"""The arrival curve and the people of a surge: shaped as the table says, repeatable, all different."""

from bisect import bisect_left
from collections import Counter
from datetime import date
from pathlib import Path
from random import Random

import pytest

from loadtests.figures import Histogram
from loadtests.people import PEOPLE_MAX, people
from loadtests.profile import ProfileError, arrivals, read_evening

TODAY = date(2026, 11, 22)


def _share(came: list[float], first_minute: float, last_minute: float) -> float:
    """Part of the people who came in these minutes after 20:13, of 227 compressed into 227 seconds."""
    return (bisect_left(came, last_minute) - bisect_left(came, first_minute)) / len(came)


@pytest.mark.parametrize("count", [1, 7, 400, 20_000])
def test_all_people_come_within_the_evening(count: int) -> None:
    came = arrivals(count, 40.0, Random(1))
    assert len(came) == count
    assert came == sorted(came)
    assert came[0] >= 0
    assert came[-1] <= 40.0


def test_the_top_is_to_the_beginning_as_in_the_table() -> None:
    came = arrivals(100_000, 227.0, Random(1))
    beginning, top = _share(came, 0, 2), _share(came, 16.5, 17.5) * 2
    assert top / beginning == pytest.approx(2_100_000 / 500_000, rel=0.05)


def test_the_fullest_minute_has_its_part_of_the_evening() -> None:
    came = arrivals(100_000, 227.0, Random(1))
    fullest = max(_share(came, minute / 4, minute / 4 + 1) for minute in range(227 * 4))
    assert fullest == pytest.approx(20_000 / 926_000, rel=0.05)


def test_it_falls_off_until_midnight() -> None:
    came = arrivals(100_000, 227.0, Random(1))
    quarters = [_share(came, minute, minute + 15) for minute in range(17, 210, 15)]
    assert quarters == sorted(quarters, reverse=True)


def test_the_same_seed_has_the_same_arrivals() -> None:
    assert arrivals(500, 10, Random(3)) == arrivals(500, 10, Random(3))
    assert arrivals(500, 10, Random(3)) != arrivals(500, 10, Random(4))


def test_a_table_without_a_fact_is_named(tmp_path: Path) -> None:
    table = tmp_path / "pic.csv"
    table.write_text("quand,grandeur,valeur\n2021-07-12T20:13,montée soudaine,\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="visiteurs: de"):
        read_evening(table)


def test_people_are_distinct_within_and_across_runs() -> None:
    names = [(one.family_name, one.given_names) for run in range(3) for one in people(2_000, run, 1, TODAY)]
    assert len(set(names)) == len(names)


def test_the_same_seed_draws_the_same_people() -> None:
    assert list(people(50, 0, 9, TODAY)) == list(people(50, 0, 9, TODAY))


def test_people_are_adults_mostly_under_35_and_live_where_people_live() -> None:
    crowd = list(people(20_000, 0, 1, TODAY))
    ages = [(TODAY - one.birth_date).days / 365.25 for one in crowd]
    assert min(ages) >= 18
    assert max(ages) <= 90
    assert sum(age < 35 for age in ages) / len(ages) == pytest.approx(0.65, abs=0.02)
    departments = Counter(one.postcode[:2] for one in crowd)
    assert departments["59"] / len(crowd) == pytest.approx(0.039, abs=0.01)


def test_more_people_than_names_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        next(people(PEOPLE_MAX + 1, 0, 1, TODAY))


def test_quantiles_are_within_a_bucket() -> None:
    histogram = Histogram()
    for ms in range(1, 1001):
        histogram.add(ms)
    assert histogram.quantile(0.5) == pytest.approx(500, rel=0.05)
    assert histogram.quantile(0.99) == pytest.approx(990, rel=0.05)
    assert Histogram().quantile(0.5) is None


def test_an_interval_has_what_came_after_its_beginning() -> None:
    histogram = Histogram()
    histogram.add(1)
    before = histogram.copy()
    histogram.add(100)
    assert histogram.since(before).quantile(0.5) == pytest.approx(100, rel=0.05)
