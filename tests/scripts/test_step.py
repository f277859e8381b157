"""The scripts one by one: what they answer and write, and that a refusal or an error writes nothing."""

import pytest
from redis.exceptions import ResponseError

from engine.booking.book import Request
from engine.booking.cancel import cancel
from engine.booking.outcomes import Booked, Cancelled, Reason, Refused
from engine.domain.course import CourseId, Kind, Op
from engine.inventory import codec
from tests.world import EPOCH, FAR_MS, Location, World, person_key

OTHER = Op(b"other---", b"digest--")


def course_of(person: int, generation: int = 1) -> CourseId:
    return CourseId(person_key(person), Kind.PRIMARY, generation)


def take(request: Request) -> bytes:
    """The take of a request for one person."""
    (seeker,) = request.seekers
    member = codec.Member(seeker.person, seeker.kind, 1, seeker.wishes)
    return codec.take(codec.Group(request.op, FAR_MS, (member,)))


def snapshot(world: World) -> dict[bytes, bytes]:
    """Everything in Redis, the clock aside (it is written with every event)."""
    return {key: world.redis.dump(key) for key in world.redis.scan_iter()}


def test_both_doses_are_taken_and_told(world: World) -> None:
    outcome = world.book(1, 1)
    assert isinstance(outcome, Booked)
    assert [(a.dose, a.session, a.slot, a.seat) for a in outcome.course.appointments] == [
        (1, 1, 0, 0),
        (2, 1001, 0, 0),
    ]
    assert (world.free(1), world.free(1001)) == (5, 5)
    ((sequence, event),) = world.events(world.keyspace.of_location(1))
    assert (sequence, event.type, event.course) == (0, b"b", course_of(1))
    assert event.seats(codec.TAKEN) == outcome.course.appointments


def test_seats_run_out_and_the_refusal_says_what_is_free(world: World) -> None:
    assert all(isinstance(world.book(person, 1), Booked) for person in range(3))
    before = snapshot(world)
    outcome = world.book(9, 1)
    assert outcome == Refused(Reason.FULL, 1, 1, b"\x00\x07", world.request(9, 1).seekers[0].wishes)
    after = snapshot(world)
    # With several partitions the person's guard was claimed and given back.
    assert {k: v for k, v in after.items() if b":person:" not in k} == {
        k: v for k, v in before.items() if b":person:" not in k
    }
    assert [course for course in world.courses() if course.person == person_key(9)] == []


def test_dose_2_full_takes_nothing_of_dose_1(world: World) -> None:
    for person in range(3):
        world.book(person, 1, (0, 1))
    free = world.free(1)
    outcome = world.book(9, 1, (1, 1))
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.dose, world.free(1)) == (Reason.FULL, 2, free)


def test_more_than_eight_lines_fill_every_byte_of_the_slot(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world(Location(1, 2, 19))
    taken = [world.book(person, 1, (1, 0)).course.appointments[0].seat for person in range(19)]
    assert taken == list(range(19))
    assert isinstance(world.book(99, 1, (1, 0)), Refused)
    assert world.free(1) == 19


@pytest.mark.parametrize("slots", [(2, 0), (0, 2), (65535, 0)])
def test_a_slot_that_is_not_there_sells_nothing(world: World, slots: tuple[int, int]) -> None:
    outcome = world.book(1, 1, slots)
    assert isinstance(outcome, Refused)
    assert outcome.reason == Reason.CLOSED
    assert world.courses() == {}


def test_a_session_that_is_not_there_sells_nothing(world: World) -> None:
    world.redis.delete(world.keyspace.session(world.keyspace.of_location(1), 1001))
    outcome = world.book(1, 1)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.dose, world.free(1)) == (Reason.CLOSED, 2, 6)


def test_the_same_op_is_answered_the_same_and_done_once(world: World) -> None:
    first = world.book(1, 1, key="k")
    assert world.book(1, 1, key="k") == first
    assert world.free(1) == 5


def test_a_key_with_another_body_is_refused(world: World) -> None:
    world.book(1, 1, key="k")
    outcome = world.book(1, 1, (1, 1), key="k")
    assert outcome == Refused(Reason.KEY_REUSED)


def test_one_live_course_per_person(world: World) -> None:
    world.book(1, 1, key="a")
    for location in (1, 2):
        assert world.book(1, location, key="b") == Refused(Reason.ALREADY_BOOKED)
    assert (world.free(1), world.free(2)) == (5, 6)


def test_cancelling_gives_both_seats_back_and_frees_the_person(world: World) -> None:
    world.book(1, 1, key="a")
    outcome = world.run(cancel(course_of(1), 1, OTHER, world.placement))
    assert isinstance(outcome, Cancelled)
    assert (world.free(1), world.free(1001)) == (6, 6)
    assert world.run(cancel(course_of(1), 1, OTHER, world.placement)) == outcome
    assert isinstance(world.book(1, 2, key="b"), Booked)


def test_a_late_duplicate_after_the_cancellation_gets_the_old_answer(world: World) -> None:
    first = world.book(1, 1, key="a")
    world.run(cancel(course_of(1), 1, OTHER, world.placement))
    assert world.book(1, 1, key="a") == first
    second = world.book(1, 2, key="b")
    assert world.book(1, 1, key="a") == first
    assert world.book(1, 2, key="b") == second
    assert (world.free(1), world.free(2)) == (6, 5)


def test_a_key_of_a_cancelled_booking_with_another_body_is_refused(world: World) -> None:
    world.book(1, 1, key="a")
    world.run(cancel(course_of(1), 1, OTHER, world.placement))
    world.settle_all()
    assert world.book(1, 1, (1, 1), key="a") == Refused(Reason.KEY_REUSED)
    assert world.free(1) == 6


def test_the_key_of_the_booking_cannot_cancel(world: World) -> None:
    world.book(1, 1, key="a")
    op = world.request(1, 1, key="a").op
    assert world.run(cancel(course_of(1), 1, op, world.placement)) == Refused(Reason.KEY_REUSED)


def test_cancelling_what_was_never_booked(world: World) -> None:
    outcome = world.run(cancel(course_of(5), 1, OTHER, world.placement))
    assert outcome == Refused(Reason.UNKNOWN_COURSE)


def test_after_the_deadline_nothing_is_booked(world: World) -> None:
    request = world.request(1, 1)
    partition = world.keyspace.of_location(1)
    (seeker,) = request.seekers
    member = codec.Member(seeker.person, seeker.kind, 1, seeker.wishes)
    late = codec.take(codec.Group(request.op, 1, (member,)))
    fused = b"b" + late[1:]
    claim = codec.claim(seeker.person, seeker.kind, request.op, 1, 1)
    assert world.step(partition, late, fused, claim) == [b"D", b"D", b"D"]
    assert world.courses() == {}
    assert world.guard(1) is None


def test_a_partition_of_another_epoch_does_nothing(world: World) -> None:
    request = world.request(1, 1)
    record = take(request)
    outbox = world.keyspace.outbox(world.keyspace.of_location(1))
    with pytest.raises(ResponseError, match="EPOCH"):
        world.redis.fcall("dosebook_step", 1, outbox, EPOCH + 1, record)
    world.redis.flushall()
    with pytest.raises(ResponseError, match="EPOCH"):
        world.redis.fcall("dosebook_step", 1, outbox, EPOCH, record)


def test_founding_never_touches_what_is_there(world: World) -> None:
    world.book(1, 1)
    outbox = world.keyspace.outbox(0)
    assert world.redis.fcall("dosebook_found", 1, outbox, EPOCH + 1) == 0
    assert world.redis.hget(world.keyspace.meta(0), "epoch") == b"%d" % EPOCH


def test_a_broken_item_hurts_no_other_in_its_batch(world: World) -> None:
    partition = world.keyspace.of_location(1)
    good = [take(world.request(person, 1)) for person in range(2)]
    broken = b"t" + b"short"
    unknown = b"?"
    answers = world.step(partition, good[0], broken, unknown, good[1])
    assert [answer[:1] for answer in answers] == [b"B", b"!", b"!", b"B"]
    assert world.free(1) == 4


@pytest.mark.parametrize("torn", ["course", "session", "outbox"])
def test_a_key_of_the_wrong_type_stops_the_item_before_its_first_write(world: World, torn: str) -> None:
    partition = world.keyspace.of_location(1)
    key = {
        "course": world.keyspace.prefix(partition) + b"person:" + person_key(1)[:2],
        "session": world.keyspace.session(partition, 1001),
        "outbox": world.keyspace.outbox(partition),
    }[torn]
    world.redis.delete(key)
    world.redis.lpush(key, "wrong")
    before = snapshot(world)
    request = world.request(1, 1)
    answer = world.step(partition, take(request))[0]
    assert answer.startswith(b"!")
    assert snapshot(world) == before


def test_events_have_no_gap_and_the_clock_never_goes_back(world: World) -> None:
    for person in range(3):
        world.book(person, 1)
    partition = world.keyspace.of_location(1)
    world.redis.hset(world.keyspace.meta(partition), "clock", 10**14)
    world.book(4, 1, (1, 1))
    events = list(world.events(partition))
    assert [sequence for sequence, _ in events] == [0, 1, 2, 3]
    assert [event.at_ms for _, event in events] == sorted(event.at_ms for _, event in events)
    assert events[-1][1].at_ms >= 10**14


def test_opening_twice_gives_no_seat_back(world: World) -> None:
    world.book(1, 1)
    partition = world.keyspace.of_location(1)
    assert world.step(partition, codec.open_session(1, 1, b"\x07\x07")) == [b"="]
    assert world.free(1) == 5


def test_a_mask_that_does_not_fit_its_width_is_refused(world: World) -> None:
    (answer,) = world.step(0, codec.open_session(77, 2, b"\x07\x07\x07"))
    assert answer.startswith(b"!")
