"""What a batch of events proves by itself, before any table is asked."""

import pytest

from engine.domain.course import Appointment, CourseId
from engine.inventory import codec
from engine.outbox.feed import Entry
from engine.outbox.fold import Broken, Fold

ONE, TWO = b"1" * 16, b"2" * 16
OP = b"o" * 16
SEAT, ANOTHER = Appointment(1, 11, 0, 0), Appointment(1, 12, 0, 0)


def course(person: bytes, generation: int = 1) -> CourseId:
    return CourseId(person, 1, generation)


def entry(
    partition: int, sequence: int, kind: bytes, course: CourseId, *appointments: Appointment, version: int = 1
) -> Entry:
    """One packed event, told at sequence + 1 ms."""
    head = codec.EVENT.pack(
        version, kind, sequence + 1, course.person, course.kind, course.generation, OP, len(appointments)
    )
    packed = b"".join(codec.APPOINTMENT.pack(a.dose, a.session, a.slot, a.seat) for a in appointments)
    return Entry(partition, sequence, head + packed)


def broken(*entries: Entry) -> dict[int, Broken]:
    """The events of a batch, by number, that break a proof."""
    partitions = sorted({entry.partition for entry in entries})
    return Fold({p: [entry for entry in entries if entry.partition == p] for p in partitions}).broken


def test_a_course_that_is_booked_and_cancelled_is_written_once() -> None:
    fold = Fold({0: [entry(0, 0, b"b", course(ONE), SEAT), entry(0, 1, b"x", course(ONE), SEAT)]})
    assert (fold.broken, fold.released) == ({}, {})
    assert [(taken.cancelled_ms, taken.cancel_op) for taken in fold.taken.values()] == [(2, OP)]


@pytest.mark.parametrize("released_later", [False, True])
def test_a_seat_that_is_held_is_not_taken(released_later: bool) -> None:
    events = [entry(0, 0, b"b", course(ONE), SEAT), entry(0, 1, b"b", course(TWO), SEAT)]
    if released_later:
        events.append(entry(0, 2, b"x", course(ONE), SEAT))
    assert broken(*events) == {1: Broken.SEAT_TAKEN}


def test_a_seat_that_was_released_is_taken() -> None:
    booked, cancelled = entry(0, 0, b"b", course(ONE), SEAT), entry(0, 1, b"x", course(ONE), SEAT)
    assert broken(booked, cancelled, entry(0, 2, b"b", course(TWO), SEAT)) == {}


def test_a_person_has_one_live_course_in_a_partition() -> None:
    first, second = entry(0, 0, b"b", course(ONE), SEAT), entry(0, 1, b"b", course(ONE, 2), ANOTHER)
    assert broken(first, second) == {1: Broken.PERSON_LIVE}


@pytest.mark.parametrize("generations", [(1, 2), (2, 1)])
def test_of_two_live_courses_in_two_partitions_the_later_generation_is_broken(
    generations: tuple[int, int],
) -> None:
    first = entry(0, 0, b"b", course(ONE, generations[0]), SEAT)
    second = entry(1, 0, b"b", course(ONE, generations[1]), ANOTHER)
    assert broken(first, second) == {generations.index(2): Broken.PERSON_LIVE}


def test_a_person_who_left_another_partition_is_free() -> None:
    booked, cancelled = entry(0, 0, b"b", course(ONE), SEAT), entry(0, 1, b"x", course(ONE), SEAT)
    assert broken(booked, cancelled, entry(1, 0, b"b", course(ONE, 2), ANOTHER)) == {}


@pytest.mark.parametrize(
    "appointments",
    [(), (SEAT, SEAT), (SEAT, ANOTHER), (SEAT, Appointment(2, SEAT.session, SEAT.slot, SEAT.seat))],
    ids=["none", "twice", "one-dose-twice", "one-seat-twice"],
)
def test_what_is_no_course_is_malformed(appointments: tuple[Appointment, ...]) -> None:
    assert broken(entry(0, 0, b"b", course(ONE), *appointments)) == {0: Broken.MALFORMED}


def test_a_course_is_booked_once_and_cancelled_once() -> None:
    booked, cancelled = entry(0, 0, b"b", course(ONE), SEAT), entry(0, 1, b"x", course(ONE), SEAT)
    again = [entry(0, 2, b"x", course(ONE), SEAT), entry(0, 3, b"b", course(ONE), SEAT)]
    assert broken(booked, cancelled, *again) == {2: Broken.COURSE_NOT_LIVE, 3: Broken.COURSE_REPEATED}


def test_an_event_of_another_version_is_unreadable() -> None:
    assert broken(entry(0, 0, b"b", course(ONE), SEAT, version=2)) == {0: Broken.UNREADABLE}


def test_what_a_table_rejects_takes_its_cancellation_along() -> None:
    fold = Fold({0: [entry(0, 0, b"b", course(ONE), SEAT), entry(0, 1, b"x", course(ONE), SEAT)]})
    fold.reject(0, Broken.UNREGISTERED_PERSON)
    assert fold.broken == {0: Broken.UNREGISTERED_PERSON, 1: Broken.COURSE_NOT_LIVE}
    assert fold.taken == {}
