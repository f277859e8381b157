"""hold, confirm, extend, expire: what runs out and when, byte by byte."""

import pytest

from engine.domain.course import Appointment, CourseId, Op, Wish
from engine.inventory import codec
from tests.scripts.by_hand import (
    COURSE,
    GENERATION,
    KIND,
    LOCATION,
    NOW_MS,
    OP,
    OTHER,
    PERSON,
    REUSED,
    ByHand,
    begun,
    course_record,
    event,
    field_of,
    guard,
    seats,
    take,
)

NOBODY = Op(bytes(8), bytes(8))
FIRST, SECOND = Appointment(1, 70_011, 0, 3), Appointment(1, 70_011, 1, 5)
MATE = CourseId(b"\xfe\x01-mate-of-him..", KIND, GENERATION + 7)
MEMBER = codec.Member(PERSON, KIND, GENERATION, (Wish(1, 70_011, 0),), (), 3, 800)
HOLD_MS = 90_000


def open_session(partition: ByHand, mask: bytes = b"\x08\x20") -> None:
    partition.put_session(70_011, 1, mask)
    partition.stop_the_clock()


def hold_both(partition: ByHand, until_ms: int = NOW_MS + 1, mate: bytes = b"h") -> None:
    """COURSE is held; and MATE, unless it has another state."""
    open_session(partition, b"\0\0")
    partition.put_course(b"h", (FIRST,), until_ms=until_ms)
    partition.put_course(mate, (SECOND,), until_ms=until_ms, course=MATE)


@pytest.mark.parametrize("fused", [False, True])
def test_a_hold_is_recorded_and_told_with_its_end_and_what_is_given(partition: ByHand, fused: bool) -> None:
    open_session(partition)
    record = (codec.book if fused else codec.take)(codec.Group(OP, NOW_MS, (MEMBER,), HOLD_MS))
    course = CourseId(PERSON, KIND, 1) if fused else COURSE
    until_ms = NOW_MS + HOLD_MS
    assert partition.answer(record) == begun((course.generation, seats(3)), until_ms=until_ms)
    assert partition.course(course.generation) == course_record(b"h", OP, (FIRST,), given=(3, 800))
    assert partition.holds() == {field_of(course): until_ms}
    tail = (until_ms, 3, 800)
    assert partition.events() == [event(b"h", OP, (FIRST,), course.generation, tail=tail)]
    assert partition.mask(70_011) == b"\0\x20"
    before = partition.everything()
    assert partition.answer(record) == begun((course.generation, seats(3)), until_ms=until_ms)
    read = partition.answer(codec.read_course(course))
    assert read == b"V" + codec.UNTIL.pack(until_ms) + course_record(b"h", OP, (FIRST,), given=(3, 800))
    assert partition.everything() == before


def test_what_is_given_is_told_of_a_booking_too(partition: ByHand) -> None:
    open_session(partition)
    assert partition.answer(codec.take(codec.Group(OP, NOW_MS, (MEMBER,)))) == begun((GENERATION, seats(3)))
    assert partition.events() == [event(b"b", OP, (FIRST,), GENERATION, tail=(0, 3, 800))]
    assert partition.holds() == {}


# confirm ---------------------------------------------------------------------------------------------------


def test_a_confirmed_hold_is_booked_and_runs_no_more(partition: ByHand) -> None:
    hold_both(partition)
    assert partition.answer(codec.confirm([COURSE, MATE], OTHER)) == b"Y"
    changes = (codec.Change(OTHER.id, b"c", 2),)
    assert partition.course() == course_record(b"b", OP, (FIRST,), 2, changes)
    assert partition.course_of(MATE) == course_record(b"b", OP, (SECOND,), 2, changes)
    assert partition.holds() == {}
    assert partition.events() == [
        event(b"c", OTHER, (), GENERATION, revision=2),
        event(b"c", OTHER, (), 0, revision=2, course=MATE),
    ]
    assert partition.mask(70_011) == b"\0\0"
    assert partition.answer(codec.expire(9)) == b"E\0\0"


def test_a_confirmation_that_comes_again_is_told_the_same_even_after_a_cancellation(
    partition: ByHand,
) -> None:
    hold_both(partition, mate=b"b")
    confirm = codec.confirm([MATE, COURSE], OTHER)
    assert partition.answer(confirm) == b"Y"
    assert partition.answer(codec.cancel(MATE, Op(b"key-op-3", b"digest-3")))[:1] == b"X"
    before = partition.everything()
    assert partition.answer(confirm) == b"Y"
    assert partition.everything() == before


@pytest.mark.parametrize("mate", [None, b"x", b"t"], ids=["none", "ended", "tombstone"])
def test_some_of_a_household_is_not_confirmed(partition: ByHand, mate: bytes | None) -> None:
    open_session(partition, b"\0\0")
    partition.put_course(b"h", (FIRST,), until_ms=NOW_MS + 1)
    if mate is not None:
        partition.put_course(mate, () if mate == b"t" else (SECOND,), course=MATE)
    before = partition.everything()
    for record in (codec.confirm([COURSE, MATE], OP), codec.confirm([COURSE, MATE], REUSED)):
        assert partition.answer(record) == b"K\1"
    third = Op(b"key-op-3", b"digest-3")
    assert partition.answer(codec.confirm([COURSE, MATE], third)) == b"G\2"
    assert partition.answer(codec.extend([COURSE, MATE], third, 9, 9)) == b"G\2"
    assert partition.everything() == before


@pytest.mark.parametrize(("over_by", "answer"), [(-1, b"Y"), (0, b"G\1"), (1, b"G\1")])
def test_a_hold_is_over_at_its_millisecond(partition: ByHand, over_by: int, answer: bytes) -> None:
    hold_both(partition, NOW_MS - over_by)
    before = partition.everything()
    assert partition.answer(codec.extend([COURSE, MATE], OTHER, 9, 9))[:1] == (b"W" if over_by < 0 else b"G")
    if over_by >= 0:
        assert partition.answer(codec.confirm([COURSE, MATE], OTHER)) == answer
        assert partition.everything() == before
    else:
        assert partition.answer(codec.confirm([COURSE], Op(b"key-op-3", b"digest-3"))) == answer


# extend ----------------------------------------------------------------------------------------------------


def test_an_extended_hold_ends_later(partition: ByHand) -> None:
    hold_both(partition)
    record = codec.extend([COURSE, MATE], OTHER, HOLD_MS, 1)
    until_ms = NOW_MS + HOLD_MS
    assert partition.answer(record) == b"W" + codec.UNTIL.pack(until_ms)
    changes = (codec.Change(OTHER.id, b"w", 2),)
    assert partition.course() == course_record(b"h", OP, (FIRST,), 2, changes)
    assert partition.holds() == {field_of(COURSE): until_ms, field_of(MATE): until_ms}
    tail = (until_ms, 0, 0)
    assert partition.events() == [
        event(b"w", OTHER, (), GENERATION, revision=2, tail=tail),
        event(b"w", OTHER, (), 0, revision=2, tail=tail, course=MATE),
    ]
    before = partition.everything()
    assert partition.answer(record) == b"W" + codec.UNTIL.pack(until_ms)
    assert partition.answer(codec.extend([COURSE, MATE], Op(OTHER.key, OP.digest), 1, 9)) == b"K\1"
    assert partition.answer(codec.extend([COURSE], Op(b"key-op-3", b"digest-3"), 1, 1)) == b"M\1"
    assert partition.everything() == before


@pytest.mark.parametrize("state", [b"b", b"x"])
def test_what_is_not_held_is_not_extended(partition: ByHand, state: bytes) -> None:
    hold_both(partition, mate=state)
    before = partition.everything()
    assert partition.answer(codec.extend([COURSE, MATE], Op(b"key-op-3", b"digest-3"), 9, 9)) == b"G\2"
    assert partition.everything() == before


# expire ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [b"c", b"j", b"b"])
def test_an_expired_hold_gives_back_its_seat_and_its_guard(partition: ByHand, state: bytes) -> None:
    hold_both(partition, NOW_MS)
    partition.put_guard(state)
    assert partition.answer(codec.expire(9)) == b"E\2\0"
    assert partition.course() == course_record(b"x", OP, (FIRST,), 2)
    assert partition.course_of(MATE) == course_record(b"x", OP, (SECOND,), 2)
    assert partition.holds() == {}
    assert partition.mask(70_011) == b"\x08\x20"
    told = [
        event(b"e", NOBODY, (), GENERATION, (FIRST,), 2),
        event(b"e", NOBODY, (), 0, (SECOND,), 2, course=MATE),
    ]
    assert sorted(partition.events()) == sorted(told)
    remembered = (codec.Memory(OP.id, GENERATION, LOCATION),)
    assert partition.guard() == guard(b"f", GENERATION, bytes(16), remembered)


def test_the_oldest_hold_expires_first_and_what_runs_does_not(partition: ByHand) -> None:
    open_session(partition, b"\0\0")
    partition.put_course(b"h", (FIRST,), until_ms=NOW_MS)
    partition.put_course(b"h", (SECOND,), until_ms=NOW_MS - 1, course=MATE)
    assert partition.answer(codec.expire(0)) == b"E\0\0"
    assert partition.answer(codec.expire(1)) == b"E\1\0"
    assert partition.holds() == {field_of(COURSE): NOW_MS}
    partition.redis.zadd(partition.holds_key, {field_of(COURSE): NOW_MS + 1})
    before = partition.everything()
    assert partition.answer(codec.expire(9)) == b"E\0\0"
    assert partition.everything() == before


@pytest.mark.parametrize("state", [b"b", b"x", b"t", None])
def test_what_is_not_held_does_not_expire_and_is_not_met_again(
    partition: ByHand, state: bytes | None
) -> None:
    open_session(partition, b"\0\0")
    record = None if state is None else partition.put_course(state, (FIRST,))
    partition.redis.zadd(partition.holds_key, {field_of(COURSE): NOW_MS})
    assert partition.answer(codec.expire(9)) == b"E\1\0"
    assert partition.course() == record
    assert (partition.holds(), partition.events(), partition.mask(70_011)) == ({}, [], b"\0\0")


def test_parts_of_an_expired_hold_are_told_of(partition: ByHand) -> None:
    away = Appointment(2, 70_012, 0, 1, 1, 7)
    open_session(partition, b"\0\0")
    partition.put_course(b"h", (FIRST, away), until_ms=NOW_MS)
    assert partition.answer(codec.expire(9)) == b"E\1\0"
    assert partition.events() == [event(b"e", NOBODY, (), GENERATION, (FIRST, away), 2)]


def test_resolving_ends_a_hold_that_is_over_and_no_other(partition: ByHand) -> None:
    hold_both(partition, NOW_MS + 1)
    before = partition.everything()
    held = course_record(b"h", OP, (FIRST,))
    assert partition.answer(codec.resolve(COURSE)) == b"B" + held
    assert partition.everything() == before
    partition.redis.zadd(partition.holds_key, {field_of(COURSE): NOW_MS})
    assert partition.answer(codec.resolve(COURSE, 1)) == b"X"
    assert partition.course() == course_record(b"x", OP, (FIRST,), 2)


@pytest.mark.parametrize("free", [True, False])
def test_a_taker_who_finds_a_slot_full_ends_what_is_over(partition: ByHand, free: bool) -> None:
    open_session(partition, b"\x08\0" if free else b"\0\0")
    partition.put_course(b"h", (Appointment(1, 70_011, 0, 4),), until_ms=NOW_MS, course=MATE)
    assert partition.answer(take((Wish(1, 70_011, 0),))) == begun((GENERATION, seats(3 if free else 4)))
    assert [codec.event(e).type for e in partition.events()] == ([b"b"] if free else [b"e", b"b"])


def test_many_holds_that_are_over_make_room_at_once(partition: ByHand) -> None:
    """More than one round: the one in the way is the youngest."""
    partition.put_session(70_011, 5, bytes(10))
    partition.stop_the_clock()
    for number in range(33):
        slot = 0 if number == 32 else 1
        course = CourseId(PERSON, KIND, number + 1)
        held = (Appointment(1, 70_011, slot, number),)
        partition.put_course(b"h", held, until_ms=NOW_MS - 40 + number, course=course)
    assert partition.answer(take((Wish(1, 70_011, 0),))) == begun((GENERATION, seats(32)))
    assert partition.holds() == {}


def test_a_booking_meets_a_hold_that_is_over_as_something_to_resolve(partition: ByHand) -> None:
    hold_both(partition, NOW_MS)
    partition.put_guard(b"b")
    record = codec.book(codec.Group(OTHER, NOW_MS, (codec.Member(PERSON, KIND, 1, (Wish(1, 70_011, 0),)),)))
    live = codec.LIVE.pack(b"b", GENERATION, LOCATION)
    assert partition.answer(record) == b"L\1" + live
    partition.redis.zadd(partition.holds_key, {field_of(COURSE): NOW_MS + 1})
    assert partition.answer(record) == b"L\1v" + live[1:]


# Event first -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", ["holds", "outbox"])
@pytest.mark.parametrize(
    "record",
    [
        codec.take(codec.Group(OP, NOW_MS, (MEMBER,), HOLD_MS)),
        codec.book(codec.Group(OP, NOW_MS, (MEMBER,), HOLD_MS)),
        codec.confirm([COURSE], OTHER),
        codec.extend([COURSE], OTHER, 9, 9),
        codec.cancel(COURSE, OTHER),
        codec.expire(9),
    ],
    ids=["take", "book", "confirm", "extend", "cancel", "expire"],
)
def test_a_key_of_another_type_is_met_before_the_first_write(
    partition: ByHand, record: bytes, torn: str
) -> None:
    open_session(partition)
    if record[:1] not in b"tb":
        until_ms = NOW_MS if record[:1] == b"e" else NOW_MS + 1
        partition.put_course(b"h", (Appointment(1, 70_011, 0, 4),), until_ms=until_ms)
    key = partition.holds_key if torn == "holds" else partition.keys.outbox(partition.number)
    partition.redis.delete(key)
    partition.redis.hset(key, "of another", "type")
    before = partition.everything()
    assert b"WRONGTYPE" in partition.answer(record)
    assert partition.everything() == before
