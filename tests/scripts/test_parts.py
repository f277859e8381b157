"""aside, keep, quit: seats away from their course's home, byte by byte; and the use cases that need them."""

import pytest

from engine.booking.aside import Away
from engine.booking.book import Request, Seeker, book
from engine.booking.move import Change, move, settle_part
from engine.booking.outcomes import Booked, Moved, Reason, Refused
from engine.booking.read import read_course
from engine.booking.steps import Call, Steps
from engine.domain.course import HERE, Appointment, Course, CourseId, Op, Wish
from engine.inventory import codec
from tests.scripts.by_hand import COURSE, GENERATION, NOW_MS, OP, OTHER, PERSON, REUSED, ByHand, seats
from tests.scripts.conftest import MakeWorld
from tests.world import Location, World, person_key

HOME = 5
WISHES = (Wish(2, 70_011, 0), Wish(3, 70_011, 1))
PARTS = (codec.PartId(COURSE, 2, 4), codec.PartId(COURSE, 3, 4))
TAKEN = (Appointment(2, 70_011, 0, 3, 4), Appointment(3, 70_011, 1, 5, 4))
# As a part's own events tell of them: with their home.
TOLD = tuple(Appointment(a.dose, a.session, a.slot, a.seat, a.revision, HOME) for a in TAKEN)


def told_of(kind_of_event: bytes, verb: bytes, *seats_told: Appointment) -> bytes:
    """A part's own event."""
    entries = tuple(codec.Entry(verb, seat) for seat in seats_told)
    return codec.pack_event(codec.Event(kind_of_event, NOW_MS, COURSE, 4, OP.id, entries))


def aside(op: Op = OP, wishes: tuple[Wish, ...] = WISHES, not_after_ms: int = NOW_MS) -> bytes:
    return codec.aside(codec.Aside(COURSE, 4, op, HOME, not_after_ms, wishes))


def records(state: bytes) -> list[bytes]:
    return [codec.pack_part(codec.Part(state, HOME, OP.id, a.session, a.slot, a.seat)) for a in TAKEN]


def open_session(partition: ByHand, mask: bytes = b"\x08\x20") -> None:
    partition.put_session(70_011, 1, mask)
    partition.stop_the_clock()


def parts(partition: ByHand) -> list[bytes | None]:
    return [partition.part(part) for part in PARTS]


def test_seats_are_set_aside_kept_and_given_back_once(partition: ByHand) -> None:
    open_session(partition)
    assert partition.answer(aside()) == b"A" + seats(3, 5)
    assert parts(partition) == records(b"s")
    assert partition.mask(70_011) == b"\0\0"
    assert partition.events() == [told_of(b"a", codec.TAKEN, *TOLD)]
    before = partition.everything()
    assert partition.answer(aside(not_after_ms=0)) == b"A" + seats(3, 5)
    assert [partition.answer(aside(op)) for op in (OTHER, REUSED)] == [b"K", b"K"]
    assert partition.everything() == before
    assert partition.step(*map(codec.keep, PARTS)) == [b"+", b"+"]
    assert parts(partition) == records(b"b")
    assert partition.step(*map(codec.keep, PARTS), aside()) == [b"=", b"=", b"A" + seats(3, 5)]
    assert partition.step(*map(codec.quit_part, PARTS)) == [b"+", b"+"]
    assert partition.events()[1:] == [told_of(b"r", codec.RELEASED, told) for told in TOLD]
    assert partition.mask(70_011) == b"\x08\x20"
    assert parts(partition) == records(b"x")


def test_what_was_given_back_never_comes_back(partition: ByHand) -> None:
    """Found by reading: a late copy set it aside anew, and a late `keep` kept it for nobody."""
    open_session(partition)
    partition.answer(aside())
    assert partition.answer(codec.quit_part(PARTS[0])) == b"+"
    before = partition.everything()
    records = [aside(), aside(OTHER), codec.keep(PARTS[0]), codec.quit_part(PARTS[0])]
    assert partition.step(*records) == [b"T", b"T", b"-", b"-"]
    assert partition.everything() == before


def test_nothing_is_kept_or_given_back_that_is_not_there(partition: ByHand) -> None:
    open_session(partition)
    partition.put_part(PARTS[0], codec.Part(b"s", HOME, OP.id, 70_011, 0, 3))
    before = partition.everything()
    for course, dose, revision in (
        (COURSE, 3, 4),
        (COURSE, 2, 5),
        (CourseId(PERSON, COURSE.kind, GENERATION + 1), 2, 4),
    ):
        part = codec.PartId(course, dose, revision)
        assert partition.step(codec.keep(part), codec.quit_part(part)) == [b"-", b"-"]
    assert partition.everything() == before


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        (aside(not_after_ms=NOW_MS - 1), b"D"),
        (aside(wishes=(WISHES[0], Wish(3, 70_011, 0))), b"F\3o\1\x08\x20"),
        (aside(wishes=(WISHES[0], Wish(3, 70_012, 0))), b"N\3"),
        (aside(wishes=(WISHES[0], Wish(3, 70_011, 2))), b"N\3"),
        (aside(wishes=(WISHES[0], Wish(2, 70_011, 1))), b"N\2"),
        (aside(wishes=()), b"N\0"),
    ],
    ids=["late", "full", "closed", "no-slot", "one-dose-twice", "none"],
)
def test_what_is_refused_sets_nothing_aside(partition: ByHand, record: bytes, answer: bytes) -> None:
    open_session(partition)
    before = partition.everything()
    assert partition.answer(record) == answer
    assert partition.everything() == before


def test_seats_of_holds_that_are_over_are_set_aside(partition: ByHand) -> None:
    open_session(partition, b"\x08\0")
    partition.put_course(b"h", (Appointment(1, 70_011, 1, 6),), until_ms=NOW_MS)
    assert partition.answer(aside()) == b"A" + seats(3, 6)


@pytest.mark.parametrize("record", [aside(), codec.quit_part(PARTS[0])], ids=["aside", "quit"])
def test_where_the_event_cannot_be_written_nothing_is(partition: ByHand, record: bytes) -> None:
    open_session(partition)
    if record[:1] == b"q":
        open_session(partition, b"\0\0")
        partition.put_part(PARTS[0], codec.Part(b"s", HOME, OP.id, 70_011, 0, 3))
    partition.redis.lpush(partition.keys.outbox(partition.number), "not a stream")
    before = partition.everything()
    assert b"WRONGTYPE" in partition.answer(record)
    assert partition.everything() == before


def test_a_part_whose_seat_is_free_is_an_error_alone(partition: ByHand) -> None:
    open_session(partition)
    partition.put_part(PARTS[0], codec.Part(b"s", HOME, OP.id, 70_011, 0, 3))
    before = partition.everything()
    answers = partition.step(codec.quit_part(PARTS[0]), codec.keep(PARTS[1]))
    assert answers[0].endswith(b"seat 70011/0/3 of a live course is free")
    assert answers[1] == b"-"
    assert partition.everything() == before


# What processes make of it ---------------------------------------------------------------------------------

ID = CourseId(person_key(1), 1, 1)


@pytest.fixture
def away_world(make_world: MakeWorld) -> World:
    """Two locations of one seat a slot, in two partitions if there are four."""
    return make_world(Location(1, 2, 1), Location(2, 2, 1))


def two_places(key: bytes = b"two-----") -> Request:
    """Dose 1 at location 1, dose 2 at location 2."""
    seeker = Seeker(ID.person, ID.kind, (Wish(1, 1, 0),), (Away(2, Wish(2, 1002, 0)),))
    return Request(Op(key, b"digest00"), 1, (seeker,))


def seen(world: World) -> Course:
    course = world.run(read_course(ID, 1, world.placement))
    assert isinstance(course, Course)
    return course


def away(course: Course, key: bytes, slot: int = 1) -> Change:
    """Dose 2 moves within location 2."""
    return Change(course, Op(key, b"digest00"), frozenset({2}), (Away(2, Wish(2, 1002, slot)),))


def parts_of(world: World) -> dict[codec.PartId, codec.Part]:
    """Every part that has a seat."""
    found = {}
    for partition in range(world.keyspace.partitions):
        for field, record in world.redis.hgetall(world.keyspace.bucket(partition, ID.person)).items():
            if codec.is_part(field) and record[:1] != b"x":
                found[codec.part_id(field)] = codec.part(record)
    return found


def until(world: World, steps: Steps[object], code: bytes) -> Call:
    """Run steps up to the first call of this code, and die before it."""
    call = next(steps)
    while call.record[:1] != code:
        answer = world.execute(call)
        call = steps.send(answer if call.awaited else b"")
    return call


def sweep(world: World) -> None:
    """Decide about all that is in doubt."""
    for part, record in parts_of(world).items():
        if record.state == b"s":
            world.run(settle_part(part, record, world.keyspace.of_location(2)))


def test_an_op_keeps_its_answer_after_its_part_was_given_back(away_world: World) -> None:
    """Found by reading: a repeated booking set another seat aside, and told of that one."""
    first = away_world.run(book(two_places(), away_world.placement))
    assert isinstance(first, Booked)
    away_world.settle_all()
    assert isinstance(away_world.run(move(away(seen(away_world), b"move----"), away_world.placement)), Moved)
    away_world.settle_all()
    assert away_world.run(book(two_places(), away_world.placement)) == first
    away_world.run_cancel_of(1, 1)
    away_world.settle_all()
    assert away_world.run(book(two_places(), away_world.placement)) == first
    assert [away_world.free(session) for session in (1, 2, 1001, 1002)] == [2, 2, 2, 2]
    assert parts_of(away_world) == {}


def test_a_repeated_move_gives_back_nothing_that_counts(away_world: World) -> None:
    """Found by reading: read after the move, and changed since, its new seat passed for an old one."""
    away_world.run(book(two_places(), away_world.placement))
    first = away_world.run(move(away(seen(away_world), b"move----"), away_world.placement))
    read_again = seen(away_world)
    dropped = Change(read_again, Op(b"drop----", b"digest00"), frozenset({1}))
    assert isinstance(away_world.run(move(dropped, away_world.placement)), Moved)
    again = away_world.run(move(away(read_again, b"move----"), away_world.placement))
    assert (again.course.revision, again.course.appointments) == (2, first.course.appointments)
    away_world.settle_all()
    sweep(away_world)
    (left,) = seen(away_world).appointments
    assert left == next(a for a in first.course.appointments if a.dose == 2)
    assert away_world.free(1002) == 1
    if left.where != HERE:
        assert [part.state for part in parts_of(away_world).values()] == [b"b"]


def test_a_repeated_move_is_told_the_same_when_its_slot_is_full(away_world: World) -> None:
    """Found by reading: seats for a repeated move were set aside, and refused as full."""
    away_world.run(book(two_places(), away_world.placement))
    first = away_world.run(move(away(seen(away_world), b"move----"), away_world.placement))
    again = away_world.run(move(away(seen(away_world), b"move----"), away_world.placement))
    told = [(moved.course.revision, moved.course.appointments) for moved in (first, again)]
    assert told[0] == told[1]


def test_a_part_is_never_given_back_while_its_home_could_count_it(away_world: World) -> None:
    """The sweep meets a move between its two steps: the move is refused, or its part is kept."""
    away_world.run(book(two_places(), away_world.placement))
    away_world.settle_all()
    late = until(away_world, move(away(seen(away_world), b"move----"), away_world.placement), b"v")
    before = seen(away_world).appointments
    sweep(away_world)
    answer = away_world.execute(late)
    if away_world.keyspace.partitions == 1:
        assert answer[:1] == b"V"
    else:
        assert answer == b"R\2\0"
        assert seen(away_world).appointments == before
    away_world.settle_all()
    assert (away_world.free(1), away_world.free(1002)) == (1, 1)


def test_a_move_that_was_refused_gives_its_part_back(away_world: World) -> None:
    away_world.run(book(two_places(), away_world.placement))
    away_world.settle_all()
    away_world.book(2, 1, (1, 1))
    change = away(seen(away_world), b"move----")
    both = (Away(1, Wish(1, 1, 1)), *change.wishes)
    stuck = Change(change.course, change.op, frozenset({1, 2}), both)
    outcome = away_world.run(move(stuck, away_world.placement))
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.dose, away_world.free(1002)) == (Reason.FULL, 1, 1)


def test_a_part_of_a_process_that_died_is_given_back_by_the_sweep(away_world: World) -> None:
    if away_world.keyspace.partitions == 1:
        # All seats are at home: there is nothing that could be left behind elsewhere.
        away_world.run(book(two_places(), away_world.placement))
        assert not parts_of(away_world)
        return
    late = until(away_world, book(two_places(), away_world.placement), b"t")
    assert away_world.free(1002) == 1
    sweep(away_world)
    assert away_world.free(1002) == 2
    assert away_world.execute(late) == b"T\1"
    # The op begins anew, under another generation.
    outcome = away_world.run(book(two_places(), away_world.placement))
    assert isinstance(outcome, Booked)
    assert outcome.course.id.generation == 2
