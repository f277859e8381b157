"""The checker must reject what it is there for: histories and rows made by hand, each broken in one way."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.faults.checker import Checked, CourseRow, Outbox, check, check_outboxes
from tests.faults.history import Op, Seat

SIZES = {1: (10, 4), 2: (10, 4)}
ANA, EVA = "aa" * 16, "ee" * 16
SEATS: tuple[Seat, ...] = ((1, 1, 0, 0), (2, 2, 0, 0))
OTHER_SEATS: tuple[Seat, ...] = ((1, 1, 3, 1), (2, 2, 3, 1))


def booked(person: str = ANA, at_s: float = 1.0, **changes: Any) -> Op:
    """An acknowledged booking."""
    op = Op("book", person, "key", "k" + person, at_s, 1, 7, at_s + 0.1, "ok", 201, "", "ref", SEATS)
    return replace(op, **changes)


def not_booked(outcome: str, at_s: float, words: str = "slot-full", status: int = 409, **changes: Any) -> Op:
    """A copy of the same request that was told otherwise."""
    other = {
        "outcome": outcome,
        "words": words,
        "status": status,
        "generation": 0,
        "location": 0,
        "seats": (),
    }
    return booked(at_s=at_s, **{**other, **changes})


def cancelled(person: str = ANA, at_s: float = 2.0, **changes: Any) -> Op:
    """An acknowledged cancellation."""
    op = Op("cancel", person, "key2", "x" + person, at_s, 1, 7, at_s + 0.1, "ok", 200)
    return replace(op, **changes)


def row(person: str = ANA, **changes: Any) -> CourseRow:
    """The row that belongs to ``booked``."""
    return replace(CourseRow(person, 1, 7, True, "k" + person, SEATS, SEATS), **changes)


def dead(person: str = ANA, **changes: Any) -> CourseRow:
    """The row of a cancelled course."""
    return row(person, is_live=False, live_seats=(), **changes)


def figures(checked: Checked) -> set[str]:
    """What was found."""
    return {finding.figure for finding in checked.findings}


GOOD: dict[str, tuple[list[Op], list[CourseRow]]] = {
    "booked": ([booked()], [row()]),
    "booked and cancelled": ([booked(), cancelled()], [dead()]),
    "asked twice": ([booked(), booked(at_s=3)], [row()]),
    "a cancellation without an answer": ([booked(), cancelled(outcome="unknown", status=0)], [dead()]),
    "the same, not done": ([booked(), cancelled(outcome="unknown", status=0)], [row()]),
    "never answered": ([not_booked("unknown", 1, "", 0)], [row()]),
    "never answered, not done": ([not_booked("unknown", 1, "", 0)], []),
    "refused": ([not_booked("refused", 1)], []),
    "away, then booked": ([not_booked("away", 1, "late", 503), booked(at_s=3)], [row()]),
    "refused, then booked when asked again": ([not_booked("refused", 1), booked(at_s=3)], [row()]),
    "a seat sold again": (
        [booked(), cancelled(), booked(EVA, at_s=3)],
        [dead(), row(EVA)],
    ),
    "asked again after the cancellation": ([booked(), cancelled(), booked(at_s=3)], [dead()]),
}


@pytest.mark.parametrize("case", GOOD)
def test_histories_that_keep_every_promise(case: str) -> None:
    assert check(*GOOD[case], SIZES) == Checked([], 0)


BAD: dict[str, tuple[str, list[Op], list[CourseRow]]] = {
    "a booking is nowhere": ("lost", [booked()], []),
    "a booking is another generation's": ("lost", [booked(generation=2)], [row()]),
    "a booking has another seat": ("lost", [booked()], [row(seats=OTHER_SEATS, live_seats=OTHER_SEATS)]),
    "a booking is elsewhere": ("lost", [booked()], [row(location=8)]),
    "a booking was undone, nobody asked": ("lost", [booked()], [dead()]),
    "a cancellation was undone": ("lost", [booked(), cancelled()], [row()]),
    "a cancellation of a booking was refused": (
        "lost",
        [booked(), cancelled(outcome="refused", status=404)],
        [row()],
    ),
    "a seat has two rows": (
        "oversold",
        [booked(), booked(EVA)],
        [row(), row(EVA)],
    ),
    "a seat that was not on sale": (
        "oversold",
        [],
        [row(seats=((1, 1, 0, 4), (2, 2, 0, 0)), live_seats=((1, 1, 0, 4), (2, 2, 0, 0)))],
    ),
    "a seat was held by two, then one cancelled": (
        "oversold",
        [booked(), booked(EVA, at_s=1.5), cancelled()],
        [dead(), row(EVA)],
    ),
    "a person has two rows": (
        "double_booked",
        [booked(), booked(generation=2, op_key="k2", seats=OTHER_SEATS)],
        [row(), row(generation=2, op_key="k2", seats=OTHER_SEATS, live_seats=OTHER_SEATS)],
    ),
    "a person had two bookings, then cancelled one": (
        "double_booked",
        [booked(), booked(at_s=1.5, generation=2, op_key="k2", seats=OTHER_SEATS), cancelled()],
        [dead(), row(generation=2, op_key="k2", seats=OTHER_SEATS, live_seats=OTHER_SEATS)],
    ),
    "half a course": ("half_courses", [], [row(seats=SEATS[:1], live_seats=SEATS[:1])]),
    "half a cancellation": ("half_courses", [], [dead(seats=SEATS), row(EVA, live_seats=SEATS[1:])]),
    "a cancelled course holds a seat": ("half_courses", [], [row(is_live=False)]),
    "the only answer was a refusal": ("refused_yet_booked", [not_booked("refused", 1)], [row()]),
    "nothing was written, it said": (
        "refused_yet_booked",
        [not_booked("away", 1, "late", 503)],
        [row()],
    ),
    "refused after its own deadline": (
        "refused_yet_booked",
        [not_booked("unknown", 1, "pending", 202), not_booked("refused", 3)],
        [row()],
    ),
    "nobody asked": ("refused_yet_booked", [], [row()]),
    "two answers": ("answered_differently", [booked(), booked(at_s=3, seats=OTHER_SEATS)], [row()]),
    "booked, then refused": ("answered_differently", [booked(), not_booked("refused", 3)], [row()]),
}


@pytest.mark.parametrize("case", BAD)
def test_histories_that_break_one(case: str) -> None:
    figure, ops, rows = BAD[case]
    assert figure in figures(check(ops, rows, SIZES))


def test_the_known_exposure_is_counted_apart() -> None:
    """A copy that was never answered books after a later copy was refused."""
    ops = [not_booked("unknown", 1, "", 0), not_booked("refused", 3)]
    assert check(ops, [row()], SIZES) == Checked([], 1)


OUTBOXES: dict[str, tuple[Outbox, list[CourseRow], int, int]] = {
    "everything is told": (Outbox(0, (1, 2), 2, 2), [row(), dead(EVA)], 0, 0),
    "nothing happened": (Outbox(0, (), -1, -1), [], 0, 0),
    "a gap in the stream": (Outbox(0, (0, 2), 2, 2), [row(), dead(EVA)], 0, 1),
    "Postgres is behind": (Outbox(0, (1, 2), 2, 1), [dead()], 0, 1),
    "Postgres is ahead": (Outbox(0, (0, 1), 1, 2), [row(), dead(EVA)], 0, 1),
    "the stream lost its end": (Outbox(0, (0, 1), 2, 2), [row(), dead(EVA)], 0, 1),
    "an event left no trace": (Outbox(0, (0, 1, 2), 2, 2), [row()], 0, 1),
    "it is in quarantine": (Outbox(0, (0, 1), 1, 1), [row()], 1, 0),
    "a row came from nowhere": (Outbox(0, (0,), 0, 0), [row(), row(EVA)], 0, 1),
}


@pytest.mark.parametrize("case", OUTBOXES)
def test_gaps(case: str) -> None:
    outbox, rows, quarantined, count = OUTBOXES[case]
    assert len(check_outboxes([outbox], rows, quarantined)) == count


@pytest.mark.parametrize(("past", "count"), [(2, 0), (1, 1), (3, 1)])
def test_events_of_earlier_epochs_count(past: int, count: int) -> None:
    outbox = Outbox(0, (0,), 0, 0)
    assert len(check_outboxes([outbox], [row(), dead(EVA)], 0, past)) == count
