"""20,000 people want one session of 500 seats at once, through the real batcher and a real Redis.

The control runs the same rush with the protection off (read, choose, write, as three calls) and must be seen
to oversell; otherwise this suite would not know what it is looking at.
"""

import asyncio
import random
from typing import Any

import pytest

from engine.booking.book import book
from engine.booking.drive import start
from engine.booking.outcomes import Booked, BookOutcome, Reason, Refused
from engine.booking.steps import Placement
from engine.domain import seats
from engine.redis.batch import Batcher
from engine.redis.connection import connect
from engine.redis.nodes import Nodes
from tests.world import EPOCH, Location, World

PEOPLE, SLOTS, LINES = 20_000, 100, 5
RUSHED = Location(1, SLOTS, LINES)


async def rush(url: str, world: World) -> list[BookOutcome]:
    """Everybody at once, each at a slot of their own choice; where that is full, at another that is free."""
    nodes = Nodes(url, world.keyspace)
    await nodes.refresh()
    batcher = Batcher(nodes, lambda _: EPOCH)
    placement = Placement(world.keyspace, batcher.clocks.not_after)
    chance = random.Random(7)

    async def citizen(person: int) -> BookOutcome:
        slot = chance.randrange(SLOTS)
        while True:
            request = world.request(person, RUSHED.id, (slot, slot))
            outcome = await start(book(request, placement), batcher)
            if not isinstance(outcome, Refused) or outcome.reason != Reason.FULL:
                return outcome
            free = list(seats.free_slots(outcome.stock, outcome.width))
            if not free:
                return outcome
            slot = chance.choice(free)

    try:
        return await asyncio.gather(*(citizen(person) for person in range(PEOPLE)))
    finally:
        await batcher.close()
        await nodes.aclose()


@pytest.mark.parametrize(("masters", "partitions"), [(1, 1), (1, 4), (3, 4)])
def test_exactly_500_are_booked(redis_client: Any, inventory_url: str, partitions: int) -> None:
    world = World(redis_client, partitions, (RUSHED,))
    outcomes = asyncio.run(rush(inventory_url, world))
    booked = [outcome.course for outcome in outcomes if isinstance(outcome, Booked)]
    refused = [outcome.reason for outcome in outcomes if isinstance(outcome, Refused)]
    assert len(booked) == SLOTS * LINES
    assert len(refused) == PEOPLE - len(booked)
    assert set(refused) == {Reason.FULL}
    sold = [(a.session, a.slot, a.seat) for course in booked for a in course.appointments]
    assert len(set(sold)) == len(sold) == 2 * SLOTS * LINES
    assert (world.free(1), world.free(1001)) == (0, 0)
    live = {course: record for course, record in world.courses().items() if record.state == b"b"}
    assert {course.id: course.appointments for course in booked} == {
        course: record.appointments for course, record in live.items()
    }


async def unprotected_rush(url: str, world: World, people: int) -> list[tuple[int, int]]:
    """Read, choose, write: what ``take`` must never be."""
    client: Any = connect(url)
    key = world.keyspace.session(0, RUSHED.id)

    async def citizen(slot: int) -> tuple[int, int] | None:
        stock = await client.get(key)
        mask = stock[2 + slot]
        if not mask:
            return None
        seat = (mask & -mask).bit_length() - 1
        await client.setrange(key, 2 + slot, bytes([mask & (mask - 1)]))
        return slot, seat

    try:
        taken = await asyncio.gather(*(citizen(person // 20 % SLOTS) for person in range(people)))
    finally:
        await client.aclose()
    return [seat for seat in taken if seat is not None]


def test_control_without_the_protection_seats_are_sold_twice(redis_client: Any, inventory_url: str) -> None:
    world = World(redis_client, 1, (RUSHED,))
    sold = asyncio.run(unprotected_rush(inventory_url, world, 2_000))
    assert len(sold) > len(set(sold)), "the control sold no seat twice: the rush is no rush"
