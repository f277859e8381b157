"""Copies that arrive late, processes that die between steps, rivals that meet half-done claims."""

from engine.booking.book import Request, book
from engine.booking.outcomes import Booked, Reason, Refused
from engine.booking.read import find_by_op
from engine.domain.course import CourseId, Kind
from engine.inventory import codec
from tests.world import FAR_MS, World, person_key

PERSON, FAR_LOCATION = 1, 2
COURSE = CourseId(person_key(PERSON), Kind.PRIMARY, 1)


def take(request: Request, course: CourseId = COURSE) -> bytes:
    """The take of a request for one person."""
    (seeker,) = request.seekers
    member = codec.Member(course.person, course.kind, course.generation, seeker.wishes)
    return codec.take(codec.Group(request.op, FAR_MS, (member,)))


def fused(request: Request) -> bytes:
    """The fused booking of a request for one person."""
    (seeker,) = request.seekers
    member = codec.Member(seeker.person, seeker.kind, request.location, seeker.wishes)
    return codec.book(codec.Group(request.op, FAR_MS, (member,)))


def abandoned_claim(world: World, key: str = "a") -> None:
    """A process claims the guard for ``FAR_LOCATION`` and dies before its take."""
    request = world.request(PERSON, FAR_LOCATION, key=key)
    record = codec.claim(COURSE.person, COURSE.kind, request.op, FAR_LOCATION, FAR_MS)
    assert world.step(world.keyspace.of_person(COURSE.person), record)[0][:1] == b"+"


def late_take(world: World, key: str = "a") -> bytes:
    """The dead process's take arrives after all."""
    request = world.request(PERSON, FAR_LOCATION, key=key)
    record = take(request)
    return world.step(world.keyspace.of_location(FAR_LOCATION), record)[0]


def test_a_rival_resolves_an_abandoned_claim_and_books(world: World) -> None:
    abandoned_claim(world)
    outcome = world.book(PERSON, 1, key="b")
    assert isinstance(outcome, Booked)
    assert outcome.course.id.generation == 2


def test_a_late_take_meets_the_tombstone(world: World) -> None:
    abandoned_claim(world)
    world.book(PERSON, 1, key="b")
    assert late_take(world) == b"T\1"
    assert world.free(FAR_LOCATION) == 6


def test_the_same_op_goes_on_where_it_was(world: World) -> None:
    abandoned_claim(world)
    outcome = world.book(PERSON, FAR_LOCATION, key="a")
    assert isinstance(outcome, Booked)
    assert outcome.course.id.generation in (1, 2)
    assert world.free(FAR_LOCATION) == 5


def test_a_rival_of_a_take_that_happened_is_refused(world: World) -> None:
    abandoned_claim(world)
    assert late_take(world)[:1] == b"B"
    assert world.book(PERSON, 1, key="b") == Refused(Reason.ALREADY_BOOKED)
    assert (world.free(1), world.free(FAR_LOCATION)) == (6, 5)


def test_the_same_op_after_a_lost_take_reply_gets_its_seats(world: World) -> None:
    abandoned_claim(world)
    seats = late_take(world)[1:]
    outcome = world.book(PERSON, FAR_LOCATION, key="a")
    assert isinstance(outcome, Booked)
    assert codec.seats_of(seats[12:]) == tuple(a.seat for a in outcome.course.appointments)


def test_refused_a_second_time_while_the_first_copy_is_on_its_way(world: World) -> None:
    abandoned_claim(world)
    for person in (3, 5, 7):
        world.book(person, FAR_LOCATION)
    outcome = world.book(PERSON, FAR_LOCATION, key="a")
    assert isinstance(outcome, Refused)
    world.run_cancel_of(3, FAR_LOCATION)
    if world.keyspace.of_person(person_key(PERSON)) != world.keyspace.of_location(FAR_LOCATION):
        assert late_take(world) == b"T\1"
    assert [c for c, r in world.courses().items() if r.state == b"b" and c.person == person_key(PERSON)] == []


def test_an_op_whose_answer_was_lost_is_found(world: World) -> None:
    request = world.request(PERSON, 1, key="a")
    assert world.run(find_by_op(COURSE.person, COURSE.kind, request.op, world.placement)) is None
    outcome = world.run(book(request, world.placement))
    assert isinstance(outcome, Booked)
    found = world.run(find_by_op(COURSE.person, COURSE.kind, request.op, world.placement))
    assert found == outcome.course


def test_steps_of_an_earlier_generation_leave_a_booked_guard_alone(world: World) -> None:
    world.book(PERSON, FAR_LOCATION, key="a")
    world.run_cancel_of(PERSON, FAR_LOCATION)
    world.settle_all()
    world.book(PERSON, 1, key="b")
    partition = world.keyspace.of_person(person_key(PERSON))
    world.step(partition, codec.settle(COURSE), codec.free(COURSE), codec.unclaim(COURSE, buried=True))
    guard = world.guard(PERSON)
    assert guard is not None
    assert (guard.state in (b"b", b"c"), guard.generation, guard.location) == (True, 2, 1)


def test_steps_of_an_earlier_generation_leave_a_claimed_guard_alone(world: World) -> None:
    abandoned_claim(world)
    partition = world.keyspace.of_person(person_key(PERSON))
    world.step(partition, codec.unclaim(COURSE, buried=True))
    abandoned_claim(world)
    second = world.guard(PERSON)
    answers = world.step(
        partition, codec.settle(COURSE), codec.free(COURSE), codec.unclaim(COURSE, buried=True)
    )
    assert answers == [b"-"] * 3
    assert world.guard(PERSON) == second


def test_cancelling_another_generation_leaves_the_guard_alone(world: World) -> None:
    world.book(PERSON, 1)
    guard = world.guard(PERSON)
    request = world.request(PERSON, FAR_LOCATION)
    stray = CourseId(person_key(PERSON), Kind.PRIMARY, 5)
    partition = world.keyspace.of_location(FAR_LOCATION)
    assert world.step(partition, take(request, stray))[0][:1] == b"B"
    world.run_cancel_of(PERSON, FAR_LOCATION, generation=5)
    assert world.guard(PERSON) == guard


def test_nothing_is_booked_over_a_tombstone(world: World) -> None:
    request = world.request(PERSON, 1)
    partition = world.keyspace.of_location(1)
    assert world.step(partition, codec.resolve(COURSE)) == [b"T"]
    assert world.step(partition, fused(request), take(request)) == [b"T\1", b"T\1"]
    assert world.free(1) == 6


def test_a_refused_twin_does_not_free_the_claim_of_the_other(world: World) -> None:
    """Found by the simulation: of two takes of one op one is refused, one gets a seat that came free."""
    request = world.request(PERSON, FAR_LOCATION, key="a")
    guard_at, seats_at = world.keyspace.of_person(COURSE.person), world.keyspace.of_location(FAR_LOCATION)
    claim = codec.claim(COURSE.person, COURSE.kind, request.op, FAR_LOCATION, FAR_MS)
    for person in (3, 5, 7):
        world.book(person, FAR_LOCATION)
    assert world.step(guard_at, claim)[0][:1] == b"+"
    assert world.step(seats_at, take(request))[0][:1] == b"F"
    world.run_cancel_of(3, FAR_LOCATION)
    assert world.step(guard_at, claim)[0][:1] == b"="
    assert world.step(seats_at, take(request))[0][:1] == b"B"
    assert world.step(guard_at, codec.unclaim(COURSE, buried=False)) == [b"-"]
    assert world.book(PERSON, 1, key="b") == Refused(Reason.ALREADY_BOOKED)


def test_a_remembered_op_does_not_join_the_claim_of_another(world: World) -> None:
    """Found by the replay of a simulated history: only the op that holds the claim joins it."""
    world.book(PERSON, 1, key="a")
    world.run_cancel_of(PERSON, 1)
    world.settle_all()
    abandoned_claim(world, key="b")
    before = world.guard(PERSON)
    request = world.request(PERSON, 1, key="a")
    claim = codec.claim(COURSE.person, COURSE.kind, request.op, 1, FAR_MS)
    assert world.step(world.keyspace.of_person(COURSE.person), claim)[0][:1] == b"="
    assert world.guard(PERSON) == before


# Households ------------------------------------------------------------------------------------------------


def household(world: World, location: int, people: tuple[int, ...] = (1, 2)) -> Request:
    """A request for these people together."""
    requests = [world.request(person, location, key="house") for person in people]
    seekers = tuple(seeker for request in requests for seeker in request.seekers)
    return Request(requests[0].op, location, seekers)


def is_free(world: World, person: int) -> bool:
    """Whether nothing is in the person's way."""
    guard = world.guard(person)
    return guard is None or guard.state == b"f"


def test_who_is_refused_for_anothers_sake_is_free(world: World) -> None:
    world.book(2, FAR_LOCATION)
    outcome = world.run(book(household(world, 1), world.placement))
    assert outcome == Refused(Reason.ALREADY_BOOKED, member=1)
    assert is_free(world, 1)


def test_a_refused_household_whose_claims_were_joined_is_free(world: World) -> None:
    request = household(world, FAR_LOCATION)
    if world.keyspace.partitions > 1:
        for seeker in request.seekers:
            record = codec.claim(seeker.person, seeker.kind, request.op, FAR_LOCATION, FAR_MS)
            assert world.step(world.keyspace.of_person(seeker.person), record)[0][:1] == b"+"
    for person in (3, 5, 7):
        world.book(person, FAR_LOCATION)
    outcome = world.run(book(request, world.placement))
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.member) == (Reason.FULL, 0)
    assert is_free(world, 1)
    assert is_free(world, 2)
