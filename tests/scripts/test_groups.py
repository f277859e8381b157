"""Households and what comes instead of a hold: all of them or none, byte by byte."""

from collections.abc import Callable

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
    ByHand,
    begun,
    course_record,
    event,
    field_of,
    guard,
    seats,
)

NOBODY = Op(bytes(8), bytes(8))
MATE = CourseId(b"\xfe\x01-mate-of-him..", KIND, GENERATION + 7)
OFFER = CourseId(b"\xfe\x01-offer-to-them", 3, 5)
THIRD = Op(b"key-op-3", b"digest-3")
WISH = Wish(1, 70_011, 0)
Pack = Callable[[codec.Group], bytes]


def household(
    pack: Pack = codec.take,
    wishes: tuple[Wish, ...] = (WISH,),
    op: Op = OP,
    instead: CourseId | None = None,
    not_after_ms: int = NOW_MS,
) -> bytes:
    """Both of them, each with these wishes."""
    fused = pack is codec.book
    members = tuple(
        codec.Member(course.person, course.kind, LOCATION if fused else course.generation, wishes)
        for course in (COURSE, MATE)
    )
    return pack(codec.Group(op, not_after_ms, members, 0, instead))


def open_session(partition: ByHand, mask: bytes) -> None:
    partition.put_session(70_011, 1, mask)
    partition.stop_the_clock()


def test_a_household_begins_at_once(partition: ByHand) -> None:
    open_session(partition, b"\x28")
    told = begun((GENERATION, seats(3)), (MATE.generation, seats(5)))
    assert partition.answer(household()) == told
    his, hers = Appointment(1, 70_011, 0, 3), Appointment(1, 70_011, 0, 5)
    assert partition.course() == course_record(b"b", OP, (his,))
    assert partition.course_of(MATE) == course_record(b"b", OP, (hers,))
    assert partition.events() == [
        event(b"b", OP, (his,), GENERATION),
        event(b"b", OP, (hers,), 0, course=MATE),
    ]
    before = partition.everything()
    assert partition.answer(household(not_after_ms=0)) == told
    assert partition.everything() == before


def test_a_fused_household_has_a_guard_each(partition: ByHand) -> None:
    open_session(partition, b"\x28")
    assert partition.answer(household(codec.book)) == begun((1, seats(3)), (1, seats(5)))
    assert partition.guard() == guard(b"b", 1, OP.id)
    bucket = partition.keys.bucket(partition.number, MATE.person)
    assert partition.redis.hget(bucket, codec.PERSON_KIND.pack(MATE.person, KIND)) == guard(b"b", 1, OP.id)
    before = partition.everything()
    assert partition.answer(household(codec.book, not_after_ms=0)) == begun((1, seats(3)), (1, seats(5)))
    assert partition.everything() == before


@pytest.mark.parametrize("pack", [codec.take, codec.book])
@pytest.mark.parametrize(
    ("wishes", "answer"),
    [
        ((WISH,), b"F\2\1o\1\x08"),
        ((Wish(1, 70_012, 0),), b"N\1\1"),
        ((), b"N\1\0"),
        ((WISH, Wish(1, 70_011, 0)), b"F\1\1o\1\x08"),
    ],
    ids=["full-for-the-second", "closed", "no-wish", "full-for-the-second-dose"],
)
def test_half_a_household_does_not_begin(
    partition: ByHand, pack: Pack, wishes: tuple[Wish, ...], answer: bytes
) -> None:
    """The stock that is told is what is there, not what would have been left."""
    open_session(partition, b"\x08")
    before = partition.everything()
    assert partition.answer(household(pack, wishes)) == answer
    assert partition.answer(household(pack, wishes, not_after_ms=NOW_MS - 1)) == b"D"
    assert partition.everything() == before


@pytest.mark.parametrize(
    ("state", "op", "answer"),
    [(b"t", NOBODY, b"T\2"), (b"b", OTHER, b"K\2"), (b"x", OTHER, b"K\2"), (b"b", OP, b"T\1")],
    ids=["tombstone", "another-op", "another-op-ended", "half-of-it"],
)
def test_a_member_who_cannot_begin_stops_them_all(
    partition: ByHand, state: bytes, op: Op, answer: bytes
) -> None:
    open_session(partition, b"\x28")
    held = () if state == b"t" else (Appointment(1, 70_011, 0, 1),)
    partition.put_course(state, held, op=op, course=MATE)
    before = partition.everything()
    assert partition.answer(household()) == answer
    assert partition.everything() == before


@pytest.mark.parametrize(
    ("state", "op", "answer"),
    [
        (b"c", OTHER, b"L\2" + codec.LIVE.pack(b"c", GENERATION, LOCATION)),
        (b"b", Op(OP.key, OTHER.digest), b"K\2"),
        (b"b", OP, b"T\1"),
    ],
    ids=["claimed", "key-reused", "half-of-it"],
)
def test_a_member_whose_guard_is_taken_stops_them_all(
    partition: ByHand, state: bytes, op: Op, answer: bytes
) -> None:
    open_session(partition, b"\x28")
    bucket = partition.keys.bucket(partition.number, MATE.person)
    field = codec.PERSON_KIND.pack(MATE.person, KIND)
    partition.redis.hset(bucket, field, guard(state, GENERATION, op.id))
    before = partition.everything()
    assert partition.answer(household(codec.book)) == answer
    assert partition.everything() == before


@pytest.mark.parametrize("pack", [codec.take, codec.book])
def test_a_person_who_is_there_twice_or_nobody_is_an_error(partition: ByHand, pack: Pack) -> None:
    open_session(partition, b"\x28")
    member = codec.Member(PERSON, KIND, 1, (WISH,))
    before = partition.everything()
    twice = partition.answer(pack(codec.Group(OP, NOW_MS, (member, member))))
    assert twice.startswith(b"!")
    assert twice.endswith(b"a person is there twice")
    for record in (pack(codec.Group(OP, NOW_MS, ())), pack(codec.Group(OP, NOW_MS, (member,))) + b"?"):
        assert partition.answer(record).endswith(b"members and record do not fit")
    assert partition.everything() == before


@pytest.mark.parametrize("pack", [codec.take, codec.book])
def test_one_dose_twice_is_refused_also_elsewhere(partition: ByHand, pack: Pack) -> None:
    open_session(partition, b"\x28")
    away = Appointment(1, 70_012, 0, 0, 1, 7)
    member = codec.Member(PERSON, KIND, 1, (WISH,), (away,))
    before = partition.everything()
    assert partition.answer(pack(codec.Group(OP, NOW_MS, (member,)))) == b"N\1\1"
    assert partition.everything() == before


def test_parts_count_from_the_first_step_on(partition: ByHand) -> None:
    open_session(partition, b"\x28")
    away = Appointment(2, 70_012, 0, 9, 1, 7)
    member = codec.Member(PERSON, KIND, GENERATION, (WISH,), (away,))
    here = Appointment(1, 70_011, 0, 3)
    record = codec.take(codec.Group(OP, NOW_MS, (member,)))
    told = begun((GENERATION, seats(3) + codec.pack_appointments([away])))
    assert partition.answer(record) == told
    assert partition.course() == course_record(b"b", OP, (here, away))
    assert partition.events() == [event(b"b", OP, (here, away), GENERATION)]
    # Remembered from the record, whatever the copy says.
    bare = codec.Member(PERSON, KIND, GENERATION, (WISH,))
    assert partition.answer(codec.take(codec.Group(OP, 0, (bare,)))) == told


# Instead of a hold -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [codec.take, codec.book])
def test_who_comes_instead_gets_the_seats_and_the_hold_ends(partition: ByHand, pack: Pack) -> None:
    open_session(partition, b"\0")
    held = (Appointment(1, 70_011, 0, 3), Appointment(2, 70_011, 0, 5))
    partition.put_course(b"h", held, op=OTHER, until_ms=NOW_MS + 1, course=OFFER)
    generations = (1, 1) if pack is codec.book else (GENERATION, MATE.generation)
    answer = partition.answer(household(pack, instead=OFFER))
    assert answer == begun((generations[0], seats(3)), (generations[1], seats(5)))
    changes = (codec.Change(OP.id, b"x", 2),)
    assert partition.course_of(OFFER) == course_record(b"x", OTHER, held, 2, changes)
    assert partition.holds() == {}
    told = [codec.event(packed) for packed in partition.events()]
    assert [one.type for one in told] == [b"x", b"b", b"b"]
    assert partition.events()[0] == event(b"x", OP, (), 0, held, 2, course=OFFER)
    assert partition.mask(70_011) == b"\0"
    before = partition.everything()
    assert partition.answer(household(pack, instead=OFFER)) == answer
    other = codec.Member(b"\xfe\x01-quite-another", KIND, 1, (WISH,))
    assert partition.answer(pack(codec.Group(THIRD, NOW_MS, (other,), 0, OFFER))) == b"G"
    assert partition.everything() == before


@pytest.mark.parametrize("pack", [codec.take, codec.book])
@pytest.mark.parametrize(
    ("state", "until_ms"),
    [(b"h", NOW_MS), (b"b", 0), (b"x", 0), (b"t", 0), (None, 0)],
    ids=["over", "booked", "ended", "tombstone", "none"],
)
def test_where_no_hold_runs_nobody_comes_instead(
    partition: ByHand, pack: Pack, state: bytes | None, until_ms: int
) -> None:
    open_session(partition, b"\x06")
    if state is not None:
        held = () if state == b"t" else (Appointment(1, 70_011, 0, 3),)
        partition.put_course(state, held, op=OTHER, until_ms=until_ms, course=OFFER)
    before = partition.everything()
    assert partition.answer(household(pack, instead=OFFER)) == b"G"
    assert partition.everything() == before


@pytest.mark.parametrize("pack", [codec.take, codec.book])
def test_a_refused_group_leaves_the_hold_as_it_was(partition: ByHand, pack: Pack) -> None:
    open_session(partition, b"\0")
    partition.put_course(b"h", (Appointment(1, 70_011, 0, 3),), op=OTHER, until_ms=NOW_MS + 1, course=OFFER)
    before = partition.everything()
    assert partition.answer(household(pack, instead=OFFER)) == b"F\2\1o\1\0"
    assert partition.everything() == before
    assert partition.holds() == {field_of(OFFER): NOW_MS + 1}
