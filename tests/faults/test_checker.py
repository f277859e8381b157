"""The checker must reject what it is there for: histories and rows made by hand, each broken in one way."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.faults.checker import Change, Checked, CourseRow, Had, Outbox, check, check_outboxes
from tests.faults.history import Act, Op, Seat

SIZES = {1: (10, 4), 2: (10, 4), 3: (10, 4)}
ANA, EVA = "aa" * 16, "ee" * 16
SEATS: tuple[Seat, ...] = ((1, 1, 0, 0), (2, 2, 0, 0))
OTHER_SEATS: tuple[Seat, ...] = ((1, 1, 3, 1), (2, 2, 3, 1))
# Dose 2 elsewhere; dose 2 given up.
MOVED: tuple[Seat, ...] = ((1, 1, 0, 0), (2, 3, 5, 2))
DROPPED = SEATS[:1]
UNTIL_MS = 10_000


def booked(person: str = ANA, at_s: float = 1.0, **changes: Any) -> Op:
    """An acknowledged booking."""
    op = Op("book", person, "key", "k" + person, at_s, 1, 7, at_s + 0.1, "ok", 201, "", "ref", SEATS)
    return replace(op, **changes)


def held(person: str = ANA, at_s: float = 1.0, **changes: Any) -> Op:
    """An acknowledged hold."""
    return booked(person, at_s, **{"act": "hold", "until_ms": UNTIL_MS, **changes})


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


def changed(act: Act, person: str = ANA, at_s: float = 2.0, **changes: Any) -> Op:
    """An acknowledged change; its key is named after what it does."""
    op = Op(act, person, act, act + person, at_s, 1, 7, at_s + 0.1, "ok", 200)
    return replace(op, **changes)


def cancelled(person: str = ANA, at_s: float = 2.0, **changes: Any) -> Op:
    """An acknowledged cancellation."""
    return changed("cancel", person, at_s, **changes)


def moved(person: str = ANA, at_s: float = 2.0, **changes: Any) -> Op:
    """An acknowledged move of dose 2."""
    return changed("move", person, at_s, **{"seats": MOVED, **changes})


def row(
    person: str = ANA,
    seats: tuple[Seat, ...] = SEATS,
    live: tuple[Seat, ...] | None = None,
    **changes: Any,
) -> CourseRow:
    """The row that belongs to ``booked``."""
    had = tuple(Had(seat) for seat in seats)
    made = CourseRow(person, 1, 7, "b", "k" + person, had, seats if live is None else live)
    return replace(made, **changes)


def done(act: Act, person: str = ANA, revision: int = 2, at_ms: int = 0) -> Change:
    """What ``changed`` leaves in the rows."""
    codes = {"confirm": "c", "extend": "w", "move": "v", "drop": "v", "cancel": "x"}
    return Change(codes[act], act + person, revision, at_ms)


def dead(person: str = ANA, *before: Change, **changes: Any) -> CourseRow:
    """The row of a cancelled course."""
    end = done("cancel", person, len(before) + 2)
    return row(person, live=(), **{"state": "x", "changes": (*before, end), **changes})


def expired(at_ms: int = UNTIL_MS, *before: Change, **changes: Any) -> CourseRow:
    """The row of a hold that was over."""
    end = Change("e", "", len(before) + 2, at_ms)
    return row(live=(), **{"state": "x", "changes": (*before, end), **changes})


def gone(person: str = ANA, **changes: Any) -> CourseRow:
    """The row that belongs to ``moved``."""
    had = (Had(SEATS[0]), Had(SEATS[1], until=2), Had(MOVED[1], since=2))
    made = CourseRow(person, 1, 7, "b", "k" + person, had, MOVED, (done("move", person),))
    return replace(made, **changes)


def dropped(**changes: Any) -> CourseRow:
    """The row of a course whose dose 2 was given up."""
    had = (Had(SEATS[0]), Had(SEATS[1], until=2))
    return replace(CourseRow(ANA, 1, 7, "b", "k" + ANA, had, DROPPED, (done("drop"),)), **changes)


def confirmed(person: str = ANA, **changes: Any) -> CourseRow:
    """The row of a hold that was confirmed."""
    return row(person, **{"changes": (done("confirm", person),), **changes})


def figures(checked: Checked) -> set[str]:
    """What was found."""
    return {finding.figure for finding in checked.findings}


def household(op: Op, *others: str, **changes: Any) -> list[Op]:
    """The same request for several people."""
    people = [op.person, *others]
    return [
        replace(
            op,
            person=person,
            member=n,
            members=len(people),
            seats=tuple((d, s, slot + n, x) for d, s, slot, x in op.seats),
            **changes,
        )
        for n, person in enumerate(people)
    ]


BOTH_BOOKED = household(booked(), EVA)
BESIDE: tuple[Seat, ...] = ((1, 1, 1, 0), (2, 2, 1, 0))
EVA_BESIDE = row(EVA, BESIDE, op_key="k" + ANA)
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
    "moved": ([booked(), moved()], [gone()]),
    "moved, and asked for the booking again": ([booked(), moved(), booked(at_s=3)], [gone()]),
    "moved, and asked at the booking's address": (
        [booked(), moved(), booked(at_s=3, is_poll=True, seats=MOVED)],
        [gone()],
    ),
    "a move without an answer": ([booked(), moved(outcome="unknown", status=0)], [gone()]),
    "the same move, not made": ([booked(), moved(outcome="unknown", status=0)], [row()]),
    "a seat that was moved away from is sold again": (
        [booked(), moved(), booked(EVA, at_s=3, seats=((1, 1, 1, 0), SEATS[1]))],
        [gone(), row(EVA, ((1, 1, 1, 0), SEATS[1]))],
    ),
    "two moves at once, the other one last": (
        [booked(), moved(), moved(at_s=2.05, op_key="m2", seats=SEATS)],
        [gone(had=(Had(SEATS[0]), Had(SEATS[1], until=2), Had(MOVED[1], 2, 3), Had(SEATS[1], 3)),
              live_seats=SEATS, changes=(done("move"), Change("v", "m2", 3)))],
    ),
    "two moves at once, and the seat of the first is another's while the other has no answer": (
        [
            booked(),
            moved(at_s=1.5, op_key="m2", seats=OTHER_SEATS, answered_s=9.0),
            moved(),
            booked(EVA, at_s=3, seats=((1, 1, 1, 0), MOVED[1])),
        ],
        [
            gone(
                had=(
                    *(Had(s, until=2) for s in SEATS),
                    *(Had(s, 2, 3) for s in MOVED),
                    *(Had(s, 3) for s in OTHER_SEATS),
                ),
                live_seats=OTHER_SEATS,
                changes=(done("move"), Change("v", "m2", 3)),
            ),
            row(EVA, ((1, 1, 1, 0), MOVED[1])),
        ],
    ),
    "dose 2 given up": ([booked(), changed("drop", seats=DROPPED)], [dropped()]),
    "held and confirmed": ([held(), changed("confirm")], [confirmed()]),
    "held, and over": ([held()], [expired()]),
    "held, extended, and over": (
        [held(), changed("extend", until_ms=20_000)],
        [expired(20_000, done("extend"))],
    ),
    "confirmed too late": (
        [held(), changed("confirm", outcome="refused", words="hold-over", status=409)],
        [expired()],
    ),
    "a household": (BOTH_BOOKED, [row(), EVA_BESIDE]),
    "a household, refused": (household(not_booked("refused", 1), EVA), []),
    "a household, never answered": (household(not_booked("unknown", 1, "", 0), EVA), [row(), EVA_BESIDE]),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_histories_that_keep_every_promise(case: str) -> None:
    assert check(*GOOD[case], SIZES) == Checked([], 0)


BAD: dict[str, tuple[str, list[Op], list[CourseRow]]] = {
    "a booking is nowhere": ("lost", [booked()], []),
    "a booking is another generation's": ("lost", [booked(generation=2)], [row()]),
    "a booking has another seat": ("lost", [booked()], [row(seats=OTHER_SEATS)]),
    "a booking is elsewhere": ("lost", [booked()], [row(location=8)]),
    "a booking was undone, nobody asked": ("lost", [booked()], [dead()]),
    "a booking ended by time": ("lost", [booked()], [expired()]),
    "a cancellation was undone": ("lost", [booked(), cancelled()], [row()]),
    "a cancellation of a booking was refused": (
        "lost",
        [booked(), cancelled(outcome="refused", status=404)],
        [row()],
    ),
    "a move never happened": ("lost", [booked(), moved()], [row()]),
    "a move went elsewhere": ("lost", [booked(), moved(seats=OTHER_SEATS)], [gone()]),
    "a move was undone by an earlier one": (
        "lost",
        [booked(), moved(op_key="m1", seats=SEATS), moved(at_s=3.0)],
        [gone(changes=(done("move"), Change("v", "m1", 3)))],
    ),
    "a dose that was given up is there": ("lost", [booked(), changed("drop", seats=DROPPED)], [row()]),
    "a confirmation never happened": ("lost", [held(), changed("confirm")], [expired()]),
    "a confirmed hold ended by time": (
        "lost",
        [held(), changed("confirm")],
        [expired(UNTIL_MS, done("confirm"))],
    ),
    "an extension never happened": ("lost", [held(), changed("extend")], [expired()]),
    "a seat has two rows": (
        "oversold",
        [booked(), booked(EVA)],
        [row(), row(EVA)],
    ),
    "a seat that was not on sale": ("oversold", [], [row(seats=((1, 1, 0, 4), (2, 2, 0, 0)))]),
    "a seat was held by two, then one cancelled": (
        "oversold",
        [booked(), booked(EVA, at_s=1.5), cancelled()],
        [dead(), row(EVA)],
    ),
    "a seat was held by two, then one moved": (
        "oversold",
        [booked(), booked(EVA, at_s=1.5, seats=((1, 1, 1, 0), SEATS[1])), moved()],
        [gone(), row(EVA, ((1, 1, 1, 0), SEATS[1]))],
    ),
    "a confirmed hold's seat was another's": (
        "oversold",
        [held(), changed("confirm", at_s=1.8), booked(EVA, at_s=1.5), cancelled()],
        [dead(ANA, done("confirm")), row(EVA)],
    ),
    "a person has two rows": (
        "double_booked",
        [booked(), booked(generation=2, op_key="k2", seats=OTHER_SEATS)],
        [row(), row(generation=2, op_key="k2", seats=OTHER_SEATS)],
    ),
    "a person had two bookings, then cancelled one": (
        "double_booked",
        [booked(), booked(at_s=1.5, generation=2, op_key="k2", seats=OTHER_SEATS), cancelled()],
        [dead(), row(generation=2, op_key="k2", seats=OTHER_SEATS)],
    ),
    "half a course": ("half_courses", [], [row(seats=SEATS[:1])]),
    "half a course, nobody gave a dose up": ("half_courses", [booked(), moved()], [dropped()]),
    "half a cancellation": ("half_courses", [], [dead(), row(EVA, live=SEATS[1:])]),
    "a cancelled course holds a seat": ("half_courses", [], [dead(live_seats=SEATS)]),
    "a seat that was moved away from is kept": (
        "half_courses",
        [booked(), moved()],
        [gone(live_seats=(*MOVED, SEATS[1]))],
    ),
    "a seat for no course": ("half_courses", [], [CourseRow(ANA, 1, 0, "", "", (), SEATS[1:])]),
    "half a household": ("half_households", BOTH_BOOKED, [row()]),
    "half a household, never answered": (
        "half_households",
        household(not_booked("unknown", 1, "", 0), EVA),
        [row()],
    ),
    "half a household is confirmed": (
        "half_households",
        [
            *household(held(), EVA),
            *household(changed("confirm", outcome="unknown"), EVA, op_key="c"),
        ],
        [
            row(changes=(Change("c", "c", 2),)),
            replace(expired(), person=EVA, had=tuple(Had(s) for s in BESIDE)),
        ],
    ),
    "a hold ended too early": ("broken_holds", [held()], [expired(UNTIL_MS - 1)]),
    "an extended hold ended too early": (
        "broken_holds",
        [held(), changed("extend", until_ms=20_000)],
        [expired(UNTIL_MS, done("extend"))],
    ),
    "a hold never ends": ("broken_holds", [held()], [row(state="h")]),
    "told that it is over, and it is booked": (
        "broken_holds",
        [
            held(),
            changed("confirm", outcome="refused", words="hold-over", status=409),
            changed("confirm", op_key="c2", outcome="unknown"),
        ],
        [row(changes=(Change("c", "c2", 2),))],
    ),
    "the only answer was a refusal": ("refused_yet_done", [not_booked("refused", 1)], [row()]),
    "nothing was written, it said": (
        "refused_yet_done",
        [not_booked("away", 1, "late", 503)],
        [row()],
    ),
    "refused after its own deadline": (
        "refused_yet_done",
        [not_booked("unknown", 1, "pending", 202), not_booked("refused", 3)],
        [row()],
    ),
    "nobody asked": ("refused_yet_done", [], [row()]),
    "a refused move was made": (
        "refused_yet_done",
        [booked(), moved(outcome="refused", status=409, seats=())],
        [gone()],
    ),
    "a refused confirmation was made": (
        "refused_yet_done",
        [held(), changed("confirm", outcome="refused", words="hold-over", status=409)],
        [confirmed()],
    ),
    "nobody asked for a move": ("refused_yet_done", [booked()], [gone()]),
    "two answers": ("answered_differently", [booked(), booked(at_s=3, seats=OTHER_SEATS)], [row()]),
    "booked, then refused": ("answered_differently", [booked(), not_booked("refused", 3)], [row()]),
    "two answers to a move": (
        "answered_differently",
        [booked(), moved(), moved(at_s=3, seats=SEATS)],
        [gone()],
    ),
    "moved, then refused": (
        "answered_differently",
        [booked(), moved(), moved(at_s=3, outcome="refused", status=404, seats=())],
        [gone()],
    ),
    "a move was made twice": (
        "answered_differently",
        [booked(), moved()],
        [gone(changes=(done("move"), done("move", revision=3)))],
    ),
    "a booking was made twice": (
        "answered_differently",
        [booked(), cancelled()],
        [dead(), row(generation=2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_histories_that_break_one(case: str) -> None:
    figure, ops, rows = BAD[case]
    assert figure in figures(check(ops, rows, SIZES))


def test_every_figure_of_a_history_can_be_found() -> None:
    assert {figure for figure, _, _ in BAD.values()} == {
        "lost",
        "oversold",
        "double_booked",
        "half_courses",
        "half_households",
        "broken_holds",
        "refused_yet_done",
        "answered_differently",
    }


def test_the_known_exposure_is_counted_apart() -> None:
    """A copy that was never answered books after a later copy was refused; or it moves."""
    ops = [not_booked("unknown", 1, "", 0), not_booked("refused", 3)]
    assert check(ops, [row()], SIZES) == Checked([], 1)
    moves = [moved(outcome="unknown", status=0, seats=()), moved(at_s=3, outcome="refused", seats=())]
    assert check([booked(), *moves], [gone()], SIZES) == Checked([], 1)


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
    "a move": (Outbox(0, (0, 1), 1, 1), [gone()], 0, 0),
}


@pytest.mark.parametrize("case", OUTBOXES)
def test_gaps(case: str) -> None:
    outbox, rows, quarantined, count = OUTBOXES[case]
    assert len(check_outboxes([outbox], rows, quarantined)) == count


@pytest.mark.parametrize(("past", "count"), [(2, 0), (1, 1), (3, 1)])
def test_events_of_earlier_epochs_count(past: int, count: int) -> None:
    outbox = Outbox(0, (0,), 0, 0)
    assert len(check_outboxes([outbox], [row(), dead(EVA)], 0, past)) == count


@pytest.mark.parametrize(("parts", "count"), [(2, 0), (1, 1), (3, 1)])
def test_events_of_seats_away_from_home_count(parts: int, count: int) -> None:
    outbox = Outbox(0, (0, 1, 2), 2, 2)
    assert len(check_outboxes([outbox], [row()], 0, 0, parts)) == count
