"""Who gave a seat back: known at once from the outboxes, and for long from Postgres."""

from datetime import timedelta

import pytest

from engine import limits
from engine.domain.course import Appointment, CourseId, Kind
from engine.errors import StorageAway
from engine.inventory import codec
from engine.waitlist.needs import Freed
from engine.waitlist.wakes import Wakes
from engine.wishes.freed import Freers
from tests.deployment import Deployment
from tests.integration.conftest import MakeDeployment
from tests.world import person_key

SLOT, SEAT = 1, 0


@pytest.fixture
async def deployment(make_deployment: MakeDeployment) -> Deployment:
    return await make_deployment(1)


def freers_of(deployment: Deployment, *, is_covered: bool = True, wakes: Wakes | None = None) -> Freers:
    return Freers(deployment.pool, Wakes() if wakes is None else wakes, lambda session: is_covered)


def released(person: int, session: int, kind: Kind = Kind.PRIMARY) -> codec.Event:
    told = (codec.Entry(codec.RELEASED, Appointment(1, session, SLOT, SEAT)),)
    return codec.Event(b"x", 1, CourseId(person_key(person), kind, 1), 2, bytes(16), told)


async def test_what_a_process_saw_it_knows_at_once(deployment: Deployment) -> None:
    wakes = Wakes()
    freers = freers_of(deployment, wakes=wakes)
    freers.saw(released(1, 7))
    freers.saw(released(2, 8))
    assert await freers([Freed(7, SLOT)]) == {person_key(1)}
    assert await freers([Freed(7, SLOT), Freed(8, SLOT)]) == {person_key(1), person_key(2)}
    assert await freers([Freed(7, SLOT + 1), Freed(9, SLOT)]) == set()
    assert wakes.take(9) == [Freed(7, SLOT), Freed(8, SLOT)]


async def test_an_offer_that_ends_wakes_and_is_nobodys(deployment: Deployment) -> None:
    wakes = Wakes()
    freers = freers_of(deployment, wakes=wakes)
    freers.saw(released(1, 7, Kind.OFFER))
    assert await freers([Freed(7, SLOT)]) == set()
    assert len(wakes) == 1


async def test_what_another_process_saw_is_in_postgres(deployment: Deployment) -> None:
    course = await deployment.booked(1, 1)
    await deployment.booked(2, 1)
    await deployment.cancelled(course)
    await deployment.persist()
    seat, other = (Freed(a.session, a.slot) for a in course.appointments)
    assert await freers_of(deployment)([seat]) == {person_key(1)}
    assert await freers_of(deployment)([seat, other]) == {person_key(1)}
    assert await freers_of(deployment)([Freed(seat.session, seat.slot + 1)]) == set()
    long_ago = "update appointment set ended_at = ended_at - $1::interval where not live"
    await deployment.pool.execute(long_ago, timedelta(seconds=limits.FREED_BY_S + 60))
    assert await freers_of(deployment)([seat]) == set()


async def test_where_postgres_lags_nobody_is_told_that_nobody_did(deployment: Deployment) -> None:
    with pytest.raises(StorageAway):
        await freers_of(deployment, is_covered=False)([Freed(7, SLOT)])


async def test_the_oldest_is_forgotten(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREERS_MAX", 2)
    freers = freers_of(deployment)
    for person in (1, 2, 3):
        freers.saw(released(person, 7))
    assert await freers([Freed(7, SLOT)]) == {person_key(2), person_key(3)}
