"""What is given up at which share of which bound."""

import random

import pytest

from engine import limits
from engine.booking.pressure import Level, Pressure
from engine.errors import Backlogged


class Stores:
    """Two servers: partitions 0 and 1 on one, 2 on the other. Nothing is used yet."""

    def __init__(self, chance: float = 0.5) -> None:
        self.backlog = [0, 0, 0]
        self.memory = [0.0, 0.0, 0.0]
        self.pressure = Pressure(
            lambda: [[0, 1], [2]], self.backlog.__getitem__, self.memory.__getitem__, lambda: chance
        )

    def level(self, partition: int = 0) -> Level:
        """After looking once."""
        self.pressure.measure()
        return self.pressure.level(partition)


def admitted(share: float, asked: int = 4_000) -> float:
    """The share of bookings that are let in when so much of the backlog's bound is used."""
    draw = random.Random(1)
    pressure = Pressure(
        lambda: [[0]], lambda _: int(share * limits.BACKLOG_EVENTS_MAX), lambda _: 0.0, draw.random
    )
    pressure.measure()
    return sum(is_let_in(pressure) for _ in range(asked)) / asked


def is_let_in(pressure: Pressure, *partitions: int) -> bool:
    """Whether a booking there passes."""
    try:
        pressure.admit(*(partitions or (0,)))
    except Backlogged:
        return False
    return True


@pytest.mark.parametrize(
    ("share", "level"),
    [
        (0.0, Level.NOTHING),
        (0.499, Level.NOTHING),
        (0.5, Level.SOME_BOOKINGS),
        (0.749, Level.SOME_BOOKINGS),
        (0.75, Level.HOLDS),
        (0.999, Level.HOLDS),
        (1.0, Level.BOOKINGS),
        (1.5, Level.BOOKINGS),
    ],
)
def test_levels_of_the_backlog(share: float, level: Level) -> None:
    stores = Stores()
    stores.backlog[0] = int(share * limits.BACKLOG_EVENTS_MAX)
    assert stores.level() is level


@pytest.mark.parametrize(
    ("used", "level"),
    [
        (0.0, Level.NOTHING),
        (0.5, Level.NOTHING),
        (0.699, Level.NOTHING),
        (0.701, Level.SOME_BOOKINGS),
        (0.751, Level.HOLDS),
        (0.8, Level.BOOKINGS),
        (1.0, Level.BOOKINGS),
    ],
)
def test_levels_of_memory(used: float, level: Level) -> None:
    stores = Stores()
    stores.memory[0] = used
    assert stores.level() is level


@pytest.mark.parametrize(("used", "let_in"), [(0.3, 1.0), (0.5, 1.0), (0.75, 0.5), (0.9, 0.2), (1.0, 0.0)])
def test_the_share_that_is_let_in_falls_in_a_straight_line(used: float, let_in: float) -> None:
    assert admitted(used) == pytest.approx(let_in, abs=0.03)


@pytest.mark.parametrize("chance", [0.0, 0.999999])
def test_at_the_bound_nobody_is_let_in_and_below_half_everybody(chance: float) -> None:
    stores = Stores(chance)
    stores.backlog[0] = limits.BACKLOG_EVENTS_MAX // 2 - 1
    stores.pressure.measure()
    assert is_let_in(stores.pressure)
    stores.backlog[0] = limits.BACKLOG_EVENTS_MAX
    stores.pressure.measure()
    assert not is_let_in(stores.pressure)


def test_the_partitions_of_a_server_share_its_bound_and_another_server_has_its_own() -> None:
    stores = Stores()
    stores.backlog[:] = [limits.BACKLOG_EVENTS_MAX // 2, limits.BACKLOG_EVENTS_MAX // 2, 0]
    assert [stores.level(partition) for partition in range(3)] == [
        Level.BOOKINGS,
        Level.BOOKINGS,
        Level.NOTHING,
    ]
    assert stores.pressure.worst == pytest.approx(1.0)


def test_a_booking_needs_room_at_its_guard_as_well() -> None:
    stores = Stores()
    stores.memory[2] = limits.MEMORY_SHARE_MAX
    stores.pressure.measure()
    assert is_let_in(stores.pressure, 0, 1)
    assert not is_let_in(stores.pressure, 0, 2)


def test_the_pressure_goes_when_its_cause_has_gone() -> None:
    stores = Stores()
    stores.backlog[0] = limits.BACKLOG_EVENTS_MAX
    assert stores.level() is Level.BOOKINGS
    stores.backlog[0] = 0
    assert stores.level() is Level.NOTHING
