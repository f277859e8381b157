"""claim, unclaim, settle and free: which guard each of them changes, to what, and what it answers."""

import pytest

from engine.domain.course import CourseId, Op
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
    claim,
    guard,
    live,
    memory,
)

NOT_THIS_GENERATION = GENERATION + 1
CLAIMED = b"+" + codec.GENERATION.pack(GENERATION + 1)
HAS_IT = b"=" + codec.GENERATION_LOCATION.pack(GENERATION, LOCATION)


# claim -----------------------------------------------------------------------------------------------------


def test_the_first_claim_has_generation_1(partition: ByHand) -> None:
    assert partition.answer(claim()) == b"+" + codec.GENERATION.pack(1)
    assert partition.guard() == guard(b"c", 1, OP.id)


@pytest.mark.parametrize("memories", [0, 1, 4])
def test_a_free_guard_is_claimed_under_the_next_generation_and_keeps_its_memories(
    partition: ByHand, memories: int
) -> None:
    partition.put_guard(b"f", op=Op(bytes(8), bytes(8)), memories=memories)
    assert partition.answer(claim()) == CLAIMED
    remembered = tuple(memory(number) for number in range(memories))
    assert partition.guard() == guard(b"c", GENERATION + 1, OP.id, remembered)


def test_the_last_millisecond_is_not_late(partition: ByHand) -> None:
    partition.stop_the_clock()
    assert partition.answer(claim(not_after_ms=NOW_MS - 1)) == b"D"
    assert partition.guard() is None
    assert partition.answer(claim(not_after_ms=NOW_MS)) == b"+" + codec.GENERATION.pack(1)


@pytest.mark.parametrize("memories", [0, 2])
@pytest.mark.parametrize(("before", "after"), [(b"c", b"j"), (b"j", b"j"), (b"b", b"b")])
def test_a_repeated_claim_joins_what_is_claimed_and_leaves_what_is_booked(
    partition: ByHand, before: bytes, after: bytes, memories: int
) -> None:
    record = partition.put_guard(before, memories=memories)
    assert partition.answer(claim()) == HAS_IT
    assert partition.guard() == after + record[1:]


@pytest.mark.parametrize("state", [b"c", b"j", b"b"])
@pytest.mark.parametrize("op", [OTHER, REUSED])
def test_a_live_guard_is_not_claimed_by_another_request(partition: ByHand, state: bytes, op: Op) -> None:
    record = partition.put_guard(state)
    assert partition.answer(claim(op)) == (b"K" if op == REUSED else live(state))
    assert partition.guard() == record


@pytest.mark.parametrize("state", [b"f", b"c", b"j", b"b"])
@pytest.mark.parametrize("number", range(4))
def test_each_remembered_op_gets_the_course_it_had(partition: ByHand, state: bytes, number: int) -> None:
    record = partition.put_guard(state, memories=4)
    past = memory(number)
    had = b"=" + codec.GENERATION_LOCATION.pack(past.generation, past.location)
    assert partition.answer(claim(Op(past.op[:8], past.op[8:]))) == had
    assert partition.answer(claim(Op(past.op[:8], b"another-"))) == b"K"
    assert partition.guard() == record


def test_a_key_of_zeros_is_a_key_like_any_other(partition: ByHand) -> None:
    """A free guard has zeros where a claimed one has its op."""
    partition.put_guard(b"f", op=Op(bytes(8), bytes(8)))
    zeros = Op(bytes(8), bytes(8))
    assert partition.answer(claim(zeros)) == CLAIMED
    assert partition.guard() == guard(b"c", GENERATION + 1, zeros.id)


# unclaim ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "buried"), [(b"c", False), (b"c", True), (b"j", True)])
def test_what_is_given_back_is_free_and_leaves_no_memory(
    partition: ByHand, state: bytes, buried: bool
) -> None:
    partition.put_guard(state, memories=3)
    assert partition.answer(codec.unclaim(COURSE, buried=buried)) == b"+"
    assert partition.guard() == guard(b"f", GENERATION, bytes(16), tuple(memory(n) for n in range(3)))


@pytest.mark.parametrize(("state", "buried"), [(b"j", False), (b"b", False), (b"b", True), (b"f", True)])
def test_what_is_joined_booked_or_free_is_not_given_back(
    partition: ByHand, state: bytes, buried: bool
) -> None:
    record = partition.put_guard(state)
    assert partition.answer(codec.unclaim(COURSE, buried=buried)) == b"-"
    assert partition.guard() == record


# settle ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "answer", "after"),
    [(b"c", b"+", b"b"), (b"j", b"+", b"b"), (b"b", b"=", b"b"), (b"f", b"-", b"f")],
)
def test_settling_books_what_is_claimed(
    partition: ByHand, before: bytes, answer: bytes, after: bytes
) -> None:
    record = partition.put_guard(before, memories=2)
    assert partition.answer(codec.settle(COURSE)) == answer
    assert partition.guard() == after + record[1:]


# free ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [b"c", b"j", b"b"])
@pytest.mark.parametrize("memories", range(5))
def test_what_is_freed_is_remembered_first_and_the_oldest_of_four_is_forgotten(
    partition: ByHand, state: bytes, memories: int
) -> None:
    partition.put_guard(state, memories=memories)
    assert partition.answer(codec.free(COURSE)) == b"+"
    newest = codec.Memory(OP.id, GENERATION, LOCATION)
    remembered = (newest, *(memory(number) for number in range(min(memories, 3))))
    assert partition.guard() == guard(b"f", GENERATION, bytes(16), remembered)


def test_a_free_guard_is_not_freed_again(partition: ByHand) -> None:
    record = partition.put_guard(b"f", memories=1)
    assert partition.answer(codec.free(COURSE)) == b"-"
    assert partition.guard() == record


# all of them -----------------------------------------------------------------------------------------------

STEPS = (codec.settle, codec.free, lambda course: codec.unclaim(course, buried=True))


@pytest.mark.parametrize("state", [b"c", b"j", b"b"])
@pytest.mark.parametrize("step", range(3))
def test_a_guard_of_another_generation_is_left_alone(partition: ByHand, state: bytes, step: int) -> None:
    record = partition.put_guard(state)
    assert partition.answer(STEPS[step](CourseId(PERSON, KIND, NOT_THIS_GENERATION))) == b"-"
    assert partition.answer(STEPS[step](CourseId(PERSON, KIND, GENERATION - 1))) == b"-"
    assert partition.answer(STEPS[step](CourseId(PERSON, KIND + 1, GENERATION))) == b"-"
    assert partition.guard() == record


@pytest.mark.parametrize("step", range(3))
def test_a_guard_that_is_not_there_is_not_made(partition: ByHand, step: int) -> None:
    before = partition.everything()
    assert partition.answer(STEPS[step](COURSE)) == b"-"
    assert partition.everything() == before
