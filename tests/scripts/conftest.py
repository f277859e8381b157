"""Worlds with one partition, where a booking is one operation, and with four, where it is three.

And one partition to be driven by hand.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripts.by_hand import ByHand
from tests.world import Location, World

MakeWorld = Callable[..., World]


@pytest.fixture(params=[1, 4], ids=["one-partition", "four-partitions"])
def make_world(request: pytest.FixtureRequest, redis_client: Any) -> MakeWorld:
    """Open a world with the locations given."""
    return lambda *locations: World(redis_client, request.param, locations)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """Two locations, two slots of three seats for each dose."""
    return make_world(Location(1, 2, 3), Location(2, 2, 3))


@pytest.fixture
def partition(redis_client: Any) -> ByHand:
    """The last of four partitions, without sessions, to be driven by hand."""
    return ByHand(World(redis_client, 4, ()), 3)
