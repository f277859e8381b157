import asyncio
import os
import secrets
import signal
import sys
from functools import partial
from typing import Any

import pytest

from engine import limits
from engine.domain.course import Appointment, CourseId, Kind
from engine.errors import PartitionClosed, PersisterReplaced
from engine.inventory import codec
from engine.outbox import commit, rounds
from engine.outbox.feed import Feed, Position
from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.storage.queries import query
from tests.agreement import differences
from tests.deployment import LOCATIONS, Deployment, until
from tests.integration.conftest import MakeDeployment
from tests.world import person_key

LIVE_SEATS = "select session, slot, seat from appointment where live order by 1, 2, 3"
STATES = "select state::text from course order by person_key, generation"
REASONS = "select reason from quarantine order by partition, sequence"


def course_of(person: int, generation: int = 1) -> CourseId:
    return CourseId(person_key(person), Kind.PRIMARY, generation)


# Folding ----------------------------------------------------------------------------------------------------


async def test_a_booking_becomes_rows(deployment: Deployment) -> None:
    course = await deployment.booked(1, 1)
    await deployment.persist()
    assert await deployment.rows("select location, state::text from course") == [(1, "b")]
    assert await deployment.rows(LIVE_SEATS) == sorted(
        (a.session, a.slot, a.seat) for a in course.appointments
    )
    assert await differences(deployment) == []


@pytest.mark.parametrize("between", [False, True], ids=["one-batch", "two-batches"])
async def test_booked_and_cancelled(deployment: Deployment, between: bool) -> None:
    course = await deployment.booked(1, 1)
    if between:
        await deployment.persist()
    await deployment.cancelled(course)
    await deployment.persist()
    assert await deployment.rows(STATES) == [("x",)]
    assert await deployment.rows(LIVE_SEATS) == []
    assert await deployment.rows("select cancelled_at >= booked_at from course") == [(True,)]
    assert await differences(deployment) == []


@pytest.mark.parametrize("persisted_after", [0, 1, 2])
async def test_one_seat_booked_cancelled_and_booked_again(
    deployment: Deployment, persisted_after: int
) -> None:
    """Wherever the batches are cut, the seat ends with its second holder."""
    first = await deployment.booked(1, 1)
    if persisted_after == 1:
        await deployment.persist()
    await deployment.cancelled(first)
    if persisted_after == 2:
        await deployment.persist()
    second = await deployment.booked(2, 1)
    assert second.appointments == first.appointments
    await deployment.persist()
    assert await deployment.rows(STATES) == [("x",), ("b",)]
    assert await deployment.rows(REASONS) == []
    assert await differences(deployment) == []


async def test_what_a_batch_releases_is_taken_in_the_same_batch(deployment: Deployment) -> None:
    """Seat and person come free of an earlier course in the very batch that books them anew."""
    await deployment.cancelled(await deployment.booked(2, 2))
    first = await deployment.booked(1, 1)
    await deployment.persist()
    watermark = await deployment.watermark()
    await deployment.cancelled(first)
    second = await deployment.booked(2, 1)
    await deployment.booked(1, 2)
    assert second.appointments == first.appointments
    positions = {0: Position(deployment.epochs[0], watermark)}
    read = await Feed(deployment.nodes).read(positions, 10)
    async with deployment.pool.acquire() as connection:
        await commit.prepare(connection)
        committed = await commit.commit(connection, read.entries, positions)
    assert committed.fold.broken == {}
    assert await deployment.rows(STATES) == [("x",), ("b",), ("x",), ("b",)]


async def test_one_person_again_and_again_in_one_batch(deployment: Deployment) -> None:
    for _ in range(3):
        await deployment.cancelled(await deployment.booked(1, 1))
    await deployment.booked(1, 1)
    await deployment.persist()
    assert await deployment.rows(STATES) == [("x",), ("x",), ("x",), ("b",)]
    assert await differences(deployment) == []


async def test_a_person_moves_on_to_another_partition_behind_a_backlog(
    four_partitions: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next course is read before the cancellation that it follows from: it waits, and breaks no proof."""
    monkeypatch.setattr(limits, "PERSIST_EVENTS_MAX", 4)
    monkeypatch.setattr(limits, "PERSIST_PARTITION_EVENTS_MIN", 1)
    for person in range(1, 4):
        await four_partitions.booked(10 + person, 1)
    first = await four_partitions.booked(5, 1, (1, 1))
    await four_partitions.persist()
    for _ in range(3):
        await four_partitions.cancelled(await four_partitions.booked(21, 1, (1, 1)))
    await four_partitions.cancelled(first)
    await four_partitions.booked(5, 2)
    await four_partitions.persist()
    assert await four_partitions.rows(REASONS) == []
    assert await differences(four_partitions) == []


async def test_a_person_who_left_a_partition_with_a_backlog(
    four_partitions: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the fault harness: the next course is read before the last one was even booked."""
    monkeypatch.setattr(limits, "PERSIST_EVENTS_MAX", 4)
    monkeypatch.setattr(limits, "PERSIST_PARTITION_EVENTS_MIN", 1)
    for _ in range(3):
        await four_partitions.cancelled(await four_partitions.booked(21, 1, (1, 1)))
    await four_partitions.cancelled(await four_partitions.booked(5, 1, (1, 1)))
    await four_partitions.persist()
    for _ in range(3):
        await four_partitions.cancelled(await four_partitions.booked(21, 1, (1, 1)))
    await four_partitions.cancelled(await four_partitions.booked(5, 1, (1, 1)))
    await four_partitions.booked(5, 2)
    await four_partitions.persist()
    assert await four_partitions.rows(REASONS) == []
    assert await differences(four_partitions) == []


# Exactly once -----------------------------------------------------------------------------------------------


async def test_dying_between_commit_and_trim_writes_nothing_twice(
    four_partitions: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise PersisterReplaced("dies here")

    for person in range(1, 6):
        await four_partitions.booked(person, 4 if person < 4 else 5)
    with monkeypatch.context() as patched:
        patched.setattr(rounds.Rounds, "_settle", die)
        with pytest.raises(PersisterReplaced):
            await four_partitions.persister().run()
    assert await four_partitions.is_persisted()
    assert {guard[:1] for guard in await _guards(four_partitions)} >= {b"c"}
    await _settled_by_a_new_start(four_partitions)
    assert {guard[:1] for guard in await _guards(four_partitions)} == {b"b"}
    assert await differences(four_partitions) == []


async def _settled_by_a_new_start(deployment: Deployment) -> None:
    async def settled() -> bool:
        return all(guard[:1] != b"c" for guard in await _guards(deployment))

    fresh = deployment.persister()
    working = asyncio.create_task(fresh.run())
    await until(settled, working)
    fresh.stop()
    await working


async def _guards(deployment: Deployment) -> list[bytes]:
    found: list[bytes] = []
    async for key in deployment.client.scan_iter(deployment.keyspace.all_people):
        bucket = await deployment.client.hgetall(key)
        found += [record for field, record in bucket.items() if codec.is_guard(field)]
    return found


@pytest.mark.parametrize(
    ("partitions", "masters"), [(1, 1), (4, 1), (4, 3)], ids=["one-partition", "one-server", "three-masters"]
)
async def test_killed_again_and_again_while_people_book(
    make_deployment: MakeDeployment, partitions: int, masters: int
) -> None:
    deployment = await make_deployment(partitions, masters)
    stopping = asyncio.Event()
    booking = asyncio.create_task(_keep_booking(deployment, stopping))
    for _ in range(3):
        process = await _start(deployment)
        before = await deployment.pool.fetchval("select count(*) from course")
        await until(partial(_has_more_than, deployment, before), booking)
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    stopping.set()
    booked = await booking
    await deployment.persist()
    await _settled_by_a_new_start(deployment)
    assert await deployment.pool.fetchval("select count(*) from course") == booked
    assert await differences(deployment) == []


async def _has_more_than(deployment: Deployment, courses: int) -> bool:
    now: int = await deployment.pool.fetchval("select count(*) from course")
    return now > courses + 20


async def _keep_booking(deployment: Deployment, stopping: asyncio.Event) -> int:
    """Book and cancel until stopped; how many courses there were."""
    booked = 0
    while not stopping.is_set():
        person = secrets.randbelow(2**31)
        course = await deployment.booked(person, person % LOCATIONS + 1, (booked % 2, booked % 2))
        booked += 1
        await deployment.cancelled(course)
    return booked


async def _start(deployment: Deployment) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engine.cli", "persister", "--redis-url", deployment.redis_url),
        *("--database-url", deployment.database_url, "--partitions", str(deployment.keyspace.partitions)),
        stderr=asyncio.subprocess.DEVNULL,
    )


async def test_sigterm_ends_it_gracefully(deployment: Deployment) -> None:
    await deployment.booked(1, 1)
    process = await _start(deployment)
    await until(deployment.is_persisted)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_trimming_keeps_the_tail_and_nothing_unpersisted(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OUTBOX_TAIL_EVENTS", 10)
    monkeypatch.setattr(limits, "TRIM_EVENTS_MIN", 100)
    for _ in range(200):
        await deployment.cancelled(await deployment.booked(1, 1))
    await deployment.persist()
    length = await deployment.client.xlen(deployment.keyspace.outbox(0))
    assert 10 <= length < 400
    assert await differences(deployment) == []


async def test_trimming_spares_a_backlog(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTBOX_TAIL_EVENTS", 10)
    monkeypatch.setattr(limits, "TRIM_EVENTS_MIN", 50)
    monkeypatch.setattr(limits, "PERSIST_EVENTS_MAX", 100)
    for _ in range(200):
        await deployment.cancelled(await deployment.booked(1, 1))
    persister = deployment.persister()
    working = asyncio.create_task(persister.run())
    await until(partial(_persisted_or_halted, deployment), working)
    persister.stop()
    await working
    assert await deployment.is_persisted(), deployment.said
    assert await deployment.client.xlen(deployment.keyspace.outbox(0)) < 400


async def _persisted_or_halted(deployment: Deployment) -> bool:
    return await deployment.is_persisted() or await _said(deployment, "HALTED")


async def test_trimming_spares_what_is_not_settled(
    four_partitions: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard in another partition cannot be told: its event stays, however long the outbox grows."""
    monkeypatch.setattr(limits, "OUTBOX_TAIL_EVENTS", 10)
    monkeypatch.setattr(limits, "TRIM_EVENTS_MIN", 50)
    course = await four_partitions.booked(1, 4)
    for _ in range(150):
        await four_partitions.cancelled(await four_partitions.booked(4, 4))
    with monkeypatch.context() as patched:
        patched.setattr(codec, "settle", lambda course: b"?")
        await four_partitions.persist()
    partition = four_partitions.keyspace.of_location(course.location)
    entries = await four_partitions.client.xrange(four_partitions.keyspace.outbox(partition), count=1)
    assert codec.event(entries[0][1][b"e"]).course == course.id


# Owners -----------------------------------------------------------------------------------------------------


async def test_a_second_persister_waits_for_the_first(deployment: Deployment) -> None:
    one, two = deployment.persister(), deployment.persister()
    first = asyncio.create_task(one.run())
    await until(lambda: _said(deployment, "persisting"), first)
    second = asyncio.create_task(two.run())
    await until(lambda: _said(deployment, "another persister"), second)
    await deployment.booked(1, 1)
    await until(deployment.is_persisted, first, second)
    one.stop()
    await first
    await deployment.booked(2, 2)
    await until(deployment.is_persisted, second)
    two.stop()
    await second
    assert await differences(deployment) == []


async def _said(deployment: Deployment, words: str) -> bool:
    return any(words in line for line in deployment.said)


async def test_a_moved_watermark_ends_it_and_writes_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def moved(connection: Any, *args: Any, **kwargs: Any) -> commit.Committed:
        await deployment.pool.execute("update partition set watermark = 5")
        return await real(connection, *args, **kwargs)

    real = commit.commit
    monkeypatch.setattr(commit, "commit", moved)
    await deployment.booked(1, 1)
    with pytest.raises(PersisterReplaced):
        await deployment.persister().run()
    assert await deployment.rows("select * from course") == []


async def test_one_connection_owns_a_partition(deployment: Deployment) -> None:
    async with deployment.pool.acquire() as one, deployment.pool.acquire() as two:
        assert await one.fetchval(query("partition.lock"), 0)
        assert not await two.fetchval(query("partition.lock"), 0)


async def test_a_batch_behind_the_watermark_is_not_written(deployment: Deployment) -> None:
    """An owner that was stopped wakes up with a batch that its successor has written."""
    await deployment.booked(1, 1)
    await deployment.booked(2, 2)
    positions = {0: Position(deployment.epochs[0], -1)}
    stale = await Feed(deployment.nodes).read(positions, 1)
    await deployment.pool.execute("update partition set watermark = 1")
    async with deployment.pool.acquire() as connection:
        await commit.prepare(connection)
        with pytest.raises(PersisterReplaced):
            await commit.commit(connection, stale.entries, positions)
    assert await deployment.watermark() == 1
    assert await deployment.rows("select * from course") == []


# Quarantine -------------------------------------------------------------------------------------------------


async def _quarantined(deployment: Deployment, *reasons: str) -> None:
    """The broken events are in quarantine, a good one after them is not held up."""
    await deployment.booked(99, 8)
    await deployment.persist()
    assert [row[0] for row in await deployment.rows(REASONS)] == list(reasons)
    good = "select state::text from course where person_key = $1"
    assert await deployment.pool.fetchval(good, person_key(99).hex()) == "b"
    assert deployment.metrics.quarantined._value.get() == len(reasons)


@pytest.mark.parametrize("persisted", [False, True], ids=["one-batch", "two-batches"])
async def test_a_seat_sold_twice(deployment: Deployment, persisted: bool) -> None:
    course = await deployment.booked(1, 1)
    if persisted:
        await deployment.persist()
    await deployment.register(2)
    await deployment.emit(0, b"b", course_of(2), course.appointments)
    await _quarantined(deployment, "seat-taken")


@pytest.mark.parametrize("persisted", [False, True], ids=["one-batch", "two-batches"])
async def test_a_seat_sold_twice_though_released_later_in_the_batch(
    deployment: Deployment, persisted: bool
) -> None:
    course = await deployment.booked(1, 1)
    if persisted:
        await deployment.persist()
    await deployment.register(2)
    await deployment.emit(0, b"b", course_of(2), course.appointments)
    await deployment.cancelled(course)
    await _quarantined(deployment, "seat-taken")


@pytest.mark.parametrize("persisted", [False, True], ids=["one-batch", "two-batches"])
async def test_a_person_booked_twice(deployment: Deployment, persisted: bool) -> None:
    await deployment.booked(1, 1)
    if persisted:
        await deployment.persist()
    first, second = deployment.sessions(2)
    await deployment.emit(
        0, b"b", course_of(1, 2), (Appointment(1, first, 0, 0), Appointment(2, second, 0, 0))
    )
    await _quarantined(deployment, "person-live")


async def test_a_person_booked_twice_in_two_partitions(four_partitions: Deployment) -> None:
    await four_partitions.booked(1, 1)
    first, second = four_partitions.sessions(2)
    appointments = (Appointment(1, first, 0, 0), Appointment(2, second, 0, 0))
    await four_partitions.emit(2, b"b", course_of(1, 2), appointments)
    await _quarantined(four_partitions, "person-live")


async def test_an_unregistered_person(deployment: Deployment) -> None:
    first, second = deployment.sessions(2)
    appointments = (Appointment(1, first, 0, 0), Appointment(2, second, 0, 0))
    await deployment.emit(0, b"b", course_of(7), appointments)
    await deployment.emit(0, b"x", course_of(7), appointments)
    await _quarantined(deployment, "unregistered-person", "course-not-live")


async def test_an_unknown_session(deployment: Deployment) -> None:
    await deployment.register(7)
    await deployment.emit(0, b"b", course_of(7), (Appointment(1, 4_000_000_000, 0, 0),))
    await _quarantined(deployment, "unknown-session")


@pytest.mark.parametrize(("slot", "seat"), [(0, 3), (0, 65_535), (2, 0), (65_535, 0)])
async def test_a_seat_that_is_not_on_sale(deployment: Deployment, slot: int, seat: int) -> None:
    await deployment.register(7)
    first, second = deployment.sessions(2)
    appointments = (Appointment(1, first, slot, seat), Appointment(2, second, 0, 0))
    await deployment.emit(0, b"b", course_of(7), appointments)
    await _quarantined(deployment, "seat-not-on-sale")


async def test_a_course_booked_twice(deployment: Deployment) -> None:
    course = await deployment.booked(1, 1)
    await deployment.persist()
    await deployment.emit(0, b"b", course.id, course.appointments)
    await deployment.persist()
    await deployment.cancelled(course)
    await deployment.emit(0, b"x", course.id, course.appointments)
    await _quarantined(deployment, "course-repeated", "course-not-live")


async def test_what_cannot_be_read(deployment: Deployment) -> None:
    await deployment.register(7)
    first, _ = deployment.sessions(2)
    twice = (Appointment(1, first, 0, 0), Appointment(1, first, 0, 1))
    await deployment.add(0, b"")
    await deployment.add(0, b"\x63 of another version")
    await deployment.add(0, secrets.token_bytes(80))
    await deployment.emit(0, b"?", course_of(7), twice)
    await deployment.emit(0, b"b", course_of(7), twice)
    await deployment.emit(0, b"b", course_of(7), ())
    await _quarantined(deployment, *["unreadable"] * 4, "malformed", "malformed")


# Faults of the stores ---------------------------------------------------------------------------------------


async def test_a_gap_halts_its_partition_only(four_partitions: Deployment) -> None:
    await four_partitions.booked(1, 1)
    await four_partitions.booked(5, 1)
    outbox = four_partitions.keyspace.outbox(1)
    await four_partitions.client.xdel(outbox, "1-0")
    await four_partitions.booked(2, 2)
    running = four_partitions.persister()
    working = asyncio.create_task(running.run())
    await until(lambda: _said(four_partitions, "HALTED: partition 1"), working)

    async def other_is_persisted() -> bool:
        return await four_partitions.watermark(2) == 0

    await until(other_is_persisted, working)
    running.stop()
    await working
    assert await four_partitions.watermark(1) == -1
    assert "goes on with 1-1 where 1-0 must come" in " ".join(four_partitions.said)


async def test_a_redis_that_is_older_than_postgres_is_halted(deployment: Deployment) -> None:
    await deployment.booked(1, 1)
    await deployment.persist()
    await deployment.client.delete(deployment.keyspace.outbox(0))
    running = deployment.persister()
    working = asyncio.create_task(running.run())
    await until(lambda: _said(deployment, "Redis is older than Postgres"), working)
    running.stop()
    await working


async def test_postgres_restarted_and_away_for_a_while(redis_server: RedisServer, hasty: None) -> None:
    with DataDir.make_temporary() as data, PostgresServer(data) as server:
        async with Deployment(redis_server.url, await server.create_database("away"), 1) as deployment:
            await deployment.client.flushall()
        async with Deployment(redis_server.url, await server.create_database("again"), 1) as deployment:
            running = deployment.persister()
            working = asyncio.create_task(running.run())
            course = await deployment.booked(1, 1)
            await until(deployment.is_persisted, working)
            await asyncio.to_thread(server.stop)
            await deployment.cancelled(course)
            await until(lambda: _said(deployment, "starting over"), working)
            await asyncio.to_thread(server.start)
            await deployment.pool.expire_connections()
            await deployment.booked(2, 1)
            await until(deployment.is_persisted, working)
            running.stop()
            await working
            assert await differences(deployment) == []


async def test_redis_connections_lost(deployment: Deployment) -> None:
    running = deployment.persister()
    working = asyncio.create_task(running.run())
    await deployment.booked(1, 1)
    await until(deployment.is_persisted, working)
    await deployment.client.execute_command("CLIENT KILL TYPE NORMAL SKIPME YES")
    await deployment.booked(2, 2)
    await until(deployment.is_persisted, working)
    running.stop()
    await working
    assert await differences(deployment) == []


async def test_redis_restarted_and_away_for_a_while(database_url: str, hasty: None) -> None:
    with DataDir.make_temporary() as data, RedisServer(data) as server:
        async with Deployment(server.url, database_url, 1) as deployment:
            running = deployment.persister()
            working = asyncio.create_task(running.run())
            course = await deployment.booked(1, 1)
            await until(deployment.is_persisted, working)
            await asyncio.to_thread(server.kill)
            await until(lambda: _said(deployment, "starting over"), working)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await until(partial(_is_open, deployment), working)
            await deployment.cancelled(course)
            await until(deployment.is_persisted, working)
            running.stop()
            await working
            assert await differences(deployment) == []


async def _is_open(deployment: Deployment) -> bool:
    """Whether the persister has certified the restarted Redis."""
    try:
        await deployment.batcher.put(0, codec.read_guard(person_key(1), Kind.PRIMARY))
    except PartitionClosed:
        return False
    return True
