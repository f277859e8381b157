"""The measured acceptance, and how many offers follow from it."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from engine import limits
from engine.waitlist.acceptance import Acceptance, part_had

OPENED = datetime(2030, 1, 7, 8, tzinfo=UTC)
END = OPENED + timedelta(minutes=15)


@pytest.mark.parametrize(
    ("taken", "decided", "parallel"),
    [(1, 18, 18), (1, 1, 1), (2, 1, 1), (1, 4, 4), (3, 10, 4), (0, 50, 30), (1, 1_000, 30), (1, 30, 30)],
)
def test_as_many_as_it_takes_for_one_to_accept(taken: float, decided: float, parallel: int) -> None:
    assert Acceptance(taken, decided).parallel() == parallel
    assert limits.OFFERS_PARALLEL_MAX == 30


def test_it_begins_with_one_in_eighteen() -> None:
    assert Acceptance().parallel() == 18


@pytest.mark.parametrize("share", [1 / 18, 0.2, 0.6])
def test_it_finds_the_true_share_though_the_seats_end_an_offer_early(share: float) -> None:
    """Each offer would be taken with this chance, at some moment; the first one ends the others."""
    chance, measured, seen = random.Random(7), Acceptance(), []
    for _ in range(4_000):
        moments = [chance.random() for _ in range(measured.parallel()) if chance.random() < share]
        others = measured.parallel() - 1
        measured = measured.after(1, others * min(moments)) if moments else measured.after(0, others + 1)
        seen.append(measured.share)
    assert sum(seen[500:]) / len(seen[500:]) == pytest.approx(share, rel=0.15)


def test_what_was_decided_long_ago_fades() -> None:
    measured = Acceptance()
    for _ in range(5_000):
        measured = measured.after(1, 0)
    assert measured.parallel() == 1
    for _ in range(5_000):
        measured = measured.after(0, 1)
    assert measured.parallel() == limits.OFFERS_PARALLEL_MAX


@pytest.mark.parametrize(("minutes", "part"), [(0, 0.0), (3, 0.2), (15, 1.0), (20, 1.0), (-5, 0.0)])
def test_the_part_of_its_time_that_an_offer_had(minutes: int, part: float) -> None:
    assert part_had(OPENED, OPENED + timedelta(minutes=minutes), END) == pytest.approx(part)


def test_a_deadline_before_the_opening_is_a_whole_offer() -> None:
    assert part_had(END, END, OPENED) == 1.0
