"""Holds that are over end by themselves, wherever their guards are, and whatever else is away."""

import asyncio

import pytest

from engine import limits
from engine.booking.janitor import Janitor
from engine.domain.course import Course
from engine.domain.seats import count_free
from engine.inventory import codec
from tests.deployment import LINES, LOCATIONS, SLOTS, Deployment, until
from tests.integration.conftest import MakeDeployment
from tests.world import person_key

PLACES = range(1, LOCATIONS + 1)


@pytest.fixture(params=[(1, 1), (4, 1), (4, 3)], ids=["one-partition", "four-partitions", "three-masters"])
async def deployment(request: pytest.FixtureRequest, make_deployment: MakeDeployment) -> Deployment:
    return await make_deployment(*request.param)


def janitor_of(deployment: Deployment) -> Janitor:
    return Janitor(deployment.keyspace.partitions, deployment.batcher, deployment.said.append)


async def sweep_up(deployment: Deployment) -> int:
    """Once in every partition; how many holds ended."""
    janitor = janitor_of(deployment)
    return sum([await janitor.once(p) for p in range(deployment.keyspace.partitions)])


async def free(deployment: Deployment, number: int) -> int:
    """Free seats of a location's two sessions."""
    values = [await deployment.client.get(deployment.stock_key(s)) for s in deployment.sessions(number)]
    return sum(count_free(codec.stock(value)[2]) for value in values)


async def guard_state(deployment: Deployment, person: int) -> bytes:
    key = person_key(person)
    answer = await deployment.batcher.put(deployment.keyspace.of_person(key), codec.read_guard(key, 1))
    return codec.guard(answer[1:]).state


async def holds(deployment: Deployment) -> list[Course]:
    """One at each location, over at once."""
    courses = [await deployment.held(number, number, hold_ms=1) for number in PLACES]
    await asyncio.sleep(0.01)
    return courses


async def test_seats_are_free_and_guards_freed(deployment: Deployment) -> None:
    await holds(deployment)
    await deployment.held(20, 1, (1, 1))
    assert await sweep_up(deployment) == LOCATIONS
    assert [await free(deployment, number) for number in PLACES] == [
        2 * SLOTS * LINES - 2 * (number == 1) for number in PLACES
    ]
    await deployment.persist()
    assert [await guard_state(deployment, person) for person in (*PLACES, 20)] == [b"f"] * LOCATIONS + [b"b"]
    assert (await deployment.audit()).is_clean
    assert await sweep_up(deployment) == 0


async def test_more_than_one_operation_ends_are_ended_all_the_same(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXPIRE_HOLDS_MAX", 1)
    await holds(deployment)
    assert await sweep_up(deployment) == LOCATIONS


async def test_it_works_by_itself_and_a_closed_partition_is_told_of_once(
    make_deployment: MakeDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXPIRE_S", 0.02)
    deployment = await make_deployment(4)
    await holds(deployment)
    closed = deployment.keyspace.of_location(3)
    meta = deployment.keyspace.meta(closed)
    await deployment.client.hset(meta, "epoch", 99)

    async def ended(*numbers: int) -> bool:
        return all([await free(deployment, number) == 2 * SLOTS * LINES for number in numbers])

    working = asyncio.create_task(janitor_of(deployment).run())
    await until(lambda: ended(1, 2, 4, 5, 6, 8), working)
    await asyncio.sleep(0.1)
    assert not await ended(3)
    assert len([line for line in deployment.said if f"holds of partition {closed} do not end" in line]) == 1
    await deployment.client.hset(meta, "epoch", 1)
    await until(lambda: ended(*PLACES), working)
    assert deployment.said[-1] == f"holds of partition {closed} end again"
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await deployment.persist()
    assert (await deployment.audit()).is_clean
