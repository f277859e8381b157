"""Reading a page of metrics: totals over labels, quantiles of histograms."""

import pytest

from engine.cli.scrape import Sample, quantile, total


def _bucket(bound: str, count: float) -> Sample:
    return Sample("lag_seconds_bucket", f'partition="1",le="{bound}"', count)


def test_a_total_is_over_all_labels_and_of_this_name_only() -> None:
    found = [Sample("a", 'p="0"', 2), Sample("a", 'p="1"', 3), Sample("a_total", "", 9)]
    assert total(found, "a") == 5
    assert total(found, "b") == 0


def test_a_quantile_lies_straight_within_its_bucket() -> None:
    found = [_bucket("0.1", 50), _bucket("0.2", 100), _bucket("+Inf", 100)]
    assert quantile(found, "lag_seconds", 0.5) == pytest.approx(0.1)
    assert quantile(found, "lag_seconds", 0.75) == pytest.approx(0.15)


def test_beyond_the_last_bound_it_is_that_bound() -> None:
    assert quantile([_bucket("0.1", 1), _bucket("+Inf", 100)], "lag_seconds", 0.99) == pytest.approx(0.1)


def test_nothing_counted_has_no_quantile() -> None:
    assert quantile([], "lag_seconds", 0.5) is None
    assert quantile([_bucket("+Inf", 0)], "lag_seconds", 0.5) is None
