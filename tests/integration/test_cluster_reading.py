"""Postgres has what Redis has, though no read spans three masters: however the readings are torn."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from engine import limits
from engine.domain.course import Appointment, Course, CourseId, Kind
from engine.outbox import rounds
from engine.outbox.feed import Entry
from engine.redis import nodes as nodes_module
from engine.redis.nodes import Command, Node
from tests.deployment import Deployment, until
from tests.integration.conftest import MakeDeployment
from tests.world import person_key

SEED = 20210712
# As many as a slot has seats of each: nobody meets a full one.
PEOPLE, TORN_READS = 6, 40
REASONS = "select reason from quarantine order by partition, sequence"
Pipelined = Callable[[Node, Sequence[Command]], Awaitable[Sequence[Any]]]


@pytest.fixture
async def cluster(make_deployment: MakeDeployment) -> Deployment:
    return await make_deployment(4, 3)


class Movers:
    """People who book, cancel and book in another partition, until so many readings were torn."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._moved = asyncio.Condition()
        self._torn = 0
        self.booked = 0

    async def run(self) -> list[Course]:
        """Let everybody move; the courses that they have in the end."""
        return list(await asyncio.gather(*(self._move(person) for person in range(PEOPLE))))

    async def tear(self, moves: int) -> None:
        """Wait until people have moved so often, unless it is enough."""
        wanted = self.booked + moves
        async with self._moved:
            await self._moved.wait_for(lambda: self._torn >= TORN_READS or self.booked >= wanted)
        self._torn += 1

    async def _move(self, person: int) -> Course:
        number, slots = person % 8 + 1, (person % 2, person % 2)
        course = await self._deployment.booked(person, number, slots)
        while self._torn < TORN_READS:
            await self._deployment.cancelled(course)
            number = number % 8 + 1
            course = await self._deployment.booked(person, number, slots)
            self.booked += 1
            async with self._moved:
                self._moved.notify_all()
        return course


def torn(real: Pipelined, movers: Movers, draw: random.Random) -> Pipelined:
    """Of each reading, some servers are asked now and the others when people have moved on."""

    async def pipelined(node: Node, commands: Sequence[Command]) -> Sequence[Any]:
        if commands[0][0] == "XREAD" and draw.random() < 0.5:
            await movers.tear(draw.randint(1, 3 * PEOPLE))
        return await real(node, commands)

    return pipelined


async def test_people_who_move_between_masters_break_no_proof(
    cluster: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    movers, draw = Movers(cluster), random.Random(SEED)
    monkeypatch.setattr(nodes_module, "_pipelined", torn(nodes_module._pipelined, movers, draw))
    persister = cluster.persister()
    working = asyncio.create_task(persister.run())
    courses = await movers.run()
    await until(cluster.is_persisted, working)
    persister.stop()
    await working
    assert await cluster.rows(REASONS) == [], cluster.said
    live = await cluster.rows("select person_key, generation from course where state = 'b'")
    assert {(key.bytes, generation) for key, generation in live} == {
        (course.id.person, course.id.generation) for course in courses
    }
    assert await cluster.pool.fetchval("select count(*) from course") == PEOPLE + movers.booked
    assert (await cluster.audit()).is_clean


def second_course(deployment: Deployment, person: int, number: int) -> tuple[CourseId, Any]:
    """A live course beside the one that the person has, as no script would write it."""
    first, second = deployment.sessions(number)
    course = CourseId(person_key(person), Kind.PRIMARY, 9)
    return course, (Appointment(1, first, 1, 2), Appointment(2, second, 1, 2))


async def test_a_broken_event_is_judged_though_more_is_behind_it_than_one_read_takes(
    cluster: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for what it could follow from, in other partitions; its own is not one of them."""
    monkeypatch.setattr(limits, "PERSIST_EVENTS_MAX", 4)
    monkeypatch.setattr(limits, "PERSIST_PARTITION_EVENTS_MIN", 4)
    monkeypatch.setattr(limits, "PERSIST_AHEAD_EVENTS_MAX", 4)
    await cluster.booked(1, 1)
    await cluster.persist()
    await cluster.emit(2, b"b", *second_course(cluster, 1, 2))
    for _ in range(6):
        await cluster.cancelled(await cluster.booked(5, 2))
        await cluster.cancelled(await cluster.booked(6, 3))
    await cluster.persist()
    assert await cluster.rows(REASONS) == [("person-live",)]


async def test_a_course_that_was_overtaken_by_the_next_one_breaks_no_proof(
    cluster: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outbox is held up, with its end, while the person's next course is written from another."""
    held, safe = True, rounds.Rounds._safe

    async def hold(
        self: rounds.Rounds, entries: Mapping[int, list[Entry]], marks: dict[int, int]
    ) -> Mapping[int, list[Entry]]:
        found = await safe(self, entries, marks)
        first = entries.get(2, [])[:1]
        # At first nothing of the outbox, then its first event without what is behind.
        if held:
            return {p: items for p, items in found.items() if p != 2}
        return {**found, 2: first} if await cluster.watermark(2) < 0 and len(tries) < 5 else found

    tries: list[None] = []

    async def hold_and_count(*arguments: Any) -> Mapping[int, list[Entry]]:
        found = await hold(*arguments)
        if not held:
            tries.append(None)
        return found

    monkeypatch.setattr(rounds.Rounds, "_safe", hold_and_count)
    await cluster.cancelled(await cluster.booked(1, 2))
    later = await cluster.booked(1, 3)
    persister = cluster.persister()
    working = asyncio.create_task(persister.run())
    await until(lambda: is_written(cluster, later), working)
    held = False
    await until(cluster.is_persisted, working)
    persister.stop()
    await working
    assert await cluster.rows(REASONS) == []
    assert await cluster.pool.fetchval("select count(*) from course") == 2
    assert (await cluster.audit()).is_clean


async def is_written(deployment: Deployment, course: Course) -> bool:
    partition = deployment.keyspace.of_location(course.location)
    return await deployment.watermark(partition) == await deployment.end(partition)
