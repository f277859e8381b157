"""move: which seats a course has after it, what is told and remembered, byte by byte."""

import pytest

from engine.domain.course import Appointment, CourseId, Op, Wish
from engine.inventory import codec
from tests.scripts.by_hand import (
    COURSE,
    GENERATION,
    KIND,
    NOW_MS,
    OP,
    OTHER,
    PERSON,
    ByHand,
    begun,
    course_record,
    event,
    seats,
    take,
)

FIRST, SECOND = Appointment(1, 70_011, 0, 3), Appointment(2, 70_011, 1, 5)
AWAY = Appointment(2, 70_012, 0, 9, 1, 7)
THIRD = Op(b"key-op-3", b"digest-3")
TO_SLOT_1 = (Wish(1, 70_011, 1),)


def booked(partition: ByHand, *appointments: Appointment, mask: bytes = b"\0\x04") -> None:
    """COURSE has these seats, and one of slot 1 is free."""
    partition.put_session(70_011, 1, mask)
    partition.put_course(b"b", appointments or (FIRST, SECOND))
    partition.stop_the_clock()


def moved(
    ends: set[int],
    wishes: tuple[Wish, ...] = (),
    parts: tuple[Appointment, ...] = (),
    revision: int = 1,
    op: Op = OTHER,
    not_after_ms: int = NOW_MS,
) -> bytes:
    return codec.move(codec.Move(COURSE, op, revision, not_after_ms, frozenset(ends), wishes, parts))


def answered(revision: int, *appointments: Appointment) -> bytes:
    return b"V" + codec.REVISION.pack(revision) + codec.pack_appointments(appointments)


def recorded(*appointments: Appointment, began: tuple[Appointment, ...] = (FIRST, SECOND)) -> bytes:
    changes = (codec.Change(OTHER.id, b"v", 2, appointments), codec.Change(OP.id, b"b", 1, began))
    return course_record(b"b", OP, appointments, 2, changes)


def test_a_dose_that_moves_has_its_new_seat_before_the_old_is_free(partition: ByHand) -> None:
    booked(partition)
    after = Appointment(1, 70_011, 1, 2, 2)
    record = moved({1}, TO_SLOT_1)
    assert partition.answer(record) == answered(2, SECOND, after)
    assert partition.course() == recorded(SECOND, after)
    assert partition.events() == [event(b"v", OTHER, (after,), GENERATION, (FIRST,), 2)]
    assert partition.mask(70_011) == b"\x08\0"
    before = partition.everything()
    assert partition.answer(record) == answered(2, SECOND, after)
    assert partition.answer(moved({1}, TO_SLOT_1, op=Op(OTHER.key, b"digest-9"))) == b"K"
    assert partition.answer(moved({1}, TO_SLOT_1, op=OP)) == b"K"
    assert partition.everything() == before


def test_the_seat_that_is_given_back_is_not_the_new_one(partition: ByHand) -> None:
    booked(partition, mask=b"\0\0")
    before = partition.everything()
    assert partition.answer(moved({1}, (Wish(1, 70_011, 0),))) == b"F\1o\1\0\0"
    assert partition.everything() == before


@pytest.mark.parametrize("code", [b"d", b"v"])
def test_a_dose_is_given_up_alone(partition: ByHand, code: bytes) -> None:
    booked(partition)
    assert partition.answer(code + moved({2})[1:]) == answered(2, FIRST)
    assert partition.course() == recorded(FIRST)
    assert partition.events() == [event(b"v", OTHER, (), GENERATION, (SECOND,), 2)]
    assert partition.mask(70_011) == b"\0\x24"


def test_a_dose_is_added_and_one_moves_elsewhere(partition: ByHand) -> None:
    booked(partition)
    away, added = Appointment(2, 70_012, 0, 9, 2, 7), Appointment(3, 70_011, 1, 2, 2)
    assert partition.answer(moved({2}, (Wish(3, 70_011, 1),), (away,))) == answered(2, FIRST, added, away)
    assert partition.course() == recorded(FIRST, added, away)
    assert partition.events() == [event(b"v", OTHER, (added, away), GENERATION, (SECOND,), 2)]


def test_a_dose_comes_home(partition: ByHand) -> None:
    booked(partition, FIRST, AWAY)
    home = Appointment(2, 70_011, 1, 2, 2)
    assert partition.answer(moved({2}, (Wish(2, 70_011, 1),))) == answered(2, FIRST, home)
    assert partition.course() == recorded(FIRST, home, began=(FIRST, AWAY))
    assert partition.events() == [event(b"v", OTHER, (home,), GENERATION, (AWAY,), 2)]
    assert partition.mask(70_011) == b"\0\0"


def test_each_op_keeps_its_answer_after_others(partition: ByHand) -> None:
    """Found by reading: the answer had the revision of now, and old seats were taken for new ones."""
    booked(partition)
    first = moved({1}, TO_SLOT_1)
    told = partition.answer(first)
    after = Appointment(1, 70_011, 1, 2, 2)
    dropped = partition.answer(moved({2}, revision=2, op=THIRD))
    assert dropped == answered(3, after)
    before = partition.everything()
    assert partition.answer(first) == told == answered(2, SECOND, after)
    assert partition.answer(moved({2}, revision=3, op=THIRD, not_after_ms=0)) == dropped
    member = codec.Member(PERSON, KIND, GENERATION, (Wish(1, 70_011, 0), Wish(2, 70_011, 1)))
    again = partition.answer(codec.take(codec.Group(OP, 0, (member,))))
    assert again == begun((GENERATION, seats(3, 5)))
    assert partition.everything() == before
    assert partition.answer(codec.cancel(COURSE, Op(b"key-op-4", b"digest-4")))[:1] == b"X"
    assert partition.answer(first) == told


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        (moved({1}, TO_SLOT_1, revision=2), b"R\1\0"),
        (moved({1}, TO_SLOT_1, revision=0), b"R\1\0"),
        (moved({1}, TO_SLOT_1, not_after_ms=NOW_MS - 1), b"D"),
        (moved({2}, not_after_ms=NOW_MS - 1), b"D"),
        (moved({1}, (Wish(1, 70_012, 0),)), b"N\1"),
        (moved({1}, (Wish(1, 70_011, 2),)), b"N\1"),
        (moved(set(), TO_SLOT_1), b"N\1"),
        (moved({1}, TO_SLOT_1, (Appointment(1, 70_012, 0, 9, 2, 7),)), b"N\1"),
        (moved({1, 2}), b"N\0"),
        (moved({1}, (Wish(1, 70_011, 1), Wish(3, 70_011, 1))), b"F\3o\1\0\x04"),
    ],
    ids=["ahead", "behind", "late", "late-drop", "closed", "no-slot", "two-seats", "away", "none", "full"],
)
def test_what_is_refused_changes_nothing(partition: ByHand, record: bytes, answer: bytes) -> None:
    booked(partition)
    before = partition.everything()
    assert partition.answer(record) == answer
    assert partition.everything() == before


@pytest.mark.parametrize("state", [None, b"t", b"x", b"h"])
def test_what_is_not_booked_is_not_moved(partition: ByHand, state: bytes | None) -> None:
    partition.put_session(70_011, 1, b"\0\x04")
    partition.stop_the_clock()
    if state is not None:
        partition.put_course(state, () if state == b"t" else (FIRST,), until_ms=NOW_MS + 1)
    before = partition.everything()
    assert partition.answer(moved({1}, TO_SLOT_1, op=THIRD)) == b"-"
    assert partition.everything() == before


def test_what_takes_does_not_pass_as_what_gives_back(partition: ByHand) -> None:
    booked(partition)
    before = partition.everything()
    for record in (moved({1}, TO_SLOT_1), moved({1}, (), (Appointment(1, 70_012, 0, 9, 2, 7),))):
        assert partition.answer(b"d" + record[1:]).endswith(b"this takes seats")
    assert partition.everything() == before


def test_a_move_makes_room_by_ending_what_is_over(partition: ByHand) -> None:
    booked(partition, mask=b"\0\0")
    other = CourseId(PERSON, KIND, GENERATION + 9)
    partition.put_course(b"h", (Appointment(1, 70_011, 1, 6),), until_ms=NOW_MS, course=other)
    after = Appointment(1, 70_011, 1, 6, 2)
    assert partition.answer(moved({1}, TO_SLOT_1)) == answered(2, SECOND, after)


def test_where_the_event_cannot_be_written_nothing_is(partition: ByHand) -> None:
    booked(partition)
    partition.redis.lpush(partition.keys.outbox(partition.number), "not a stream")
    before = partition.everything()
    assert b"WRONGTYPE" in partition.answer(moved({1}, TO_SLOT_1))
    assert partition.everything() == before


# A change in doubt -----------------------------------------------------------------------------------------


def test_a_change_that_was_given_up_is_refused_when_it_comes_late(partition: ByHand) -> None:
    booked(partition)
    record = course_record(b"b", OP, (FIRST, SECOND), 2)
    assert partition.answer(codec.resolve(COURSE, 1)) == b"B" + record
    assert partition.course() == record
    assert partition.events() == []
    before = partition.everything()
    assert partition.answer(moved({1}, TO_SLOT_1)) == b"R\2\0"
    for revision in (0, 1, 3):
        assert partition.answer(codec.resolve(COURSE, revision)) == b"B" + record
    assert partition.everything() == before


def test_a_resolved_course_still_knows_its_first_op(partition: ByHand) -> None:
    booked(partition)
    partition.answer(codec.resolve(COURSE, 1))
    wishes = (Wish(1, 70_011, 0), Wish(2, 70_011, 1))
    assert partition.answer(take(wishes)) == begun((GENERATION, seats(3, 5)))
