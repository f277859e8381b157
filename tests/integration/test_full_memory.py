"""Redis at ``maxmemory``: bookings are refused whole, what gives something back passes, and it drains."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import OutOfMemoryError

from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.drive import start
from engine.booking.outcomes import Booked, Cancelled
from engine.domain.course import Course, Kind
from engine.errors import StoreFull
from engine.inventory import codec
from tests.deployment import Deployment, new_op
from tests.integration.conftest import MakeDeployment
from tests.world import person_key

PEOPLE = range(1, 13)
LATE = 99


class Full:
    """A deployment with twelve bookings, whose Redis has no byte left."""

    def __init__(self, deployment: Deployment, courses: list[Course]) -> None:
        self.deployment = deployment
        self.courses = courses

    def booking(self, number: int) -> "asyncio.Future[object]":
        """Somebody's booking at a location, begun."""
        seeker = Seeker(person_key(LATE), Kind.PRIMARY, self.deployment.wishes(number))
        request = Request(new_op(), number, (seeker,))
        return start(book(request, self.deployment.placement), self.deployment.batcher)

    def cancelling(self, course: Course) -> "asyncio.Future[object]":
        """A cancellation, begun."""
        steps = cancel(course.id, course.location, new_op(), self.deployment.placement)
        return start(steps, self.deployment.batcher)


@pytest.fixture(params=[1, 4], ids=["one-partition", "four-partitions"])
async def full(request: pytest.FixtureRequest, make_deployment: MakeDeployment) -> AsyncIterator[Full]:
    deployment = await make_deployment(request.param)
    courses = [await deployment.booked(person, 1 + person % 4, (person % 2, 0)) for person in PEOPLE]
    await deployment.register(LATE)
    await deployment.client.config_set("maxmemory", 1)
    try:
        yield Full(deployment, courses)
    finally:
        await deployment.client.config_set("maxmemory", 0)


async def test_a_booking_is_refused_and_leaves_nothing(full: Full) -> None:
    with pytest.raises(StoreFull, match="nothing was done"):
        await full.booking(5)
    keyspace, person = full.deployment.keyspace, person_key(LATE)
    record = codec.read_guard(person, Kind.PRIMARY)
    assert await full.deployment.batcher.put(keyspace.of_person(person), record) == b"-"


async def test_cancellations_of_the_same_batch_pass(full: Full) -> None:
    cancelling = [full.cancelling(course) for course in full.courses]
    outcomes = await asyncio.gather(full.booking(5), *cancelling, full.booking(6), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        StoreFull,
        *[Cancelled] * len(full.courses),
        StoreFull,
    ]
    assert full.deployment.batcher.pending == 0


async def test_the_outbox_drains_and_with_room_it_books_again(full: Full) -> None:
    await full.cancelling(full.courses[0])
    await full.deployment.persist()
    await full.deployment.client.config_set("maxmemory", 0)
    assert isinstance(await full.booking(5), Booked)
    await full.deployment.persist()
    report = await full.deployment.audit()
    assert report.is_clean, report.first
    assert len(await full.deployment.rows("select 1 from course where state = 'b'")) == len(PEOPLE)


async def test_a_partition_is_founded_or_reopened_only_with_room_but_certified_without(full: Full) -> None:
    """A Redis that was restarted full must be able to give back; a new one that is full has nothing to."""
    client, outbox = full.deployment.client, full.deployment.keyspace.outbox(0)
    process = (await client.info("server"))["run_id"]
    assert await client.fcall("dosebook_certify", 1, outbox, full.deployment.epochs[0], process) == 1
    for closed in (("dosebook_found", 1), ("dosebook_reopen", 2, process, "token", 0)):
        with pytest.raises(OutOfMemoryError):
            await client.fcall(closed[0], 1, outbox, *closed[1:])
