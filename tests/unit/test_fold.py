"""What a batch of events proves by itself, before any table is asked."""

from typing import Any

import pytest

from engine.domain.course import Appointment, CourseId
from engine.inventory import codec
from engine.inventory.codec import JOINED, LEFT, RELEASED, TAKEN
from engine.outbox.feed import Entry
from engine.outbox.fold import Broken, Fold, SeatKey

ONE, TWO = b"1" * 16, b"2" * 16
OP = b"o" * 16
SEAT, ANOTHER = Appointment(1, 11, 0, 0), Appointment(1, 12, 0, 0)
LATER = Appointment(1, 13, 0, 0, revision=2)
AWAY = Appointment(2, 14, 0, 0, where=3)
UNTIL_MS = 10_000

Told = tuple[bytes, Appointment]


def course(person: bytes, generation: int = 1) -> CourseId:
    return CourseId(person, 1, generation)


def entry(
    partition: int, sequence: int, kind: bytes, course: CourseId, *told: Told, revision: int = 0
) -> Entry:
    """One packed event, told at sequence + 1 ms. A revision that is not given follows from the type."""
    revision = revision or (1 if kind in (b"b", b"h", b"a", b"r") else 2)
    until_ms = UNTIL_MS + revision if kind in (b"h", b"w") else 0
    entries = tuple(codec.Entry(*one) for one in told)
    event = codec.Event(kind, sequence + 1, course, revision, OP, entries, until_ms)
    return Entry(partition, sequence, codec.pack_event(event))


def booked(sequence: int, course: CourseId, *seats: Appointment, partition: int = 0) -> Entry:
    return entry(partition, sequence, b"b", course, *((TAKEN, seat) for seat in seats))


def cancelled(sequence: int, course: CourseId, *seats: Appointment, revision: int = 2) -> Entry:
    return entry(0, sequence, b"x", course, *((RELEASED, seat) for seat in seats), revision=revision)


def fold_of(*entries: Entry) -> Fold:
    partitions = sorted({entry.partition for entry in entries})
    return Fold({p: [entry for entry in entries if entry.partition == p] for p in partitions})


def broken(*entries: Entry) -> dict[int, Broken]:
    """The events of a batch, by number, that break a proof."""
    return fold_of(*entries).broken


def key(person: bytes, seat: Appointment, place: int = 255) -> SeatKey:
    return SeatKey(course(person), seat.dose, seat.revision, place)


# Folding ----------------------------------------------------------------------------------------------------


def test_a_course_that_is_booked_and_cancelled_is_written_once() -> None:
    fold = fold_of(booked(0, course(ONE), SEAT), cancelled(1, course(ONE), SEAT))
    assert (fold.broken, fold.continued(), fold.releases) == ({}, [], {})
    assert [(c.state, c.revision, c.ended_ms) for c in fold.begun()] == [(b"x", 2, 2)]
    assert [(t.ended_ms, t.left_revision) for t in fold.takings.values()] == [(2, 2)]
    assert [event.type for _, event in fold.changes] == [b"x"]


def test_a_whole_life_is_written_once() -> None:
    fold = fold_of(
        entry(0, 0, b"h", course(ONE), (TAKEN, SEAT), (JOINED, AWAY)),
        entry(0, 1, b"w", course(ONE), revision=2),
        entry(0, 2, b"c", course(ONE), revision=4),
        entry(0, 3, b"v", course(ONE), (TAKEN, at(SEAT, 5, 12)), (RELEASED, SEAT), (LEFT, AWAY), revision=5),
    )
    assert fold.broken == {}
    assert [(c.state, c.revision, c.until_ms, c.seats) for c in fold.begun()] == [(b"b", 5, 0, 1)]
    assert [event.revision for _, event in fold.changes] == [2, 4, 5]
    assert [(t.ended_ms, t.left_revision) for t in fold.takings.values()] == [(4, 5), (0, 0)]
    assert [j.left_revision for j in fold.joinings.values()] == [5]


def test_a_seat_elsewhere_moves_on_elsewhere() -> None:
    again = Appointment(AWAY.dose, 15, 0, 0, 2, AWAY.where)
    fold = fold_of(
        entry(0, 0, b"b", course(ONE), (TAKEN, SEAT), (JOINED, AWAY)),
        entry(0, 1, b"v", course(ONE), (JOINED, again), (LEFT, AWAY)),
        entry(0, 2, b"x", course(ONE), (RELEASED, SEAT), (LEFT, again), revision=3),
    )
    assert fold.broken == {}
    assert [joining.left_revision for joining in fold.joinings.values()] == [2, 3]


def at(seat: Appointment, revision: int, session: int) -> Appointment:
    return Appointment(seat.dose, session, seat.slot, seat.seat, revision)


def test_a_hold_has_the_end_that_was_told_last() -> None:
    fold = fold_of(entry(0, 0, b"h", course(ONE), (TAKEN, SEAT)), entry(0, 1, b"w", course(ONE)))
    assert [(c.state, c.until_ms) for c in fold.begun()] == [(b"h", UNTIL_MS + 2)]


def test_what_is_of_an_earlier_batch_is_continued() -> None:
    fold = fold_of(
        entry(0, 0, b"v", course(ONE), (TAKEN, LATER), (RELEASED, SEAT), (LEFT, AWAY)),
        cancelled(1, course(ONE), LATER, revision=3),
    )
    assert (fold.broken, fold.begun()) == ({}, [])
    assert [(c.first.type, c.state, c.end_number) for c in fold.continued()] == [(b"v", b"x", 1)]
    assert list(fold.releases) == [key(ONE, SEAT)]
    assert list(fold.leavings) == [key(ONE, AWAY, 3)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_home_and_part_are_folded_apart(order: tuple[int, int]) -> None:
    """Whichever outbox comes first."""
    home, away = order
    part = Appointment(AWAY.dose, AWAY.session, AWAY.slot, AWAY.seat)
    begins = entry(home, 0, b"b", course(ONE), (TAKEN, SEAT), (JOINED, at_place(AWAY, away)))
    fold = fold_of(begins, entry(away, 0, b"a", course(ONE), (TAKEN, part)))
    assert fold.broken == {}
    assert set(fold.takings) == {key(ONE, SEAT), key(ONE, AWAY, away)}
    assert set(fold.joinings) == {key(ONE, AWAY, away)}


def at_place(seat: Appointment, where: int) -> Appointment:
    return Appointment(seat.dose, seat.session, seat.slot, seat.seat, seat.revision, where)


def test_a_part_that_is_set_aside_again_is_written_as_it_was_last() -> None:
    again = Appointment(SEAT.dose, SEAT.session, SEAT.slot, 1)
    fold = fold_of(
        entry(3, 0, b"a", course(ONE), (TAKEN, SEAT)),
        entry(3, 1, b"r", course(ONE), (RELEASED, SEAT)),
        entry(3, 2, b"a", course(ONE), (TAKEN, again)),
    )
    assert fold.broken == {}
    assert [taking.appointment for taking in fold.takings.values()] == [again]
    assert [taking.ended_ms for taking in fold.superseded] == [-1]


# Seats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("released_later", [False, True])
def test_a_seat_that_is_held_is_not_taken(released_later: bool) -> None:
    events = [booked(0, course(ONE), SEAT), booked(1, course(TWO), SEAT)]
    if released_later:
        events.append(cancelled(2, course(ONE), SEAT))
    assert broken(*events) == {1: Broken.SEAT_TAKEN}


def test_a_seat_that_was_released_is_taken() -> None:
    assert broken(*_life(ONE), booked(2, course(TWO), SEAT)) == {}


def _life(person: bytes) -> tuple[Entry, Entry]:
    return booked(0, course(person), SEAT), cancelled(1, course(person), SEAT)


def test_a_move_takes_before_it_gives_back() -> None:
    moved = entry(0, 1, b"v", course(ONE), (TAKEN, at(SEAT, 2, SEAT.session)), (RELEASED, ANOTHER))
    assert broken(booked(0, course(ONE), SEAT), moved) == {1: Broken.SEAT_TAKEN}


def test_a_part_takes_no_seat_that_is_held() -> None:
    assert broken(booked(0, course(ONE), SEAT), entry(0, 1, b"a", course(TWO), (TAKEN, SEAT))) == {
        1: Broken.SEAT_TAKEN
    }


def test_a_dose_is_set_aside_once_for_a_revision() -> None:
    first = entry(0, 0, b"a", course(ONE), (TAKEN, SEAT))
    assert broken(first, entry(0, 1, b"a", course(ONE), (TAKEN, ANOTHER))) == {1: Broken.PART_REPEATED}


@pytest.mark.parametrize("seat", [SEAT, ANOTHER], ids=["twice", "another"])
def test_a_part_is_released_once_and_with_its_seat(seat: Appointment) -> None:
    events = [entry(0, 0, b"a", course(ONE), (TAKEN, SEAT)), entry(0, 1, b"r", course(ONE), (RELEASED, seat))]
    if seat is SEAT:
        events.append(entry(0, 2, b"r", course(ONE), (RELEASED, seat)))
    assert broken(*events) == {len(events) - 1: Broken.SEAT_NOT_LIVE}


def test_a_seat_is_given_back_once() -> None:
    given_back = entry(0, 1, b"v", course(ONE), (RELEASED, SEAT))
    again = cancelled(2, course(ONE), SEAT, revision=3)
    assert broken(booked(0, course(ONE), SEAT), given_back, again) == {2: Broken.SEAT_NOT_LIVE}
    assert broken(given_back, again) == {1: Broken.SEAT_NOT_LIVE}


def test_a_part_is_left_once() -> None:
    left = entry(0, 1, b"v", course(ONE), (LEFT, AWAY))
    again = entry(0, 2, b"x", course(ONE), (LEFT, AWAY), revision=3)
    begins = entry(0, 0, b"b", course(ONE), (TAKEN, SEAT), (JOINED, AWAY))
    assert broken(begins, left, again) == {2: Broken.SEAT_NOT_LIVE}
    assert broken(left, again) == {1: Broken.SEAT_NOT_LIVE}


def test_a_course_ends_with_all_its_seats() -> None:
    ends = entry(0, 1, b"x", course(ONE), (RELEASED, SEAT))
    begins = entry(0, 0, b"b", course(ONE), (TAKEN, SEAT), (JOINED, AWAY))
    assert broken(begins, ends) == {1: Broken.HALF_ENDED}


# Courses and persons ----------------------------------------------------------------------------------------


def test_a_person_has_one_live_course_in_a_partition() -> None:
    first, second = booked(0, course(ONE), SEAT), booked(1, course(ONE, 2), ANOTHER)
    assert broken(first, second) == {1: Broken.PERSON_LIVE}


@pytest.mark.parametrize("generations", [(1, 2), (2, 1)])
def test_of_two_live_courses_in_two_partitions_the_later_generation_is_broken(
    generations: tuple[int, int],
) -> None:
    first = booked(0, course(ONE, generations[0]), SEAT)
    second = booked(0, course(ONE, generations[1]), ANOTHER, partition=1)
    assert broken(first, second) == {generations.index(2): Broken.PERSON_LIVE}


def test_a_person_who_left_another_partition_is_free() -> None:
    assert broken(*_life(ONE), booked(0, course(ONE, 2), ANOTHER, partition=1)) == {}


def test_a_hold_that_expired_frees_its_person() -> None:
    held = entry(0, 0, b"h", course(ONE), (TAKEN, SEAT))
    assert broken(held, booked(1, course(ONE, 2), ANOTHER)) == {1: Broken.PERSON_LIVE}
    expired = entry(0, 1, b"e", course(ONE), (RELEASED, SEAT))
    assert broken(held, expired, booked(2, course(ONE, 2), ANOTHER)) == {}


def test_a_course_begins_once_and_ends_once() -> None:
    again = [cancelled(2, course(ONE), SEAT, revision=3), booked(3, course(ONE), SEAT)]
    assert broken(*_life(ONE), *again) == {2: Broken.COURSE_NOT_LIVE, 3: Broken.COURSE_REPEATED}


@pytest.mark.parametrize("kind", [b"c", b"w", b"e"])
def test_only_a_hold_is_confirmed_extended_and_expired(kind: bytes) -> None:
    told = ((RELEASED, SEAT),) if kind == b"e" else ()
    assert broken(booked(0, course(ONE), SEAT), entry(0, 1, kind, course(ONE), *told)) == {
        1: Broken.COURSE_NOT_LIVE
    }


def test_only_a_booked_course_is_moved() -> None:
    held = entry(0, 0, b"h", course(ONE), (TAKEN, SEAT))
    assert broken(held, entry(0, 1, b"v", course(ONE), (TAKEN, LATER))) == {1: Broken.COURSE_NOT_LIVE}


def test_a_revision_comes_once() -> None:
    held = entry(0, 0, b"h", course(ONE), (TAKEN, SEAT))
    assert broken(held, entry(0, 1, b"c", course(ONE), revision=1)) == {1: Broken.REVISION_REPEATED}


# What is no event -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (b"b", ()),
        (b"b", ((JOINED, AWAY),)),
        (b"b", ((TAKEN, SEAT), (TAKEN, SEAT))),
        (b"b", ((TAKEN, SEAT), (TAKEN, ANOTHER))),
        (b"b", ((TAKEN, SEAT), (TAKEN, Appointment(2, SEAT.session, SEAT.slot, SEAT.seat)))),
        (b"b", ((TAKEN, SEAT), (RELEASED, ANOTHER))),
        (b"b", ((TAKEN, LATER),)),
        (b"b", ((TAKEN, AWAY),)),
        (b"b", ((TAKEN, SEAT), (JOINED, at_place(AWAY, 255)))),
        (b"b", ((TAKEN, SEAT), (b"?", AWAY))),
        (b"c", ((TAKEN, LATER),)),
        (b"x", ((TAKEN, LATER),)),
        (b"x", ()),
        (b"a", ((RELEASED, SEAT),)),
        (b"r", ()),
    ],
)
def test_what_no_script_tells_is_malformed(kind: bytes, told: tuple[Told, ...]) -> None:
    assert broken(entry(0, 0, kind, course(ONE), *told)) == {0: Broken.MALFORMED}


@pytest.mark.parametrize("until_ms", [0, 2**63])
def test_a_hold_without_an_end_is_malformed(until_ms: int) -> None:
    taken = (codec.Entry(TAKEN, SEAT),)
    event = codec.Event(b"h", 1, course(ONE), 1, OP, taken, until_ms, 1)
    assert broken(Entry(0, 0, codec.pack_event(event))) == {0: Broken.MALFORMED}


@pytest.mark.parametrize("change", [{"version": b"\x03"}, {"type": b"?"}, {"at_ms": bytes(8)}])
def test_what_is_no_event_is_unreadable(change: dict[str, Any]) -> None:
    packed = booked(0, course(ONE), SEAT).payload
    places = {"version": 0, "type": 1, "at_ms": 2}
    for name, value in change.items():
        packed = packed[: places[name]] + value + packed[places[name] + len(value) :]
    assert broken(Entry(0, 0, packed)) == {0: Broken.UNREADABLE}


# What the tables reject -------------------------------------------------------------------------------------


def test_what_follows_from_a_rejected_event_is_asked_of_the_tables() -> None:
    """The course is not of this batch any more; the tables do not have it either."""
    fold = fold_of(*_life(ONE))
    fold.reject({0: Broken.UNREGISTERED_PERSON})
    assert fold.broken == {0: Broken.UNREGISTERED_PERSON}
    assert ([c.number for c in fold.continued()], fold.begun(), fold.takings) == ([1], [], {})
    assert list(fold.releases) == [key(ONE, SEAT)]


def test_a_rejected_event_takes_no_seat() -> None:
    fold = fold_of(booked(0, course(ONE), SEAT), booked(1, course(TWO), SEAT))
    fold.reject({0: Broken.UNREGISTERED_PERSON})
    assert fold.broken == {0: Broken.UNREGISTERED_PERSON}
