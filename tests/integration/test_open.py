import pytest

from engine.capacity import open as opening
from engine.capacity.open import Inventory, Opened
from engine.errors import PartitionClosed
from engine.inventory import codec
from engine.storage.queries import query
from tests.deployment import LOCATIONS, VACCINE, Deployment


async def test_opening_twice_gives_no_sold_seat_back(four_partitions: Deployment) -> None:
    course = await four_partitions.booked(1, 1)
    stock = four_partitions.stock_key(course.appointments[0].session)
    before = await four_partitions.client.get(stock)
    assert await four_partitions.open() == Opened(0, 0, 0, 2 * LOCATIONS)
    assert await four_partitions.client.get(stock) == before


async def test_a_crash_before_redis_is_completed_by_the_next_run(four_partitions: Deployment) -> None:
    sold = await four_partitions.booked(1, 1)
    lost = four_partitions.stock_key(four_partitions.sessions(2)[0])
    await four_partitions.client.delete(lost)
    assert (await four_partitions.open()).stocks == 1
    assert codec.stock(await four_partitions.client.get(lost)) == (b"o", 1, b"\x07\x07")
    kept = await four_partitions.client.get(four_partitions.stock_key(sold.appointments[0].session))
    assert codec.stock(kept)[2] == b"\x06\x07"


async def test_a_crash_within_postgres_leaves_nothing_and_is_repeated(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployment.pool.execute("delete from session where location = 3")
    await deployment.client.delete(*[deployment.stock_key(s) for s in deployment.sessions(3)])
    real = query

    def broken(name: str) -> str:
        if name == "session.insert_planned":
            raise RuntimeError("crash")
        return real(name)

    monkeypatch.setattr(opening, "query", broken)
    with pytest.raises(RuntimeError, match="crash"):
        await deployment.open()
    monkeypatch.setattr(opening, "query", real)
    assert await deployment.open() == Opened(0, 2, 2, 2 * LOCATIONS)


async def test_a_closed_partition_opens_nothing(deployment: Deployment) -> None:
    stock = deployment.stock_key(deployment.sessions(1)[0])
    await deployment.client.delete(stock)
    await deployment.client.hset(deployment.keyspace.meta(0), "epoch", 2)
    with pytest.raises(PartitionClosed):
        await deployment.open()
    assert not await deployment.client.exists(stock)


async def test_progress_ends_at_the_total(deployment: Deployment) -> None:
    await deployment.client.delete(deployment.stock_key(deployment.sessions(1)[0]))
    told: list[tuple[int, int]] = []
    inventory = Inventory(deployment.nodes, deployment.batcher)
    await opening.open_sessions(
        deployment.pool, inventory, [], [], lambda done, total: told.append((done, total))
    )
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] > 0


async def test_the_catalogue_has_what_was_opened(deployment: Deployment) -> None:
    catalogue = deployment.catalogue
    assert set(catalogue.locations) == set(range(1, LOCATIONS + 1))
    first, second = catalogue.sessions_of(1, VACCINE)
    assert first.starts_at < second.starts_at
    assert catalogue.session(first.id) is first
    assert catalogue.sessions_of(1, "unknown") == ()
    assert catalogue.session(10**6) is None
    assert catalogue.location(10**6) is None
