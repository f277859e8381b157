"""The board of free seats follows a real Redis: through bookings, gaps, and another Redis in its place."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any

import pytest

from engine import limits
from engine.availability.board import Board
from engine.availability.follow import Follower
from engine.booking.aside import Away
from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.move import Change, move
from engine.booking.outcomes import Moved
from engine.domain.capacity import Session
from engine.domain.course import Op, Wish
from engine.redis.nodes import open_nodes
from tests.world import EPOCH, Location, World, person_key

pytestmark = pytest.mark.anyio
LOCATIONS = (Location(1, slots=4, lines=2), Location(2, slots=4, lines=9))


@pytest.fixture(params=[1, 3], ids=["one-server", "three-masters"])
def masters(request: pytest.FixtureRequest) -> int:
    masters: int = request.param
    return masters


@pytest.fixture
def world(redis_client: Any) -> World:
    return World(redis_client, 2, LOCATIONS)


def board_of(world: World) -> Board:
    day, begin = date(2021, 7, 12), datetime(2021, 7, 12, 8, tzinfo=UTC)
    return Board(
        Session(number, place.id, "pfizer", day, begin, 10, place.slots, place.lines)
        for place in world.locations.values()
        for number in place.sessions
    )


def is_as_redis_has_it(board: Board, world: World) -> bool:
    return all(
        stock.mask == world.mask(stock.session) and stock.free == world.free(stock.session)
        for stock in board.stocks()
    )


async def wait_until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"not in 10 s: {what}")


@asynccontextmanager
async def following(
    url: str, world: World, epochs: dict[int, int] | None = None
) -> AsyncIterator[tuple[Follower, Board]]:
    """A follower that has loaded; its client is closed when left. It does not run by itself."""
    board = board_of(world)
    known = epochs or {0: EPOCH, 1: EPOCH}
    async with open_nodes(url, world.keyspace) as nodes:
        follower = Follower(nodes, known.__getitem__, board)
        await follower.load()
        yield follower, board


@asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[None]:
    task = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_booked_and_cancelled_anywhere_reaches_the_board(
    inventory_url: str, world: World
) -> None:
    world.book(1, 1, (0, 0))
    async with following(inventory_url, world) as (follower, board), running(follower):
        assert is_as_redis_has_it(board, world)
        for person in range(2, 8):
            world.book(person, 1 + person % 2, (person % 4, 0))
        await wait_until(lambda: is_as_redis_has_it(board, world), "bookings are on the board")
        world.run_cancel_of(2, 1)
        await wait_until(lambda: is_as_redis_has_it(board, world), "the cancellation is on the board")
        assert follower.loads == 2
        assert follower.lag_s < 1


async def test_holds_moves_and_seats_elsewhere_reach_the_board(inventory_url: str, world: World) -> None:
    wishes = Wish(1, 1, 0), Wish(2, 1001, 0)
    hold = Request(Op(b"hold----", bytes(8)), 1, (Seeker(person_key(1), 1, wishes),), hold_ms=600_000)
    apart = Seeker(person_key(2), 1, (Wish(1, 1, 1),), (Away(2, Wish(2, 1002, 1)),))
    async with following(inventory_url, world) as (follower, board), running(follower):
        held = world.run(book(hold, world.placement)).course
        course = world.run(book(Request(Op(b"apart---", bytes(8)), 1, (apart,)), world.placement)).course
        await wait_until(lambda: is_as_redis_has_it(board, world), "the hold, and the seat elsewhere")
        assert board.free_in_slot(1002, 1) == 8
        change = Change(course, Op(b"move----", bytes(8)), frozenset({1, 2}), (Away(2, Wish(1, 2, 0)),))
        assert isinstance(world.run(move(change, world.placement)), Moved)
        world.run(cancel(held.id, 1, Op(b"over----", bytes(8)), world.placement))
        world.settle_all()
        await wait_until(lambda: is_as_redis_has_it(board, world), "what was given back")
        assert [board.free_in_slot(*slot) for slot in ((1, 0), (1, 1), (1002, 1), (2, 0))] == [2, 2, 9, 8]
        assert board.unknown_sessions == 0


async def test_events_between_noting_the_position_and_reading_the_masks_do_no_harm(
    inventory_url: str, world: World
) -> None:
    async with following(inventory_url, world) as (follower, board):
        world.book(1, 1, (3, 3))
        world.run_cancel_of(1, 1)
        world.book(2, 1, (3, 3))
        for stock in board.stocks():
            board.load(stock.session, stock.width, world.mask(stock.session))
        async with running(follower):
            await wait_until(lambda: follower.events == 3, "the events were applied once more")
        assert is_as_redis_has_it(board, world)


async def test_a_trimmed_outbox_loads_its_partition_anew(inventory_url: str, world: World) -> None:
    async with following(inventory_url, world) as (follower, board):
        for person in range(1, 5):
            world.book(person, 1, (person % 4, 0))
        world.redis.xtrim(world.keyspace.outbox(1), maxlen=1, approximate=False)
        async with running(follower):
            await wait_until(lambda: follower.loads == 3, "the partition was loaded again")
            await wait_until(lambda: is_as_redis_has_it(board, world), "nothing is missing")


async def test_a_redis_that_lost_its_data_empties_the_board(
    inventory_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FOLLOW_CHECK_S", 0.05)
    world.book(1, 1, (0, 0))
    async with following(inventory_url, world) as (follower, board), running(follower):
        world.redis.flushall()
        await wait_until(lambda: board.free_in_slot(1, 1) == 0, "location 1 is off the board")


@pytest.mark.parametrize("masters", [1])
async def test_a_lost_connection_is_survived(inventory_url: str, world: World) -> None:
    async with following(inventory_url, world) as (follower, board), running(follower):
        loads = follower.loads
        # One that is idle when it is lost is replaced without a word.
        await wait_until(lambda: any("b" in c["flags"] for c in world.redis.client_list()), "it waits")
        world.redis.client_kill_filter(_type="normal", skipme=True)
        world.book(1, 2, (1, 1))
        await wait_until(lambda: follower.loads > loads and follower.is_loaded, "it has loaded again")
        await wait_until(lambda: is_as_redis_has_it(board, world), "the booking meanwhile is there")
