"""take, book and cancel: which seats they take or give back, what they record, tell and answer."""

from collections.abc import Callable

import pytest

from engine.domain.course import Appointment, Op, Wish
from engine.inventory import codec
from tests.scripts.by_hand import (
    COURSE,
    GENERATION,
    LOCATION,
    NOW_MS,
    OP,
    OTHER,
    REUSED,
    ByHand,
    begun,
    book,
    claim,
    course_record,
    event,
    guard,
    live,
    mask_of,
    memory,
    seats,
    take,
)

WIDTH, SLOTS = 40, 3
WISHES = (Wish(1, 70_011, 2), Wish(2, 70_012, 1))
# Bit 3 of byte 37, and bit 6 of byte 2: seats 299 and 22.
TAKEN = (Appointment(1, 70_011, 2, 299), Appointment(2, 70_012, 1, 22))
LENGTH = WIDTH * SLOTS
ONE_FREE = (mask_of(LENGTH, (2 * WIDTH + 37, 3)), mask_of(LENGTH, (WIDTH + 2, 6)))
Keyed = Callable[..., bytes]
BOTH: list[Keyed] = [take, book]


def open_both(partition: ByHand, masks: tuple[bytes, bytes] = ONE_FREE) -> None:
    """Two wide sessions in which only the seats of TAKEN are free."""
    for wish, mask in zip(WISHES, masks, strict=True):
        partition.put_session(wish.session, WIDTH, mask)
    partition.stop_the_clock()


def masks(partition: ByHand) -> tuple[bytes, bytes]:
    return partition.mask(WISHES[0].session), partition.mask(WISHES[1].session)


def booked_course(op: Op = OP, appointments: tuple[Appointment, ...] = TAKEN) -> bytes:
    return course_record(b"b", op, appointments)


# What is taken ---------------------------------------------------------------------------------------------


def test_a_take_writes_event_course_and_seats(partition: ByHand) -> None:
    open_both(partition)
    assert partition.answer(take(WISHES)) == begun((GENERATION, seats(299, 22)))
    assert partition.course() == booked_course()
    assert partition.events() == [event(b"b", OP, TAKEN, GENERATION)]
    assert partition.meta()[b"clock"] == b"%d" % NOW_MS
    assert masks(partition) == (bytes(LENGTH), bytes(LENGTH))
    assert partition.guard() is None


def test_a_fused_booking_writes_guard_event_course_and_seats(partition: ByHand) -> None:
    open_both(partition)
    partition.put_guard(b"f", op=Op(bytes(8), bytes(8)), memories=2)
    assert partition.answer(book(WISHES)) == begun((GENERATION + 1, seats(299, 22)))
    assert partition.guard() == guard(b"b", GENERATION + 1, OP.id, (memory(0), memory(1)))
    assert partition.course(GENERATION + 1) == booked_course()
    assert partition.events() == [event(b"b", OP, TAKEN, GENERATION + 1)]
    assert masks(partition) == (bytes(LENGTH), bytes(LENGTH))


@pytest.mark.parametrize("record", BOTH)
def test_the_lowest_free_seat_is_taken_and_no_other(partition: ByHand, record: Keyed) -> None:
    full = b"\xff" * LENGTH
    open_both(partition, (full, full))
    partition.answer(record(WISHES))
    without_first = [bytearray(full), bytearray(full)]
    without_first[0][2 * WIDTH] = without_first[1][WIDTH] = 0xFE
    assert masks(partition) == (bytes(without_first[0]), bytes(without_first[1]))


def test_nine_doses_are_one_course(partition: ByHand) -> None:
    """More doses than bytes in an appointment: the counts in course and event are really counted."""
    partition.put_session(5, 1, b"\xff" * 9)
    partition.stop_the_clock()
    wishes = tuple(Wish(dose, 5, 9 - dose) for dose in range(1, 10))
    appointments = tuple(Appointment(wish.dose, 5, wish.slot, 0) for wish in wishes)
    assert partition.answer(take(wishes)) == begun((GENERATION, seats(*[0] * 9)))
    assert partition.course() == booked_course(appointments=appointments)
    cancelled = partition.answer(codec.cancel(COURSE, OTHER))
    assert codec.appointments(cancelled[1:]) == appointments
    record = course_record(b"x", OP, appointments, 2, (codec.Change(OTHER.id, b"x", 2),))
    assert partition.course() == record
    assert partition.events() == [
        event(b"b", OP, appointments, GENERATION),
        event(b"x", OTHER, (), GENERATION, appointments, 2),
    ]
    assert partition.mask(5) == b"\xff" * 9


def test_session_and_slot_are_told_apart(partition: ByHand) -> None:
    """Session 1, slot 11 and session 11, slot 1 are two slots."""
    for session in (1, 11):
        partition.put_session(session, 1, b"\x01" * 12)
    assert partition.answer(take((Wish(1, 1, 11), Wish(2, 11, 1)))) == begun((GENERATION, seats(0, 0)))


# What is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", BOTH)
@pytest.mark.parametrize(
    ("wishes", "dose"),
    [
        ((), 0),
        ((Wish(1, 70_011, 2), Wish(7, 70_013, 1)), 7),
        ((Wish(1, 70_011, 2), Wish(7, 70_012, SLOTS)), 7),
        ((Wish(1, 70_011, 2), Wish(7, 70_014, 0)), 7),
        ((Wish(7, 70_011, 2), Wish(7, 70_012, 1)), 7),
    ],
    ids=["no-wish", "no-session", "no-slot", "not-open", "one-dose-twice"],
)
def test_what_is_not_on_sale_is_refused_by_its_dose(
    partition: ByHand,
    record: Keyed,
    wishes: tuple[Wish, ...],
    dose: int,
) -> None:
    full = b"\xff" * LENGTH
    open_both(partition, (full, full))
    partition.put_session(70_014, WIDTH, full, state=b"c")
    before = partition.everything()
    assert partition.answer(record(wishes)) == b"N\1" + bytes([dose])
    assert partition.everything() == before


@pytest.mark.parametrize("record", BOTH)
def test_a_full_slot_is_refused_with_its_session(partition: ByHand, record: Keyed) -> None:
    open_both(partition, (ONE_FREE[0], mask_of(LENGTH, (0, 0), (2 * WIDTH, 0))))
    before = partition.everything()
    stock = b"o" + bytes([WIDTH]) + mask_of(LENGTH, (0, 0), (2 * WIDTH, 0))
    assert partition.answer(record(WISHES)) == b"F\1\2" + stock
    assert partition.everything() == before


@pytest.mark.parametrize("record", BOTH)
def test_the_last_millisecond_is_not_late(partition: ByHand, record: Keyed) -> None:
    open_both(partition)
    before = partition.everything()
    assert partition.answer(record(WISHES, not_after_ms=NOW_MS - 1)) == b"D"
    assert partition.everything() == before
    assert partition.answer(record(WISHES, not_after_ms=NOW_MS))[:1] == b"B"


@pytest.mark.parametrize("record", BOTH)
@pytest.mark.parametrize("length", range(1, 7))
def test_a_wish_that_is_cut_off_books_nothing(partition: ByHand, record: Keyed, length: int) -> None:
    open_both(partition)
    before = partition.everything()
    assert partition.answer(record(WISHES) + bytes(length)).startswith(b"!")
    assert partition.everything() == before


# The same course once more ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [b"b", b"x"])
def test_a_take_that_comes_again_gets_the_seats_it_had(partition: ByHand, state: bytes) -> None:
    open_both(partition)
    partition.put_course(state, TAKEN)
    before = partition.everything()
    assert partition.answer(take(WISHES, not_after_ms=0)) == begun((GENERATION, seats(299, 22)))
    assert [partition.answer(take(WISHES, op)) for op in (OTHER, REUSED)] == [b"K\1", b"K\1"]
    assert partition.everything() == before


@pytest.mark.parametrize("op", [OP, OTHER, Op(bytes(8), bytes(8))])
def test_a_tombstone_refuses_every_take(partition: ByHand, op: Op) -> None:
    open_both(partition)
    partition.put_course(b"t", op=Op(bytes(8), bytes(8)))
    before = partition.everything()
    assert partition.answer(take(WISHES, op)) == b"T\1"
    assert partition.everything() == before


@pytest.mark.parametrize("state", [b"b", b"x"])
def test_a_booking_that_comes_again_gets_the_seats_it_had(partition: ByHand, state: bytes) -> None:
    open_both(partition)
    partition.put_guard(b"b")
    partition.put_course(state, TAKEN)
    before = partition.everything()
    again = begun((GENERATION, seats(299, 22)))
    assert partition.answer(book(WISHES, not_after_ms=0)) == again
    assert partition.answer(book(WISHES, REUSED)) == b"K\1"
    assert partition.everything() == before


@pytest.mark.parametrize("course", [None, b"t"], ids=["undecided", "given-up"])
def test_a_booking_that_only_claimed_before_is_to_be_resolved(
    partition: ByHand, course: bytes | None
) -> None:
    open_both(partition)
    partition.put_guard(b"c")
    if course is not None:
        partition.put_course(course, op=Op(bytes(8), bytes(8)))
    before = partition.everything()
    assert partition.answer(book(WISHES)) == b"L\1" + live(b"c")[1:]
    assert partition.everything() == before


@pytest.mark.parametrize("guard_state", [b"c", b"j", b"b"])
@pytest.mark.parametrize(
    ("course", "told"), [(b"b", b"v"), (b"x", None), (b"t", None), (None, None)], ids=str
)
def test_another_live_course_is_verified_where_it_is_booked(
    partition: ByHand, guard_state: bytes, course: bytes | None, told: bytes | None
) -> None:
    open_both(partition)
    partition.put_guard(guard_state)
    if course is not None:
        partition.put_course(course, TAKEN)
    before = partition.everything()
    assert partition.answer(book(WISHES, OTHER)) == b"L\1" + live(told or guard_state)[1:]
    assert partition.everything() == before


# What is given back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("guard_state", [b"c", b"j", b"b"])
def test_a_cancellation_writes_event_course_seats_and_guard(partition: ByHand, guard_state: bytes) -> None:
    open_both(partition, (bytes(LENGTH), bytes(LENGTH)))
    partition.put_guard(guard_state, memories=1)
    partition.put_course(b"b", TAKEN)
    answer = partition.answer(codec.cancel(COURSE, OTHER))
    assert (answer[:1], codec.appointments(answer[1:])) == (b"X", TAKEN)
    assert partition.course() == course_record(b"x", OP, TAKEN, 2, (codec.Change(OTHER.id, b"x", 2),))
    assert partition.events() == [event(b"x", OTHER, (), GENERATION, TAKEN, 2)]
    assert masks(partition) == ONE_FREE
    remembered = (codec.Memory(OP.id, GENERATION, LOCATION), memory(0))
    assert partition.guard() == guard(b"f", GENERATION, bytes(16), remembered)


@pytest.mark.parametrize(
    ("state", "generation"),
    [(b"b", GENERATION + 1), (b"c", GENERATION - 1), (b"f", GENERATION)],
    ids=["younger", "older", "free"],
)
def test_a_cancellation_leaves_a_guard_that_does_not_hold_the_course(
    partition: ByHand, state: bytes, generation: int
) -> None:
    open_both(partition, (bytes(LENGTH), bytes(LENGTH)))
    record = partition.put_guard(state, generation)
    partition.put_course(b"b", TAKEN)
    assert partition.answer(codec.cancel(COURSE, OTHER))[:1] == b"X"
    assert partition.guard() == record
    assert masks(partition) == ONE_FREE


def test_a_cancellation_makes_no_guard(partition: ByHand) -> None:
    open_both(partition, (bytes(LENGTH), bytes(LENGTH)))
    partition.put_course(b"b", TAKEN)
    assert partition.answer(codec.cancel(COURSE, OTHER))[:1] == b"X"
    assert partition.guard() is None


@pytest.mark.parametrize(
    ("state", "generation"),
    [(b"c", GENERATION + 1), (b"j", GENERATION + 1), (b"b", GENERATION + 1), (b"f", GENERATION)],
)
def test_a_take_leaves_a_guard_that_does_not_claim_the_course(
    partition: ByHand, state: bytes, generation: int
) -> None:
    open_both(partition)
    record = partition.put_guard(state, generation)
    assert partition.answer(take(WISHES))[:1] == b"B"
    assert partition.guard() == record


@pytest.mark.parametrize("bit", range(8))
def test_a_seat_is_given_back_beside_its_neighbours(partition: ByHand, bit: int) -> None:
    others = 0xFF - (1 << bit)
    for session, neighbours in ((1, 0), (2, others)):
        partition.put_session(session, 2, bytes([0, 0, 0, neighbours]))
    partition.put_course(b"b", (Appointment(1, 1, 1, 8 + bit), Appointment(2, 2, 1, 8 + bit)))
    assert partition.answer(codec.cancel(COURSE, OTHER))[:1] == b"X"
    assert [partition.mask(session) for session in (1, 2)] == [bytes([0, 0, 0, 1 << bit]), b"\0\0\0\xff"]


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("neighbours", [0, 0xFF])
def test_a_live_course_whose_seat_is_free_is_not_cancelled(
    partition: ByHand, bit: int, neighbours: int
) -> None:
    partition.put_session(1, 1, bytes([0, neighbours | 1 << bit]))
    partition.put_course(b"b", (Appointment(1, 1, 1, bit),))
    before = partition.everything()
    answer = partition.answer(codec.cancel(COURSE, OTHER))
    assert answer.startswith(b"!")
    assert answer.endswith(b"seat 1/1/%d of a live course is free" % bit)
    assert partition.everything() == before


@pytest.mark.parametrize(
    ("appointments", "reason"),
    [
        ((TAKEN[0], Appointment(2, 3, 0, 0)), b"session 3 of a live course is not there"),
        ((TAKEN[0], TAKEN[0]), b"seat 70011/2/299 of a live course is free"),
    ],
    ids=["session-gone", "one-seat-twice"],
)
def test_a_torn_course_is_not_cancelled(
    partition: ByHand, appointments: tuple[Appointment, ...], reason: bytes
) -> None:
    open_both(partition, (bytes(LENGTH), bytes(LENGTH)))
    partition.put_course(b"b", appointments)
    before = partition.everything()
    answer = partition.answer(codec.cancel(COURSE, OTHER))
    assert answer.startswith(b"!")
    assert answer.endswith(reason)
    assert partition.everything() == before


def test_seats_of_one_session_are_given_back_each_beside_its_own_neighbours(partition: ByHand) -> None:
    neighbours = bytes([0x80, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40])
    partition.put_session(1, 2, neighbours)
    held = ((3, 9), (0, 1), (2, 15), (1, 0))
    partition.put_course(b"b", tuple(Appointment(1, 1, slot, seat) for slot, seat in held))
    assert partition.answer(codec.cancel(COURSE, OTHER))[:1] == b"X"
    assert partition.mask(1) == bytes([0x82, 0x01, 0x03, 0x04, 0x08, 0x90, 0x20, 0x42])


@pytest.mark.parametrize("course", [None, b"t"], ids=["no-course", "tombstone"])
def test_what_was_never_booked_is_not_cancelled(partition: ByHand, course: bytes | None) -> None:
    if course is not None:
        partition.put_course(course, op=Op(bytes(8), bytes(8)))
    before = partition.everything()
    assert partition.answer(codec.cancel(COURSE, OTHER)) == b"-"
    assert partition.everything() == before


@pytest.mark.parametrize(
    ("op", "answer"),
    [
        (OTHER, b"X"),
        (Op(b"key-op-3", b"digest-3"), b"X"),
        (Op(b"key-op-3", OTHER.digest), b"X"),
        (Op(OTHER.key, b"digest-3"), b"K"),
        (OP, b"K"),
        (REUSED, b"K"),
    ],
)
def test_a_cancelled_course_is_cancelled_for_everybody_but_a_reused_key(
    partition: ByHand, op: Op, answer: bytes
) -> None:
    open_both(partition)
    partition.put_guard(b"f")
    partition.put_course(b"x", TAKEN)
    before = partition.everything()
    told = partition.answer(codec.cancel(COURSE, op))
    assert told[:1] == answer
    assert codec.appointments(told[1:]) == (TAKEN if answer == b"X" else ())
    assert partition.everything() == before


@pytest.mark.parametrize("op", [OP, REUSED])
def test_the_key_that_booked_cancels_nothing(partition: ByHand, op: Op) -> None:
    open_both(partition, (bytes(LENGTH), bytes(LENGTH)))
    partition.put_course(b"b", TAKEN)
    before = partition.everything()
    assert partition.answer(codec.cancel(COURSE, op)) == b"K"
    assert partition.everything() == before


# Event first -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [take(WISHES), book(WISHES), codec.cancel(COURSE, OTHER)],
    ids=["take", "book", "cancel"],
)
def test_where_the_event_cannot_be_written_nothing_is(partition: ByHand, record: bytes) -> None:
    if record[:1] == b"x":
        open_both(partition, (bytes(LENGTH), bytes(LENGTH)))
        partition.put_course(b"b", TAKEN)
        partition.put_guard(b"b")
    else:
        open_both(partition)
    partition.redis.lpush(partition.keys.outbox(partition.number), "not a stream")
    before = partition.everything()
    answer = partition.answer(record)
    assert answer.startswith(b"!")
    assert b"WRONGTYPE" in answer
    assert partition.everything() == before


def test_a_claim_of_the_same_op_is_booked_by_its_take(partition: ByHand) -> None:
    open_both(partition)
    partition.put_guard(b"f", GENERATION - 1, Op(bytes(8), bytes(8)))
    answers = partition.step(claim(), take(WISHES), codec.settle(COURSE))
    assert answers == [b"+" + codec.GENERATION.pack(GENERATION), begun((GENERATION, seats(299, 22))), b"="]
    assert partition.guard() == guard(b"b", GENERATION, OP.id)
