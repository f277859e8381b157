import secrets
from typing import Any

from engine import limits
from engine.booking.aside import Away, aside
from engine.booking.book import Request, Seeker, book
from engine.booking.drive import start
from engine.booking.move import settle_part
from engine.booking.resolve import resolve
from engine.domain.course import CourseId, Kind, Op, Wish
from engine.inventory import codec
from engine.recovery.sweep import Sweep
from tests.deployment import Deployment, new_op
from tests.world import person_key

PERSON, LOCATION = 1, 2


def sweep_of(deployment: Deployment) -> Sweep:
    async def resolve_one(person: bytes, kind: int, live: codec.Live) -> bool:
        return await start(resolve(person, kind, live, deployment.placement), deployment.batcher)

    async def settle_one(part: codec.PartId, record: codec.Part, where: int) -> bool:
        return await start(settle_part(part, record, where), deployment.batcher)

    return Sweep(deployment.nodes, resolve_one, settle_one, deployment.said.append)


async def claim(deployment: Deployment) -> Op:
    """What a process leaves behind that dies after its claim."""
    op = Op(secrets.token_bytes(8), bytes(8))
    guard = deployment.keyspace.of_person(person_key(PERSON))
    record = codec.claim(
        person_key(PERSON), Kind.PRIMARY, op, LOCATION, deployment.placement.not_after(guard)
    )
    assert (await deployment.batcher.put(guard, record))[:1] == b"+"
    return op


async def guard_of(deployment: Deployment) -> codec.Guard:
    partition = deployment.keyspace.of_person(person_key(PERSON))
    answer = await deployment.batcher.put(partition, codec.read_guard(person_key(PERSON), Kind.PRIMARY))
    return codec.guard(answer[1:])


async def test_a_claim_seen_twice_is_resolved(four_partitions: Deployment) -> None:
    await claim(four_partitions)
    sweep = sweep_of(four_partitions)
    assert await sweep.once() == 0
    assert (await guard_of(four_partitions)).state == b"c"
    assert await sweep.once() == 1
    assert (await guard_of(four_partitions)).state == b"f"
    await four_partitions.booked(PERSON, LOCATION)
    await four_partitions.persist()
    assert (await four_partitions.audit()).is_clean


async def test_a_take_that_comes_after_the_sweep_is_refused(four_partitions: Deployment) -> None:
    """However long ago it was claimed: a guard is freed by its tombstone, not by time."""
    op = await claim(four_partitions)
    sweep = sweep_of(four_partitions)
    await sweep.once()
    await sweep.once()
    course = CourseId(person_key(PERSON), Kind.PRIMARY, 1)
    wishes = (Wish(1, four_partitions.sessions(LOCATION)[0], 0),)
    seats = four_partitions.keyspace.of_location(LOCATION)
    member = codec.Member(course.person, course.kind, course.generation, wishes)
    take = codec.take(codec.Group(op, four_partitions.placement.not_after(seats), (member,)))
    assert await four_partitions.batcher.put(seats, take) == b"T\1"
    assert (await guard_of(four_partitions)).state == b"f"


async def test_a_newer_claim_of_the_same_person_is_left_alone(four_partitions: Deployment) -> None:
    sweep = sweep_of(four_partitions)
    await claim(four_partitions)
    await sweep.once()
    await four_partitions.cancelled(await four_partitions.booked(PERSON, LOCATION))
    await four_partitions.persist()
    await claim(four_partitions)
    assert await sweep.once() == 0
    assert (await guard_of(four_partitions)).state == b"c"


async def test_a_claim_whose_seats_were_taken_is_settled(four_partitions: Deployment) -> None:
    await four_partitions.booked(PERSON, LOCATION)
    sweep = sweep_of(four_partitions)
    assert (await guard_of(four_partitions)).state == b"c"
    await sweep.once()
    assert await sweep.once() == 1
    assert (await guard_of(four_partitions)).state == b"b"
    await four_partitions.persist()
    assert (await four_partitions.audit()).is_clean


# Seats set aside elsewhere ----------------------------------------------------------------------------------

HOME, THERE = 1, 2


async def abandoned(deployment: Deployment, revision: int = 1, home: int = HOME) -> codec.PartId:
    """What a process leaves behind that dies after it has set a seat aside."""
    course = CourseId(person_key(PERSON), Kind.PRIMARY, 1)
    wish = Away(THERE, deployment.wishes(THERE)[1])
    await deployment.register(PERSON)
    found = await deployment.run(aside(course, revision, new_op(), home, [wish], deployment.placement))
    assert isinstance(found, tuple)
    (seat,) = found
    return codec.PartId(course, seat.dose, seat.revision)


async def part_of(deployment: Deployment, part: codec.PartId) -> codec.Part | None:
    key = deployment.keyspace.bucket(THERE, part.course.person)
    record: Any = await deployment.client.hget(key, codec.part_field(part))
    return codec.part(record) if record else None


async def state_of(deployment: Deployment, part: codec.PartId) -> bytes | None:
    record = await part_of(deployment, part)
    return None if record is None else record.state


async def test_a_seat_set_aside_for_nothing_is_given_back(four_partitions: Deployment) -> None:
    part = await abandoned(four_partitions)
    sweep = sweep_of(four_partitions)
    assert await sweep.once() == 0
    assert await part_of(four_partitions, part) is not None
    assert await sweep.once() == 1
    assert (await state_of(four_partitions, part)) == b"x"
    await four_partitions.persist()
    assert (await four_partitions.audit()).is_clean


async def test_a_seat_of_a_change_that_never_came_is_given_back_and_the_change_refused(
    four_partitions: Deployment,
) -> None:
    course = await four_partitions.booked(PERSON, HOME)
    await four_partitions.persist()
    part = await abandoned(four_partitions, revision=2)
    sweep = sweep_of(four_partitions)
    await sweep.once()
    assert await sweep.once() == 1
    assert (await state_of(four_partitions, part)) == b"x"
    home = four_partitions.keyspace.of_location(HOME)
    deadline = four_partitions.placement.not_after(home)
    late = codec.move(codec.Move(course.id, new_op(), 1, deadline, frozenset({2})))
    assert (await four_partitions.batcher.put(home, late))[:1] == b"R"
    await four_partitions.persist()
    assert (await four_partitions.audit()).is_clean


async def test_a_seat_that_its_home_counts_is_kept(four_partitions: Deployment) -> None:
    """The outbox has not been read: nobody but the home knows."""
    await four_partitions.split(PERSON, HOME, THERE)
    part = codec.PartId(CourseId(person_key(PERSON), Kind.PRIMARY, 1), 2, 1)
    sweep = sweep_of(four_partitions)
    await sweep.once()
    assert await sweep.once() >= 1
    record = await part_of(four_partitions, part)
    assert record is not None
    assert record.state == b"b"
    await four_partitions.persist()
    assert (await four_partitions.audit()).is_clean


async def test_a_process_that_dies_anywhere_in_a_booking_leaves_nothing_in_doubt(
    four_partitions: Deployment,
) -> None:
    """Two people of a household, each with a dose elsewhere: claims, parts, take."""
    people = [n for n in range(1, 100) if four_partitions.keyspace.of_person(person_key(n)) == 3]
    for dies_after in range(1, 5):
        seekers = []
        for person in (people.pop(), people.pop()):
            await four_partitions.register(person)
            first, second = four_partitions.wishes(HOME)[0], four_partitions.wishes(THERE)[1]
            seekers.append(Seeker(person_key(person), Kind.PRIMARY, (first,), (Away(THERE, second),)))
        steps = book(Request(new_op(), HOME, tuple(seekers)), four_partitions.placement)
        call = next(steps)
        for _ in range(dies_after):
            answer = await four_partitions.batcher.put(call.partition, call.record)
            call = steps.send(answer)
        sweep = sweep_of(four_partitions)
        await sweep.once()
        assert await sweep.once() > 0
        assert await sweep.once() == 0
        await four_partitions.persist()
        assert (await four_partitions.audit()).is_clean


def test_two_sweeps_end_within_thirty_seconds() -> None:
    assert 2 * limits.SWEEP_S + 2 <= 30
    assert limits.SWEEP_S > limits.REPLY_S_MAX


async def test_a_partition_that_is_closed_holds_up_its_own_only(four_partitions: Deployment) -> None:
    closed = next(p for p in (1, 3) if p != four_partitions.keyspace.of_person(person_key(PERSON)))
    await abandoned(four_partitions, home=closed)
    await claim(four_partitions)
    sweep = sweep_of(four_partitions)
    await sweep.once()
    meta = four_partitions.keyspace.meta(closed)
    epoch = await four_partitions.client.hget(meta, "epoch")
    await four_partitions.client.hset(meta, "epoch", 99)
    assert await sweep.once() == 1
    assert any("put off a seat set aside" in line for line in four_partitions.said)
    await four_partitions.client.hset(meta, "epoch", epoch)
    assert await sweep.once() == 1
