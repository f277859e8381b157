"""Writes what the outboxes tell to Postgres, row by row, as the comment of 0003_courses.sql says.

A reading of the schema of its own: what recovery makes of rows is tested without the persister.
"""

from collections.abc import AsyncIterator
from typing import Any

from engine.inventory import codec
from engine.outbox.feed import Feed, Position, digest_of
from engine.outbox.settle import settlements
from tests.deployment import Deployment

COURSE = """
insert into course
    (person_key, kind, generation, location, state, booked_at, op, until, given_vaccine, given_day)
select $1, $2, $3, (select location from session where id = $4), $5::text::"char", to_timestamp($6 / 1000.0), $7,
    case when $8::bigint > 0 then to_timestamp($8 / 1000.0) end, $9, $10
"""
SEAT = """
insert into appointment
    (person_key, kind, generation, dose, revision, session, slot, seat, live, joined, place, home, op)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (person_key, kind, generation, dose, revision, place) do update
set live = appointment.live or excluded.live, joined = appointment.joined or excluded.joined,
    home = coalesce(excluded.home, appointment.home), op = coalesce(excluded.op, appointment.op)
"""
MINE = "where person_key = $1 and kind = $2 and generation = $3"
SEAT_ENDS = f"update appointment set live = false, ended_at = to_timestamp($6 / 1000.0) {MINE}"
SEAT_ENDS += " and dose = $4 and revision = $5 and place = $7"
SEAT_LEFT = f"update appointment set left_revision = $6 {MINE} and dose = $4 and revision = $5 and place = $7"
CHANGE = """
insert into change (person_key, kind, generation, revision, act, op, at)
values ($1, $2, $3, $4, $5::text::"char", $6, to_timestamp($7 / 1000.0))
"""
COURSE_CHANGES = f"""
update course set revision = $4, state = $5::text::"char",
    until = case when $6::bigint > 0 then to_timestamp($6 / 1000.0) end,
    cancelled_at = case when $5 = 'x' then to_timestamp($7 / 1000.0) end
{MINE}
"""
STATES = {b"c": "b", b"w": "h", b"v": "b", b"x": "x", b"e": "x"}
ADVANCE = "update partition set watermark = $2, digest = $3 where partition = $1"


async def persist(deployment: Deployment) -> None:
    """Write every event that is not in Postgres yet, then settle."""
    told = [(partition, event) async for partition, event in _events(deployment)]
    told.sort(key=lambda one: (one[1].at_ms, one[1].course.generation))
    async with deployment.pool.acquire() as connection, connection.transaction():
        for partition, event in told:
            await _write(connection, partition, event)
    for _, event in told:
        for partition, record in settlements(event, deployment.keyspace):
            await deployment.batcher.put(partition, record)
    if any(event.seats(codec.LEFT) for _, event in told):
        await persist(deployment)


async def _events(deployment: Deployment) -> AsyncIterator[tuple[int, codec.Event]]:
    for partition in range(deployment.keyspace.partitions):
        at = Position(deployment.epochs[partition], await deployment.watermark(partition))
        read = await Feed(deployment.nodes).read({partition: at}, 10_000)
        for entry in read.entries.get(partition, []):
            yield partition, codec.event(entry.payload)
            at = Position(at.epoch, entry.sequence)
            await deployment.pool.execute(ADVANCE, partition, at.sequence, digest_of(at, entry.payload))


async def _write(connection: Any, partition: int, event: codec.Event) -> None:
    course = event.course
    mine = course.person.hex(), course.kind, course.generation
    if event.type in codec.BEGINS:
        (first, *_) = event.seats(codec.TAKEN)
        told = event.until_ms, event.given_vaccine, event.given_day
        await connection.execute(
            COURSE, *mine, first.session, event.type.decode(), event.at_ms, event.op, *told
        )
    elif event.type in STATES:
        acted = event.revision, event.type.decode(), event.op, event.at_ms
        await connection.execute(CHANGE, *mine, *acted)
        state = event.revision, STATES[event.type], event.until_ms, event.at_ms
        await connection.execute(COURSE_CHANGES, *mine, *state)
    for entry in event.entries:
        await _write_seat(connection, partition, event, entry)


async def _write_seat(connection: Any, partition: int, event: codec.Event, entry: codec.Entry) -> None:
    course, seat = event.course, entry.appointment
    mine = course.person.hex(), course.kind, course.generation, seat.dose, seat.revision
    where = seat.session, seat.slot, seat.seat
    if event.type == b"a":
        await connection.execute(SEAT, *mine, *where, True, False, partition, seat.where, event.op)
    elif entry.verb == codec.TAKEN:
        await connection.execute(SEAT, *mine, *where, True, True, 255, None, None)
    elif entry.verb == codec.JOINED:
        await connection.execute(SEAT, *mine, *where, False, True, seat.where, None, None)
    if entry.verb == codec.RELEASED:
        await connection.execute(SEAT_ENDS, *mine, event.at_ms, partition if event.type == b"r" else 255)
    if entry.verb == codec.LEFT or (entry.verb == codec.RELEASED and event.type != b"r"):
        await connection.execute(SEAT_LEFT, *mine, event.revision, seat.where)
