import secrets

from engine.booking.drive import start
from engine.booking.resolve import resolve
from engine.domain.course import CourseId, Kind, Op, Wish
from engine.inventory import codec
from engine.recovery.sweep import Sweep
from tests.deployment import Deployment
from tests.world import person_key

PERSON, LOCATION = 1, 2


def sweep_of(deployment: Deployment) -> Sweep:
    async def resolve_one(person: bytes, kind: int, live: codec.Live) -> bool:
        return await start(resolve(person, kind, live, deployment.placement), deployment.batcher)

    return Sweep(deployment.nodes, resolve_one, deployment.said.append)


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
    take = codec.take(course, op, four_partitions.placement.not_after(seats), wishes)
    assert await four_partitions.batcher.put(seats, take) == b"T"
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
