"""resolve, read, open and mark: the records that they find or make, byte by byte."""

import pytest

from engine.domain.course import Appointment, CourseId, Op
from engine.inventory import codec
from tests.scripts.by_hand import COURSE, GENERATION, KIND, OP, PERSON, ByHand

TAKEN = (Appointment(1, 70_011, 2, 299), Appointment(2, 70_012, 1, 22))
NOBODY = Op(bytes(8), bytes(8))


def test_where_no_take_came_a_tombstone_is_written(partition: ByHand) -> None:
    assert partition.answer(codec.resolve(COURSE)) == b"T"
    assert partition.course() == codec.pack_course(codec.CourseRecord(b"t", NOBODY.id, (), 0))
    assert partition.answer(codec.resolve(COURSE)) == b"T"
    assert partition.events() == []


@pytest.mark.parametrize("state", [b"b", b"x", b"t"])
def test_what_is_decided_is_told_and_stays(partition: ByHand, state: bytes) -> None:
    record = partition.put_course(state, () if state == b"t" else TAKEN)
    before = partition.everything()
    answers = {b"b": b"B" + record, b"x": b"X", b"t": b"T"}
    assert partition.answer(codec.resolve(COURSE)) == answers[state]
    assert partition.everything() == before


def test_what_is_recorded_is_read(partition: ByHand) -> None:
    guard, course = partition.put_guard(b"c", memories=3), partition.put_course(b"x", TAKEN)
    before = partition.everything()
    answers = partition.step(codec.read_guard(PERSON, KIND), codec.read_course(COURSE))
    assert answers == [b"V" + guard, b"V" + codec.UNTIL.pack(0) + course]
    assert partition.everything() == before


def test_what_is_not_recorded_is_not_read(partition: ByHand) -> None:
    partition.put_guard(b"c")
    partition.put_course(b"b", TAKEN)
    others = [CourseId(PERSON, KIND, GENERATION + 1), CourseId(PERSON, KIND + 1, GENERATION)]
    records = [codec.read_course(other) for other in others]
    assert partition.step(codec.read_guard(PERSON, KIND + 1), *records) == [b"-"] * 3


@pytest.mark.parametrize("width", [1, 3, 255])
def test_a_session_is_opened_once_as_it_is_given(partition: ByHand, width: int) -> None:
    mask = bytes(range(1, width + 1)) * 2
    record = codec.open_session(70_011, width, mask)
    assert partition.step(record, record) == [b"+", b"="]
    assert partition.redis.get(partition.keys.session(partition.number, 70_011)) == (
        b"o" + bytes([width]) + mask
    )


@pytest.mark.parametrize(("width", "length"), [(0, 0), (0, 1), (2, 1), (2, 3), (3, 2), (3, 4)])
def test_a_session_whose_mask_does_not_fit_is_not_opened(partition: ByHand, width: int, length: int) -> None:
    before = partition.everything()
    answer = partition.answer(codec.open_session(70_011, width, b"\1" * length))
    assert answer.startswith(b"!")
    assert answer.endswith(b"mask and width do not fit")
    assert partition.everything() == before


@pytest.mark.parametrize("number", [0, 7, 2**32 + 1, 2**53 - 1])
def test_the_mark_is_written_to_the_last_digit(partition: ByHand, number: int) -> None:
    before = partition.meta()
    assert partition.answer(codec.mark(number)) == b"+"
    assert partition.meta() == {**before, b"mark": b"%d" % number}


def test_nothing_of_the_above_needs_an_op(partition: ByHand) -> None:
    """A tombstone has no op, so no op ever finds its course there."""
    partition.answer(codec.resolve(COURSE))
    record = partition.course()
    assert record is not None
    assert codec.course(record).op == NOBODY.id != OP.id
