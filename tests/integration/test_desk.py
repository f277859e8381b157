"""The desk names an op by its caller's key: repeated, it is done once and answered the same."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from engine.booking.changes import ChangeDesk, Place
from engine.booking.desk import Applicant, Desk, NotBooked, Order, Pending
from engine.booking.office import Office, op_of
from engine.booking.outcomes import Booked, Cancelled, Reason, Refused
from engine.booking.pressure import Pressure
from engine.domain import capacity
from engine.domain.capacity import Session
from engine.domain.course import Kind, Wish
from engine.domain.person import Facts
from engine.inventory import codec
from engine.redis.batch import Batcher
from engine.redis.nodes import open_nodes
from engine.rules.campaign import load_campaign, load_regions
from engine.rules.courses import Rules
from engine.rules.intervals import load_intervals
from engine.rules.refusal import Refusal
from engine.servers.redis import RedisServer
from tests.world import EPOCH, FAR_MS, Location, World, person_key

DAY, OPENS = date(2021, 7, 12), datetime(2021, 7, 12, 7, tzinfo=UTC)
PLACES = (Location(1, 2, 1), Location(2, 2, 1))
PERSON = 1
ADULT = Facts(date(1986, 5, 4))
FRANCE = Path(__file__).parents[2] / "config" / "france"
INTERVALS = load_intervals(FRANCE / "vaccins.csv", FRANCE / "vaccins_intervalle_historique.csv")
RULES = Rules(
    load_campaign(FRANCE / "campaign.toml", INTERVALS.vaccines, load_regions(FRANCE / "departements.csv")),
    INTERVALS,
)


@pytest.fixture(params=[1, 2], ids=["one-partition", "two-partitions"])
def world(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[World]:
    """With two partitions, the person's guard is not where location 2 sells."""
    with Redis.from_url(redis_server.url, protocol=2) as client:
        yield World(client, request.param, PLACES)


@pytest.fixture
async def office(redis_server: RedisServer, world: World) -> AsyncIterator[Office]:
    sessions = {
        number: Session(number, place.id, "pfizer", DAY + days, OPENS + days, 10, place.slots, place.lines)
        for place in PLACES
        for number, days in zip(place.sessions, (timedelta(), timedelta(28)), strict=True)
    }
    locations = {place.id: located(place.id) for place in PLACES}
    the_day_before = OPENS - timedelta(days=1)
    free = Pressure(lambda: [], lambda partition: 0, lambda partition: 0.0, lambda: 0.0)
    async with open_nodes(redis_server.url, world.keyspace) as nodes:
        batcher = Batcher(nodes, lambda partition: EPOCH)
        office = Office(batcher, world.keyspace, sessions, locations, RULES, free, lambda: the_day_before)
        yield office
        await office.close()
        await batcher.close()


@pytest.fixture
def desk(office: Office) -> Desk:
    return Desk(office)


def located(number: int) -> capacity.Location:
    return capacity.Location(
        number, f"r{number}", "Centre", "1 rue", "75001", "Paris", "75", "11", 48.8, 2.3, "Europe/Paris"
    )


def wishes(location: int, slot: int = 0) -> tuple[Wish, Wish]:
    first, second = PLACES[location - 1].sessions
    return Wish(1, first, slot), Wish(2, second, slot)


async def book(
    desk: Desk, key: str, location: int = 2, slot: int = 0
) -> Booked | Refused | Refusal | Pending:
    applicant = Applicant(person_key(PERSON), ADULT, wishes(location, slot))
    return await desk.book(Order((applicant,)), key)


async def test_a_repeated_request_is_one_booking_and_one_answer(
    office: Office, desk: Desk, world: World
) -> None:
    first = await book(desk, "key")
    assert isinstance(first, Booked)
    assert await book(desk, "key") == first
    place = Place(first.course.id, 2)
    assert isinstance(await ChangeDesk(office).cancel(place, "cancel"), Cancelled)
    assert await book(desk, "key") == first
    assert (world.free(2), world.free(1002)) == (2, 2)


async def test_another_key_is_another_request(desk: Desk, world: World) -> None:
    assert isinstance(await book(desk, "key"), Booked)
    assert await book(desk, "other") == Refused(Reason.ALREADY_BOOKED)
    assert await book(desk, "key", slot=1) == Refused(Reason.KEY_REUSED)
    assert world.free(2) == 1


async def test_a_claim_whose_take_never_came_is_not_booked_after_its_deadline(
    desk: Desk, world: World
) -> None:
    """What the caller hears is final: a take that is still on its way is refused."""
    person = person_key(PERSON)
    op = op_of(person, "key", b"book", b"what was asked")
    guard, seats = world.keyspace.of_person(person), world.keyspace.of_location(2)
    claim = codec.claim(person, Kind.PRIMARY, op, 2, FAR_MS)
    assert world.step(guard, claim)[0][:1] == b"+"
    asked = Pending(person, Kind.PRIMARY, op.id, 0)
    assert await desk.operation(asked) == asked
    assert isinstance(await desk.operation(asked), NotBooked)
    member = codec.Member(person, Kind.PRIMARY, 1, wishes(2))
    take = codec.take(codec.Group(op, FAR_MS, (member,)))
    assert world.step(seats, take)[0][:1] == b"T"
    assert world.free(2) == 2
