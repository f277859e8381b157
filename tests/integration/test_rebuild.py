"""A lost partition comes back as it was: seat by seat, course by course, guard by guard."""

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

import pytest

from engine import limits
from engine.booking.aside import Away, aside
from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.drive import start
from engine.booking.hold import Extension, confirm, extend
from engine.booking.move import Change, move, settle_part
from engine.booking.outcomes import Booked, Cancelled, Moved, Reason, Refused
from engine.domain.course import Course, CourseId, Kind, Op
from engine.errors import PartitionClosed, RebuildFailed
from engine.inventory import codec
from engine.recovery import rebuild as rebuilding
from engine.recovery.rebuild import Rebuild, Rebuilt
from engine.storage.pool import connect_alone
from tests.deployment import Deployment, new_op, until
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
    """Every guard, course, part, hold and stock; not the outboxes and metas, which begin anew.

    Not parts that were given back either: they only refuse late copies, which a new epoch refuses as well.
    """
    found: KeyValues = {}
    for partition in partitions:
        holds = deployment.keyspace.holds(partition)
        found[holds] = await deployment.client.zrange(holds, 0, -1, withscores=True)
        async for key in deployment.client.scan_iter(deployment.keyspace.people(partition)):
            bucket = await deployment.client.hgetall(key)
            there = {f: r for f, r in bucket.items() if not (codec.is_part(f) and r[:1] == b"x")}
            if there:
                found[key] = there
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
    return Request(op, number, (Seeker(person_key(person), Kind.PRIMARY, deployment.wishes(number)),))


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


async def holding(deployment: Deployment) -> None:
    """Holds that run, were extended, confirmed or cancelled, are over, or made room; all in Postgres."""
    placement = deployment.placement
    await deployment.held(1, 1)
    extended, confirmed = await deployment.held(2, 2), await deployment.held(3, 3)
    await deployment.run(extend([extended.id], 2, new_op(), Extension(900_000, 2), placement))
    await deployment.run(extend([confirmed.id], 3, new_op(), Extension(900_000, 2), placement))
    await deployment.run(confirm([confirmed.id], 3, new_op(), placement))
    await deployment.cancelled(await deployment.held(4, 4))
    await deployment.held(5, 5, hold_ms=1)
    home = deployment.keyspace.of_location(5)
    await until(lambda: _ends(deployment, home))
    offer = await deployment.held(6, 6)
    await deployment.register(7)
    wishes = deployment.wishes(6)
    await deployment.begun(6, Seeker(person_key(7), Kind.PRIMARY, wishes, given_vaccine=2, given_day=18_000),
                           instead=offer.id)  # fmt: skip
    await deployment.persist()


async def _ends(deployment: Deployment, partition: int) -> bool:
    """Whether a hold has ended just now."""
    return await deployment.batcher.put(partition, codec.expire(9)) == b"E\1\0"


async def moving(deployment: Deployment) -> list[Course]:
    """Courses in two places, moved, with a dose given up and added again, cancelled; all in Postgres."""
    third = Away(3, deployment.wishes(3, (1, 1))[1])
    there = await deployment.split(1, 1, 2)
    moved = await deployment.moved(await deployment.booked(2, 1), {2}, third)
    back = await deployment.moved(await deployment.split(3, 1, 2), {2}, Away(1, deployment.wishes(1)[1]))
    less = await deployment.moved(await deployment.booked(4, 4), {2})
    more = await deployment.moved(await deployment.moved(await deployment.booked(5, 4), {2}), set(), third)
    ended = await deployment.moved(await deployment.split(6, 5, 6), {2}, Away(7, deployment.wishes(7)[1]))
    await deployment.cancelled(ended)
    await deployment.cancelled(await deployment.split(7, 7, 2))
    people = [Seeker(person_key(n), Kind.PRIMARY, deployment.wishes(8)) for n in (8, 9)]
    for person in (8, 9):
        await deployment.register(person)
    await deployment.begun(8, *people)
    await deployment.persist()
    return [there, moved, back, less, more]


async def test_holds_come_back(deployment: Deployment) -> None:
    await holding(deployment)
    everything = range(deployment.keyspace.partitions)
    before = await dump(deployment, everything)
    await deployment.client.flushall()
    await rebuilt(deployment)
    assert await dump(deployment, everything) == before
    assert (await deployment.audit()).is_clean


async def test_moves_and_seats_elsewhere_come_back(deployment: Deployment) -> None:
    await moving(deployment)
    everything = range(deployment.keyspace.partitions)
    before = await dump(deployment, everything)
    await deployment.client.flushall()
    await rebuilt(deployment)
    assert await dump(deployment, everything) == before
    assert (await deployment.audit()).is_clean


async def test_any_one_partition_comes_back(deployment: Deployment) -> None:
    await moving(deployment)
    everything = range(deployment.keyspace.partitions)
    before = await dump(deployment, everything)
    for partition in everything:
        await close_redis(deployment, partition)
        await rebuilt(deployment)
        assert await dump(deployment, everything) == before
    assert (await deployment.audit()).is_clean


async def test_a_late_duplicate_of_a_move_and_of_the_first_booking_get_their_old_answers(
    deployment: Deployment,
) -> None:
    booked_as, moved_as, ended_as = new_op(), new_op(), new_op()
    booked = await book_as(deployment, 1, 1, booked_as)
    assert isinstance(booked, Booked)
    (course,) = booked.courses
    change = Change(course, moved_as, frozenset({2}), (Away(2, deployment.wishes(2)[1]),))
    moved = await deployment.run(move(change, deployment.placement))
    assert isinstance(moved, Moved)
    await deployment.persist()
    await deployment.client.flushall()
    await rebuilt(deployment)
    assert await deployment.run(move(change, deployment.placement)) == moved
    assert await book_as(deployment, 1, 1, booked_as) == booked
    ended = await deployment.run(cancel(course.id, 1, ended_as, deployment.placement))
    assert isinstance(ended, Cancelled)
    assert ended.course.appointments == moved.course.appointments
    await deployment.persist()
    await deployment.client.flushall()
    await rebuilt(deployment)
    assert await deployment.run(cancel(course.id, 1, ended_as, deployment.placement)) == ended
    assert (await deployment.audit()).is_clean


async def test_a_part_in_doubt_is_kept_until_its_home_has_decided(make_deployment: MakeDeployment) -> None:
    """Set aside for a course that Postgres has not heard of: nothing but its own event says who decides."""
    deployment = await make_deployment(4)
    course, home, there = CourseId(person_key(1), Kind.PRIMARY, 1), 1, 2
    wish = Away(there, deployment.wishes(there)[1])
    await deployment.register(1)
    found = await deployment.run(aside(course, 1, new_op(), home, [wish], deployment.placement))
    assert isinstance(found, tuple)
    (part,) = found
    await deployment.persist()
    before = await dump(deployment, range(4))
    await deployment.client.flushall()
    assert (await rebuilt(deployment)).parts == 1
    assert await dump(deployment, range(4)) == before
    identity = codec.PartId(course, part.dose, part.revision)
    field = codec.part_field(identity)
    record = codec.part(await deployment.client.hget(deployment.keyspace.bucket(there, course.person), field))
    assert not await deployment.run(settle_part(identity, record, there))
    await deployment.persist()
    assert await deployment.rows("select live, joined from appointment") == [(False, False)]
    assert (await deployment.audit()).is_clean


async def test_a_seat_that_a_course_counts_is_taken_though_its_partition_never_told(
    make_deployment: MakeDeployment,
) -> None:
    deployment = await make_deployment(4)
    await deployment.split(1, 1, 2)
    await deployment.persist()
    before = await dump(deployment, range(4))
    await deployment.pool.execute(
        "update appointment set live = false, home = null, op = null where place = 2"
    )
    await deployment.client.flushall()
    await rebuilt(deployment)
    assert await dump(deployment, range(4)) == before
    assert await deployment.rows("select live from appointment where place = 2") == [(True,)]


async def test_parts_elsewhere_hear_what_their_lost_home_had_decided(make_deployment: MakeDeployment) -> None:
    """Postgres has it, but nobody has told the parts: one is to be kept, the other to be given back."""
    deployment = await make_deployment(4)
    await deployment.split(1, 1, 2)
    await deployment.moved(await deployment.split(2, 1, 3), {2})
    await deployment.persist()
    after = await dump(deployment, range(4))
    for place, person, act in ((2, 1, b"s"), (3, 2, b"b")):
        key = deployment.keyspace.bucket(place, person_key(person))
        field = codec.part_field(codec.PartId(CourseId(person_key(person), Kind.PRIMARY, 1), 2, 1))
        session = deployment.sessions(place)[1]
        record = codec.pack_part(codec.Part(act, 1, bytes(16), session, 0, 0))
        await deployment.client.hset(key, field, record)
    session = deployment.sessions(3)[1]
    await deployment.client.setrange(deployment.stock_key(session), 2, b"\x06")
    await deployment.pool.execute("update appointment set live = true where place = 3")
    await close_redis(deployment, 1)
    await rebuilt(deployment, 1)
    found = await dump(deployment, range(4))
    own = deployment.keyspace.bucket(2, person_key(1))
    for buckets in (found, after):
        # The op that the test made up.
        buckets[own] = {field: value[:2] for field, value in buckets[own].items()}
    assert found == after


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
