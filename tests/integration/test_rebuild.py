"""A lost partition comes back as it was: seat by seat, course by course, guard by guard."""

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

import pytest

from engine import limits
from engine.booking.book import Request, book
from engine.booking.drive import start
from engine.booking.outcomes import Booked, Reason, Refused
from engine.domain.course import Course, Kind, Op, Wish
from engine.errors import PartitionClosed, RebuildFailed
from engine.recovery import rebuild as rebuilding
from engine.recovery.rebuild import Rebuild, Rebuilt
from engine.storage.pool import connect_alone
from tests.deployment import Deployment, until
from tests.integration.conftest import MakeDeployment
from tests.world import person_key

KeyValues = dict[bytes, Any]


@pytest.fixture(params=[(1, 1), (4, 1), (4, 3)], ids=["one-partition", "four-partitions", "three-masters"])
async def deployment(
    request: pytest.FixtureRequest, make_deployment: MakeDeployment, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    monkeypatch.setattr(limits, "OPERATION_MS_MAX", 200)
    monkeypatch.setattr(limits, "REBUILD_COURSES_MAX", 7)
    monkeypatch.setattr(limits, "REBUILD_WAIT_S_MAX", 0.5)
    return await make_deployment(*request.param)


async def dump(deployment: Deployment, partitions: Iterable[int]) -> KeyValues:
    """Every guard, course and stock; not the outboxes and metas, which begin anew."""
    found: KeyValues = {}
    for partition in partitions:
        async for key in deployment.client.scan_iter(deployment.keyspace.people(partition)):
            found[key] = await deployment.client.hgetall(key)
        async for key in deployment.client.scan_iter(deployment.keyspace.prefix(partition) + b"session:*"):
            found[key] = await deployment.client.get(key)
    return found


async def rebuilt(deployment: Deployment, *partitions: int, force: bool = False) -> Rebuilt:
    connection = await connect_alone(deployment.database_url)
    try:
        work = Rebuild(connection, deployment.nodes, deployment.said.append)
        result = await work.run(partitions or range(deployment.keyspace.partitions), force=force)
    finally:
        await connection.close()
    deployment.epochs |= result.epochs
    return result


def request_of(deployment: Deployment, person: int, number: int, op: Op) -> Request:
    wishes = tuple(
        Wish(dose, session, 0) for dose, session in zip((1, 2), deployment.sessions(number), strict=True)
    )
    return Request(person_key(person), Kind.PRIMARY, op, number, wishes)


async def book_as(deployment: Deployment, person: int, number: int, op: Op) -> Any:
    await deployment.register(person)
    request = request_of(deployment, person, number, op)
    return await start(book(request, deployment.placement), deployment.batcher)


async def lively(deployment: Deployment) -> list[Course]:
    """People who booked, cancelled, booked again, some more often than guards remember; all in Postgres."""
    courses = [await deployment.booked(p, 1 + p % 8, (p // 8, p // 8)) for p in range(1, 16)]
    for course in courses[::3]:
        await deployment.cancelled(course)
    await deployment.persist()
    for person in (1, 4):
        again = await deployment.booked(person, 2 + person)
        await deployment.persist()
        courses.append(again)
    for round_number in range(6):
        course = await deployment.booked(40, 1 + round_number, (1, 1))
        await deployment.cancelled(course)
        await deployment.persist()
    courses.append(await deployment.booked(40, 8, (1, 1)))
    await deployment.persist()
    return courses


async def close_redis(deployment: Deployment, partition: int) -> None:
    async for key in deployment.client.scan_iter(deployment.keyspace.prefix(partition) + b"*"):
        await deployment.client.delete(key)


async def test_after_flushall_all_is_as_before(deployment: Deployment) -> None:
    await lively(deployment)
    everything = range(deployment.keyspace.partitions)
    before = await dump(deployment, everything)
    await deployment.client.flushall()
    with pytest.raises(PartitionClosed):
        await deployment.booked(30, 1)
    result = await rebuilt(deployment)
    assert await dump(deployment, everything) == before
    assert result.epochs == dict.fromkeys(everything, 2)
    assert (await deployment.audit()).is_clean
    await deployment.booked(30, 5, (1, 1))
    await deployment.persist()
    assert (await deployment.audit()).is_clean


async def test_one_lost_partition_is_as_before_and_the_others_are_not_touched(
    deployment: Deployment,
) -> None:
    await lively(deployment)
    everything = range(deployment.keyspace.partitions)
    before = await dump(deployment, everything)
    await close_redis(deployment, 0)
    result = await rebuilt(deployment)
    assert result.epochs == {0: 2}
    assert await dump(deployment, everything) == before
    assert (await deployment.audit()).is_clean


async def test_late_duplicates_get_their_old_answers_and_nobody_books_twice(deployment: Deployment) -> None:
    op, gone = Op(b"live----", bytes(8)), Op(b"gone----", bytes(8))
    live = await book_as(deployment, 1, 1, op)
    cancelled = await book_as(deployment, 2, 2, gone)
    assert isinstance(cancelled, Booked)
    await deployment.cancelled(cancelled.course)
    await deployment.persist()
    await deployment.client.flushall()
    await rebuilt(deployment)
    assert await book_as(deployment, 1, 1, op) == live
    assert await book_as(deployment, 2, 2, gone) == cancelled
    reused = await book_as(deployment, 1, 1, Op(b"live----", b"another-"))
    assert isinstance(reused, Refused)
    assert reused.reason is Reason.KEY_REUSED
    second = await deployment.book(1, 3)
    assert isinstance(second, Refused)
    assert isinstance(live, Booked)
    await deployment.cancelled(live.course)
    await deployment.persist()
    await deployment.booked(1, 3)
    await deployment.persist()
    assert (await deployment.audit()).is_clean


async def test_events_past_the_watermark_are_saved_first(deployment: Deployment) -> None:
    await deployment.booked(1, 1)
    await deployment.persist()
    late = [await deployment.booked(person, 1 + person % 8, (1, 1)) for person in range(2, 7)]
    everything = range(deployment.keyspace.partitions)
    for partition in everything:
        await deployment.client.delete(deployment.keyspace.meta(partition))
    result = await rebuilt(deployment)
    assert result.events_saved == len(late)
    assert await deployment.rows("select count(*) from course where state = 'b'") == [(6,)]
    assert (await deployment.audit()).is_clean


async def test_a_rebuild_that_died_sells_nothing_and_is_run_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lively(deployment)
    everything = range(deployment.keyspace.partitions)
    before = await dump(deployment, everything)
    await deployment.client.flushall()

    async def dies(*args: object) -> None:
        raise OSError("gone")

    for step in ("_write_stocks", "_write_people", "_open"):
        with monkeypatch.context() as patch:
            patch.setattr(rebuilding.Rebuild, step, dies)
            with pytest.raises(OSError, match="gone"):
                await rebuilt(deployment)
        deployment.epochs = {p: epoch + 1 for p, epoch in deployment.epochs.items()}
        with pytest.raises(PartitionClosed):
            await deployment.booked(30, 1)
    await rebuilt(deployment)
    assert await dump(deployment, everything) == before
    assert (await deployment.audit()).is_clean


async def test_a_redis_emptied_during_the_rebuild_is_not_opened(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lively(deployment)
    await deployment.client.flushall()
    write_stocks = rebuilding.Rebuild._write_stocks

    async def emptied(self: Rebuild) -> None:
        await write_stocks(self)
        await deployment.client.flushdb()

    with monkeypatch.context() as patch:
        patch.setattr(rebuilding.Rebuild, "_write_stocks", emptied)
        with pytest.raises(RebuildFailed, match="not there any more"):
            await rebuilt(deployment)
    assert not await deployment.client.exists(deployment.keyspace.meta(0))
    await rebuilt(deployment)
    assert (await deployment.audit()).is_clean


async def test_what_is_sound_is_left_alone_unless_forced(deployment: Deployment) -> None:
    await lively(deployment)
    everything = range(deployment.keyspace.partitions)
    before = await dump(deployment, everything)
    assert not (await rebuilt(deployment)).epochs
    assert set((await rebuilt(deployment, force=True)).epochs.values()) == {2}
    assert await dump(deployment, everything) == before


async def test_takes_of_the_old_epoch_are_refused(deployment: Deployment) -> None:
    await deployment.booked(1, 1)
    await deployment.persist()
    await deployment.client.flushall()
    old = dict(deployment.epochs)
    await rebuilt(deployment)
    deployment.epochs = old
    with pytest.raises(PartitionClosed):
        await deployment.book(2, 1)


async def test_a_working_persister_goes_on_under_the_new_epoch(deployment: Deployment) -> None:
    running = deployment.persister()
    working = asyncio.create_task(running.run())
    await deployment.booked(1, 1)
    await until(deployment.is_persisted, working)
    await deployment.client.flushall()
    await rebuilt(deployment)
    await deployment.booked(2, 1)
    for partition in range(deployment.keyspace.partitions):
        if await deployment.end(partition) >= 0:
            await until(lambda p=partition: _is_persisted(deployment, p), working)  # type: ignore[misc]
    assert await deployment.rows("select count(*) from course") == [(2,)]
    # A guard whose partition was not open again when its course was committed is settled a little later.
    await until(lambda: _is_clean(deployment), working)
    running.stop()
    await working


async def _is_clean(deployment: Deployment) -> bool:
    return (await deployment.audit()).is_clean


async def _is_persisted(deployment: Deployment, partition: int) -> bool:
    return await deployment.watermark(partition) == await deployment.end(partition)


async def test_a_claim_lost_with_its_guard_cannot_become_a_second_course(
    make_deployment: MakeDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard's partition is lost between claim and take; the take is granted elsewhere meanwhile."""
    monkeypatch.setattr(limits, "OPERATION_MS_MAX", 200)
    deployment = await make_deployment(4)
    person = next(n for n in range(1, 50) if deployment.keyspace.of_person(person_key(n)) == 0)
    await deployment.register(person)
    request = request_of(deployment, person, 1, Op(secrets.token_bytes(8), bytes(8)))
    steps = book(request, deployment.placement)
    claim = next(steps)
    answer = await deployment.batcher.put(claim.partition, claim.record)
    take = steps.send(answer)
    await close_redis(deployment, 0)
    rebuild_under_way = asyncio.create_task(rebuilt(deployment, 0))
    granted = await deployment.batcher.put(take.partition, take.record)

    async def waits_or_has_ended() -> bool:
        return rebuild_under_way.done() or any("waiting until" in line for line in deployment.said)

    await until(waits_or_has_ended)
    running = deployment.persister()
    working = asyncio.create_task(running.run())
    await rebuild_under_way
    assert granted[:1] == b"B"
    assert isinstance(await deployment.book(person, 2), Refused)
    late = await deployment.batcher.put(take.partition, take.record)
    assert late == granted
    running.stop()
    await working
    assert (await deployment.audit()).is_clean


async def test_another_rebuild_is_waited_for(deployment: Deployment) -> None:
    connection = await connect_alone(deployment.database_url)
    await connection.execute("select pg_advisory_lock(1685021543, 0)")
    with pytest.raises(RebuildFailed, match="another rebuild"):
        await rebuilt(deployment)
    await connection.close()


async def test_the_rebuilt_process_is_the_certified_one(deployment: Deployment) -> None:
    await deployment.booked(1, 1)
    await deployment.persist()
    await deployment.client.flushall()
    await rebuilt(deployment)
    rows = await deployment.rows("select partition, run_id from partition")
    assert dict(rows) == await deployment.nodes.run_ids()
