"""What Redis has recorded against what the persister has written: courses, and who has which seat.

Both must be quiet, and everything persisted and settled that is to be compared.
"""

from collections.abc import AsyncIterator
from typing import Any

from engine.domain.course import HERE, CourseId
from engine.inventory import codec
from tests.deployment import Deployment

COURSES = "select uuid_send(person_key), kind, generation, state::text, revision, op from course"
COUNTED = """
select uuid_send(person_key), kind, generation, dose, session, slot, seat, revision, place from appointment
where joined and left_revision is null
"""
LIVE = "select session, slot, seat from appointment where live"


async def differences(deployment: Deployment) -> list[str]:
    """Every difference, in words."""
    found: list[str] = []
    rows = {CourseId(*row[:3]): tuple(row)[3:] for row in await deployment.rows(COURSES)}
    counted: dict[CourseId, set[Any]] = {}
    for row in await deployment.rows(COUNTED):
        counted.setdefault(CourseId(*row[:3]), set()).add(row[3:])
    live: list[tuple[int, int, int]] = []
    async for course, record in _records(deployment):
        if isinstance(record, codec.Part):
            live.append((record.session, record.slot, record.seat))
            continue
        if record.state in codec.LIVE_STATES:
            live += [(a.session, a.slot, a.seat) for a in record.appointments if a.where == HERE]
        found += _compare(course, record, rows.pop(course, None), counted.get(course, set()))
    found += [f"{course} is in Postgres alone" for course in rows]
    sold = sorted(await deployment.rows(LIVE))
    return found if sold == sorted(live) else [*found, f"live: {sold} in Postgres, {sorted(live)} in Redis"]


async def _records(deployment: Deployment) -> AsyncIterator[tuple[CourseId, Any]]:
    async for key in deployment.client.scan_iter(deployment.keyspace.all_people):
        for field, record in (await deployment.client.hgetall(key)).items():
            if codec.is_course(field) and record[:1] != b"t":
                yield codec.course_field(field), codec.course(record)
            elif codec.is_part(field) and record[:1] != b"x":
                part = codec.part_id(field)
                yield part.course, codec.part(record)


def _compare(course: CourseId, record: codec.CourseRecord, row: Any, counted: set[Any]) -> list[str]:
    if row is None:
        return [f"{course} is in Redis alone"]
    # A fence raises the revision in Redis without an event.
    same = (record.state.decode(), record.op) == (row[0], row[2]) and row[1] <= record.revision
    appointments = record.appointments if record.state in codec.LIVE_STATES else ()
    wanted = {(a.dose, a.session, a.slot, a.seat, a.revision, a.where) for a in appointments}
    return [] if same and wanted == counted else [f"{course}: {record} in Redis, {row} {counted} in Postgres"]
