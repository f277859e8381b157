"""Worlds with one partition, where a booking is one operation; with four, where it is three; on a cluster.

And one partition to be driven by hand.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripts.by_hand import ByHand
from tests.world import Location, World

MakeWorld = Callable[..., World]
# Masters, partitions. The four partitions lie on all three masters.
LAYOUTS = {"one-partition": (1, 1), "four-partitions": (1, 4), "three-masters": (3, 4)}


@pytest.fixture(params=sorted(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Masters and partitions."""
    return LAYOUTS[request.param]


@pytest.fixture
def masters(layout: tuple[int, int]) -> int:
    """Of the inventory that ``redis_client`` speaks to."""
    return layout[0]


@pytest.fixture
def make_world(layout: tuple[int, int], redis_client: Any) -> MakeWorld:
    """Open a world with the locations given."""
    return lambda *locations: World(redis_client, layout[1], locations)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """Two locations, two slots of three seats for each dose."""
    return make_world(Location(1, 2, 3), Location(2, 2, 3))


@pytest.fixture
def partition(redis_client: Any) -> ByHand:
    """The last of four partitions, without sessions, to be driven by hand."""
    return ByHand(World(redis_client, 4, ()), 3)
