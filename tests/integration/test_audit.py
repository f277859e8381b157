"""A planted drift of each class is found and named."""

import json
import sys
from asyncio import create_subprocess_exec, create_task, subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.booking.aside import Away
from engine.booking.hold import confirm
from engine.domain.course import Appointment, Course, CourseId, Kind
from engine.inventory import codec
from engine.privacy.references import BookingRef, References
from engine.privacy.secrets import open_secrets
from engine.recovery.acks import Ack, AckLogError, AckWriter, OpName, read_acks
from engine.recovery.audit import Audit, Report
from tests.deployment import LOCATIONS, Deployment, new_op, until
from tests.integration.conftest import MakeDeployment
from tests.world import person_key


@pytest.fixture
async def booked(deployment: Deployment) -> Deployment:
    """Two people booked at location 1, one at location 2, one cancelled; all of it in Postgres."""
    for person in (1, 2):
        await deployment.booked(person, 1)
    await deployment.booked(3, 2)
    await deployment.cancelled(await deployment.booked(4, 2))
    await deployment.persist()
    return deployment


def found(report: Report, **figures: int) -> list[str]:
    """The words of a report that has exactly these figures."""
    assert {name: count for name, count in report.figures.items() if count} == figures
    return [line for words in report.first.values() for line in words]


def course_key(deployment: Deployment, person: int, location: int) -> tuple[bytes, bytes]:
    partition, key = deployment.keyspace.of_location(location), person_key(person)
    return deployment.keyspace.prefix(partition) + b"person:" + key[:2], codec.COURSE.pack(key, 1, 1)


def guard_key(deployment: Deployment, person: int) -> tuple[bytes, bytes]:
    key = person_key(person)
    prefix = deployment.keyspace.prefix(deployment.keyspace.of_person(key))
    return prefix + b"person:" + key[:2], codec.PERSON_KIND.pack(key, 1)


def short(person: int) -> str:
    return person_key(person).hex()[:8]


async def set_course(deployment: Deployment, person: int, location: int, *seats: Appointment) -> None:
    """Write a course record that no script has written."""
    record = codec.pack_course(codec.CourseRecord(b"b", bytes(16), seats))
    await deployment.client.hset(*course_key(deployment, person, location), record)


async def test_nothing_differs(booked: Deployment) -> None:
    report = await booked.audit()
    assert found(report) == []
    assert (report.sessions, report.courses, report.readings) == (2 * LOCATIONS, 4, 1)


# Seats ------------------------------------------------------------------------------------------------------


async def test_a_sold_seat_is_free_again(booked: Deployment) -> None:
    session = booked.sessions(1)[0]
    await booked.client.setrange(booked.stock_key(session), 2, b"\x06")
    (words,) = found(await booked.audit(), drift=1)
    assert words == f"seat 1 of session {session}, slot 0 is free in Redis, but sold or not on sale"


async def test_a_free_seat_is_taken(booked: Deployment) -> None:
    session = booked.sessions(2)[1]
    await booked.client.setrange(booked.stock_key(session), 3, b"\x05")
    (words,) = found(await booked.audit(), drift=1)
    assert words == f"seat 1 of session {session}, slot 1 is taken in Redis, but on sale and sold to nobody"


async def test_a_stock_is_missing_torn_or_a_stranger(booked: Deployment) -> None:
    first, second = booked.sessions(3)
    await booked.client.delete(booked.stock_key(first))
    await booked.client.append(booked.stock_key(second), b"\x07")
    await booked.client.set(b"{p00}:session:77777", b"o\x01\x07")
    assert found(await booked.audit(), drift=3) == [
        f"session {first} has no stock in Redis",
        f"the stock of session {second} has another shape",
        "Redis has {p00}:session:77777, Postgres has no such session",
    ]


async def test_a_seat_is_sold_twice_in_redis(booked: Deployment) -> None:
    first, second = booked.sessions(1)
    await booked.register(9)
    await set_course(booked, 9, 1, Appointment(1, first, 0, 0), Appointment(2, second, 1, 1))
    report = await booked.audit()
    assert report.figures["oversold"] == 1
    assert report.figures["drift"] > 0
    (words,) = report.first["oversold"]
    assert words.startswith(f"seat 0 of session {first}, slot 0 is sold to course 1 of person {short(1)}")
    assert short(9) in words


async def test_a_seat_is_sold_twice_in_postgres(booked: Deployment) -> None:
    await booked.pool.execute("drop index appointment_one_live")
    await booked.pool.execute(
        "update appointment set seat = 0 where live and session = $1", booked.sessions(1)[1]
    )
    report = await booked.audit()
    assert (report.figures["oversold"], report.figures["drift"]) == (1, 1)


async def test_a_seat_is_sold_that_was_not_on_sale(booked: Deployment) -> None:
    session = booked.sessions(1)[0]
    await booked.pool.execute(r"update session set seats = '\x0607' where id = $1", session)
    (words,) = found(await booked.audit(), oversold=1)
    assert words.startswith(f"seat 0 of session {session}, slot 0 is sold to course 1 of person {short(1)}")


# Courses and guards -----------------------------------------------------------------------------------------


async def test_a_course_record_is_gone(booked: Deployment) -> None:
    await booked.client.hdel(*course_key(booked, 1, 1))
    words = found(await booked.audit(), drift=4)
    assert f"course 1 of person {short(1)} (primary) is booked in Postgres, Redis does not have it" in words
    assert any("the guard of person" in line for line in words)
    assert sum("sold to nobody" in line for line in words) == 2


async def test_a_course_is_gone_from_postgres(booked: Deployment) -> None:
    await booked.pool.execute("delete from course where person_key = $1", person_key(1).hex())
    words = found(await booked.audit(), drift=1)
    assert words == [f"course 1 of person {short(1)} (primary) is booked in Redis, Postgres does not have it"]


async def test_an_appointment_is_gone_from_postgres(booked: Deployment) -> None:
    await booked.pool.execute(
        "delete from appointment where person_key = $1 and dose = 2", person_key(1).hex()
    )
    words = found(await booked.audit(), half_booked=1, drift=1)
    first = booked.sessions(1)[0]
    assert words[-1].endswith(f"has dose 1 at {first}/0/0 in Postgres") or words[0].endswith("in Postgres")


async def test_half_a_course_in_redis(booked: Deployment) -> None:
    first, _ = booked.sessions(1)
    await set_course(booked, 1, 1, Appointment(1, first, 0, 0))
    report = await booked.audit()
    assert report.figures["half_booked"] == 1
    assert report.first["half_booked"] == [
        f"course 1 of person {short(1)} (primary) has dose 1 at {first}/0/0 in Redis"
    ]


async def test_a_cancelled_course_is_live_in_postgres(booked: Deployment) -> None:
    await booked.pool.execute("update course set state = 'b', cancelled_at = null where state = 'x'")
    report = await booked.audit()
    assert report.figures["drift"] == 1
    assert report.first["drift"] == [
        f"course 1 of person {short(4)} (primary): cancelled in Redis, booked in Postgres"
    ]


async def test_a_person_has_two_live_courses(booked: Deployment) -> None:
    first, second = booked.sessions(5)
    key, field = course_key(booked, 1, 5)
    seats = Appointment(1, first, 0, 0), Appointment(2, second, 0, 0)
    record = codec.pack_course(codec.CourseRecord(b"b", bytes(16), seats))
    await booked.client.hset(key, field[:17] + codec.GENERATION.pack(2), record)
    report = await booked.audit()
    assert report.figures["double_booked"] == 1
    assert report.first["double_booked"] == [f"person {short(1)} (primary) has 2 live courses in Redis: 1, 2"]


async def test_a_person_has_two_live_courses_in_postgres(booked: Deployment) -> None:
    await booked.pool.execute("drop index course_one_live")
    await booked.pool.execute(
        "insert into course (person_key, kind, generation, location, state, booked_at, op)"
        " select person_key, kind, 2, location, state, booked_at, op from course where person_key = $1",
        person_key(1).hex(),
    )
    assert (await booked.audit()).figures["double_booked"] == 1


async def test_a_guard_is_gone(booked: Deployment) -> None:
    await booked.client.hdel(*guard_key(booked, 1))
    (words,) = found(await booked.audit(), drift=1)
    assert words == f"course 1 of person {short(1)} (primary) is live, and has no guard"


async def test_a_guard_is_free_while_its_course_is_live(booked: Deployment) -> None:
    key, field = guard_key(booked, 1)
    record = await booked.client.hget(key, field)
    await booked.client.hset(key, field, b"f" + record[1:])
    (words,) = found(await booked.audit(), drift=1)
    assert words.endswith("is live, its guard is free at generation 1")


async def test_a_claim_without_an_outcome(booked: Deployment) -> None:
    record = codec.GUARD_RECORD.pack(b"c", 3, 1, bytes(16))
    await booked.client.hset(*guard_key(booked, 55), record)
    (words,) = found(await booked.audit(), in_doubt=1)
    assert words == f"person {short(55)} (primary) has claimed generation 3, without an outcome"


# Holds ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def held(booked: Deployment) -> Course:
    """A hold of person 8, in Postgres."""
    course = await booked.held(8, 5)
    await booked.persist()
    assert (await booked.audit()).is_clean
    return course


async def test_a_hold_that_would_never_end(booked: Deployment, held: Course) -> None:
    await booked.client.delete(booked.keyspace.holds(0))
    (words,) = found(await booked.audit(), drift=1)
    assert words == f"course 1 of person {short(8)} (primary) is held, and would never end"


async def test_a_hold_that_is_over_and_does_not_end(booked: Deployment, held: Course) -> None:
    (field,) = await booked.client.zrange(booked.keyspace.holds(0), 0, -1)
    await booked.client.zadd(booked.keyspace.holds(0), {field: held.until_ms - 700_000})
    await booked.pool.execute("update course set until = until - interval '700 s' where state = 'h'")
    (words,) = found(await booked.audit(), in_doubt=1)
    assert words.startswith(f"course 1 of person {short(8)} (primary) is held, 1")
    assert words.endswith(" s after its end")


async def test_a_hold_ends_at_another_time_in_postgres(booked: Deployment, held: Course) -> None:
    await booked.pool.execute("update course set until = until + interval '1 ms' where state = 'h'")
    (words,) = found(await booked.audit(), drift=1)
    assert words.endswith(f"is held until {held.until_ms} in Redis, {held.until_ms + 1} in Postgres")


async def test_a_course_among_the_holds_that_is_booked(booked: Deployment) -> None:
    _, field = course_key(booked, 1, 1)
    await booked.client.zadd(booked.keyspace.holds(0), {field: 2**50})
    (words,) = found(await booked.audit(), drift=1)
    assert words.endswith("is among the holds, and is not held")


async def test_a_hold_is_booked_in_postgres(booked: Deployment, held: Course) -> None:
    await booked.pool.execute("update course set state = 'b', until = null where state = 'h'")
    assert f"course 1 of person {short(8)} (primary): held in Redis, booked in Postgres" in found(
        await booked.audit(), drift=1
    )


async def test_a_person_who_has_booked_holds_as_well(booked: Deployment, held: Course) -> None:
    key, field = course_key(booked, 8, 5)
    record = await booked.client.hget(key, field)
    await booked.client.hset(key, field[:17] + codec.GENERATION.pack(2), b"b" + record[1:])
    assert (await booked.audit()).figures["double_booked"] == 1


# Changes ----------------------------------------------------------------------------------------------------


async def test_a_move_is_clean_before_and_after_a_fence(booked: Deployment, course: Course) -> None:
    """A fence raises the revision in Redis and tells nobody; the other way round a write is lost."""
    await booked.moved(course, {2})
    await booked.persist()
    assert (await booked.audit()).is_clean
    assert (await booked.batcher.put(0, codec.resolve(course.id, 2)))[:1] == b"B"
    assert (await booked.audit()).is_clean
    await booked.pool.execute("update course set revision = 4 where person_key = $1", person_key(7).hex())
    assert found(await booked.audit(), drift=1) == [
        f"course 1 of person {short(7)} (primary): revision 3 in Redis, 4 in Postgres"
    ]


async def test_a_move_that_postgres_has_half(booked: Deployment, course: Course) -> None:
    await booked.moved(course, {2}, Away(5, booked.wishes(5)[1]))
    await booked.persist()
    await booked.pool.execute(
        "update appointment set left_revision = 2, live = false where revision = 2 and person_key = $1",
        person_key(7).hex(),
    )
    words = found(await booked.audit(), half_booked=1, drift=1)
    first = course.appointments[0]
    assert f"{first.session}/{first.slot}/{first.seat} in Postgres" in words[0] + words[1]


async def test_a_seat_is_live_that_its_course_has_left(booked: Deployment, course: Course) -> None:
    await booked.moved(course, {2})
    await booked.persist()
    await booked.pool.execute("update appointment set live = true where left_revision = 2 and dose = 2")
    report = await booked.audit()
    assert any("of its seats in Postgres these are live" in words for words in report.first["drift"])


async def test_a_dose_given_elsewhere_is_told_otherwise(booked: Deployment) -> None:
    await booked.pool.execute(
        "update course set given_vaccine = 2, given_day = 9 where person_key = $1", person_key(1).hex()
    )
    (words,) = found(await booked.audit(), drift=1)
    assert words.endswith("tells of another dose given elsewhere in Redis than in Postgres")


# Seats elsewhere --------------------------------------------------------------------------------------------

HOME, THERE = 1, 2


@pytest.fixture
async def apart(make_deployment: MakeDeployment) -> Deployment:
    """Person 1 has dose 1 in partition 1, dose 2 in partition 2; all of it in Postgres, and clean."""
    deployment = await make_deployment(4)
    await deployment.split(1, HOME, THERE)
    await deployment.persist()
    assert (await deployment.audit()).is_clean
    return deployment


def part_key(deployment: Deployment, person: int = 1, revision: int = 1) -> tuple[bytes, bytes]:
    key = person_key(person)
    field = codec.part_field(codec.PartId(CourseId(key, 1, 1), 2, revision))
    return deployment.keyspace.bucket(THERE, key), field


async def test_the_part_of_a_course_is_gone(apart: Deployment) -> None:
    await apart.client.hdel(*part_key(apart))
    session = apart.sessions(THERE)[1]
    words = found(await apart.audit(), half_booked=1, drift=1)
    course = f"course 1 of person {short(1)} (primary)"
    assert (
        f"seat 0 of session {session}, slot 0 for {course} is listed by its course, and not kept for it"
        in words
    )
    assert f"nothing in Redis, seat 0 of session {session}, slot 0 for {course} in Postgres" in words


async def test_a_part_is_kept_that_its_course_does_not_list(apart: Deployment) -> None:
    key, field = course_key(apart, 1, HOME)
    record = codec.course(await apart.client.hget(key, field))
    kept = msgspec.structs.replace(record, appointments=record.appointments[:1])
    await apart.client.hset(key, field, codec.pack_course(kept))
    report = await apart.audit()
    assert report.figures["half_booked"] == 2
    assert any("is kept, its course does not list it" in words for words in report.first["half_booked"])


async def test_a_part_is_another_seat_than_its_course_lists(apart: Deployment) -> None:
    key, field = part_key(apart)
    record = codec.part(await apart.client.hget(key, field))
    await apart.client.hset(key, field, codec.pack_part(msgspec.structs.replace(record, seat=1)))
    assert (await apart.audit()).figures["half_booked"] == 1


async def test_a_part_that_nobody_has_decided_about(apart: Deployment) -> None:
    key, field = part_key(apart)
    record = await apart.client.hget(key, field)
    await apart.client.hset(key, field, b"s" + record[1:])
    (words,) = found(await apart.audit(), in_doubt=1)
    assert words.endswith("is set aside, its home has not decided")


async def test_a_seat_that_was_given_back_is_no_part_any_more(apart: Deployment) -> None:
    """Its record stays, so that no late copy has the seat again; somebody else may."""
    course = Course(CourseId(person_key(1), 1, 1), HOME, "booked", ())
    there = apart.wishes(THERE)[1]
    await apart.moved(course, {2}, Away(HOME, apart.wishes(HOME)[1]))
    await apart.split(2, HOME, THERE)
    await apart.persist()
    key, field = part_key(apart)
    assert codec.part(await apart.client.hget(key, field)).state == b"x"
    sold = await apart.rows("select slot, seat from appointment where live and place = 2")
    assert sold == [(there.slot, 0)]
    assert (await apart.audit()).is_clean


async def test_a_part_that_postgres_does_not_have(apart: Deployment) -> None:
    await apart.pool.execute("update appointment set live = false where place = 2")
    (words,) = found(await apart.audit(), drift=1)
    assert words.endswith("in Redis, nothing in Postgres")


async def test_a_part_that_its_course_does_not_count_in_postgres(apart: Deployment) -> None:
    await apart.pool.execute("update appointment set joined = false where place = 2")
    found(await apart.audit(), half_booked=1, drift=1)


async def test_the_seat_of_a_part_is_free_again(apart: Deployment) -> None:
    session = apart.sessions(THERE)[1]
    await apart.client.setrange(apart.stock_key(session), 2, b"\x07")
    (words,) = found(await apart.audit(), drift=1)
    assert words == f"seat 0 of session {session}, slot 0 is free in Redis, but sold or not on sale"


@pytest.mark.parametrize("state", [b"s", b"b"], ids=["set-aside", "kept"])
async def test_the_seat_of_a_part_is_sold_twice(apart: Deployment, state: bytes) -> None:
    session = apart.sessions(THERE)[1]
    key, field = part_key(apart, 2)
    await apart.client.hset(key, field, codec.pack_part(codec.Part(state, HOME, bytes(16), session, 0, 0)))
    report = await apart.audit()
    assert report.figures["oversold"] == 1
    assert report.first["oversold"][0].startswith(f"seat 0 of session {session}, slot 0 is sold to course 1")


async def test_the_seat_of_a_part_is_sold_twice_in_postgres(apart: Deployment) -> None:
    session = apart.sessions(THERE)[1]
    await apart.booked(3, THERE, (1, 1))
    await apart.persist()
    await apart.pool.execute("drop index appointment_one_live")
    await apart.pool.execute("update appointment set slot = 0, seat = 0 where session = $1", session)
    assert (await apart.audit()).figures["oversold"] == 1


async def test_the_seat_of_a_part_is_not_on_sale(apart: Deployment) -> None:
    session = apart.sessions(THERE)[1]
    await apart.pool.execute(r"update session set seats = '\x0607' where id = $1", session)
    assert f"seat 0 of session {session}, slot 0 is sold to" in found(await apart.audit(), oversold=1)[0]


# Outboxes ---------------------------------------------------------------------------------------------------


async def test_an_event_is_missing(booked: Deployment) -> None:
    await booked.client.xdel(booked.keyspace.outbox(0), "1-1")
    (words,) = found(await booked.audit(), drift=1)
    assert words == "partition 0: the outbox goes on with 1-2 where 1-1 must come: events are missing"


async def test_an_event_never_reached_postgres(booked: Deployment) -> None:
    await booked.booked(9, 3)
    report = await booked.audit()
    assert "partition 0 ends at event 5, Postgres has got as far as 4" in report.first["drift"]


async def test_postgres_is_ahead_of_redis(booked: Deployment) -> None:
    await booked.pool.execute("update partition set watermark = 9")
    assert "partition 0 ends at event 4 in Redis, Postgres has 9" in found(await booked.audit(), drift=1)


async def test_an_event_in_quarantine(booked: Deployment) -> None:
    await booked.add(0, b"nonsense")
    await booked.persist()
    assert found(await booked.audit(), quarantined=1) == ["event 5 of partition 0 broke a proof: unreadable"]


# Acknowledgements -------------------------------------------------------------------------------------------


def log(path: Path, *acks: Ack) -> Path:
    with AckWriter(path) as writer:
        for ack in acks:
            writer.by_course(ack)
    return path


def ack_of(course: Course, op: OpName = "book", *appointments: Appointment) -> Ack:
    return Ack(op, course.id, course.location, appointments or course.appointments, 1, course.revision)


@pytest.fixture
async def course(booked: Deployment) -> Course:
    """A course of person 7 and its acknowledgement's source."""
    course = await booked.booked(7, 4)
    await booked.persist()
    return course


async def test_what_was_acknowledged_is_there(booked: Deployment, course: Course, tmp_path: Path) -> None:
    assert (await booked.audit(log(tmp_path / "acks", ack_of(course)))).is_clean
    await booked.cancelled(course)
    await booked.persist()
    assert (await booked.audit(log(tmp_path / "acks", ack_of(course, "cancel")))).is_clean


async def test_an_acknowledged_course_is_nowhere(booked: Deployment, tmp_path: Path) -> None:
    ack = Ack("book", CourseId(person_key(77), Kind.PRIMARY, 1), 1, (Appointment(1, 1, 0, 0),), 1)
    (words,) = found(await booked.audit(log(tmp_path / "acks", ack)), lost=1)
    assert (
        words
        == f"course 1 of person {short(77)} (primary) was acknowledged as booked, and is missing in Redis"
    )


async def test_an_acknowledged_course_has_other_seats(
    booked: Deployment, course: Course, tmp_path: Path
) -> None:
    other = (Appointment(1, course.appointments[0].session, 1, 1), course.appointments[1])
    (words,) = found(await booked.audit(log(tmp_path / "acks", ack_of(course, "book", *other))), lost=1)
    assert "has other seats than were acknowledged" in words


async def test_a_cancellation_that_nobody_was_told_of(
    booked: Deployment, course: Course, tmp_path: Path
) -> None:
    await booked.cancelled(course)
    await booked.persist()
    (words,) = found(await booked.audit(log(tmp_path / "acks", ack_of(course))), lost=1)
    assert "nobody was told of its cancellation" in words


async def test_an_acknowledged_cancellation_is_still_live(
    booked: Deployment, course: Course, tmp_path: Path
) -> None:
    path = log(tmp_path / "acks", ack_of(course), ack_of(course, "cancel"))
    (words,) = found(await booked.audit(path), lost=1)
    assert "was acknowledged as cancelled, and is booked" in words


async def test_an_acknowledged_course_is_gone_from_postgres_only(
    booked: Deployment, course: Course, tmp_path: Path
) -> None:
    await booked.pool.execute("delete from course where person_key = $1", person_key(7).hex())
    words = found(await booked.audit(log(tmp_path / "acks", ack_of(course))), lost=1, drift=1)
    assert any("is missing in Postgres" in line for line in words)


async def test_a_log_of_references(course: Course, tmp_path: Path) -> None:
    references = References(bytes(32))
    reference = references.of_booking(BookingRef(course.id.person, 1, course.id.generation, course.location))
    with AckWriter(tmp_path / "acks") as writer:
        writer.by_reference("book", reference, course.appointments, 5)
    (ack,) = read_acks([tmp_path / "acks"], references.booking)
    assert ack == Ack("book", course.id, course.location, course.appointments, 5)
    with pytest.raises(AckLogError, match="acks:1: the reference was not made by this deployment"):
        list(read_acks([tmp_path / "acks"], References(bytes(31) + b"1").booking))


def test_a_line_cut_by_a_crash_is_ignored_a_broken_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "acks"
    path.write_bytes(b'{"op": "cancel", "booking": "x')
    assert list(read_acks([path], lambda text: None)) == []
    path.write_bytes(b'{"op": "cancel"\n')
    with pytest.raises(AckLogError, match="acks:1"):
        list(read_acks([path], lambda text: None))


# Acknowledged holds and moves -------------------------------------------------------------------------------


async def test_an_acknowledged_hold_that_ended_is_not_lost(
    booked: Deployment, held: Course, tmp_path: Path
) -> None:
    acks = log(tmp_path / "acks", ack_of(held, "hold"))
    assert (await booked.audit(acks)).is_clean
    await booked.cancelled(held)
    await booked.persist()
    assert (await booked.audit(acks)).is_clean


async def test_an_acknowledged_hold_is_nowhere(booked: Deployment, tmp_path: Path) -> None:
    ack = Ack("hold", CourseId(person_key(77), Kind.PRIMARY, 1), 1, (Appointment(1, 1, 0, 0),), 1)
    (words,) = found(await booked.audit(log(tmp_path / "acks", ack)), lost=1)
    assert words.endswith("was acknowledged as held, and is missing in Redis")


async def test_an_acknowledged_confirmation_is_held_or_has_ended(
    booked: Deployment, held: Course, tmp_path: Path
) -> None:
    acks = log(tmp_path / "acks", ack_of(held, "hold"), ack_of(held, "confirm"))
    (words,) = found(await booked.audit(acks), lost=1)
    assert "was acknowledged as booked, and is held in Redis" in words
    await booked.cancelled(held)
    await booked.persist()
    found(await booked.audit(acks), lost=1)


async def test_an_acknowledged_confirmation_is_there(
    booked: Deployment, held: Course, tmp_path: Path
) -> None:
    await booked.run(confirm([held.id], held.location, new_op(), booked.placement))
    await booked.persist()
    acks = log(tmp_path / "acks", ack_of(held, "hold"), ack_of(held, "confirm"))
    assert (await booked.audit(acks)).is_clean


async def test_an_acknowledged_move_is_there_and_a_lost_one_is_named(
    booked: Deployment, course: Course, tmp_path: Path
) -> None:
    moved = await booked.moved(course, {2}, Away(5, booked.wishes(5)[1]))
    await booked.persist()
    acks = log(tmp_path / "acks", ack_of(course), ack_of(moved, "move"))
    assert (await booked.audit(acks)).is_clean
    later = msgspec.structs.replace(moved, revision=3)
    (words,) = found(await booked.audit(log(tmp_path / "late", ack_of(later, "move"))), lost=1)
    assert "was acknowledged at revision 3, and is at 2" in words


async def test_seats_that_changed_without_anybody_asking(
    booked: Deployment, course: Course, tmp_path: Path
) -> None:
    await booked.moved(course, {2}, Away(5, booked.wishes(5)[1]))
    await booked.persist()
    (words,) = found(await booked.audit(log(tmp_path / "acks", ack_of(course))), lost=1)
    assert "has other seats than were acknowledged" in words
    asked = log(tmp_path / "asked", ack_of(course), ack_of(course, "asking-move"))
    assert (await booked.audit(asked)).is_clean


# A moving system, and the command ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partitions", "masters"), [(1, 1), (4, 1), (4, 3)], ids=["one-partition", "one-server", "three-masters"]
)
async def test_a_system_that_moves_is_clean(
    make_deployment: MakeDeployment, partitions: int, masters: int
) -> None:
    """People book and cancel all the time; what differs in passing is not counted."""
    deployment = await make_deployment(partitions, masters)
    persister = deployment.persister()
    working = create_task(persister.run())
    moving = create_task(_move(deployment))

    async def is_under_way() -> bool:
        # Not "all is persisted": while people book, that moment may never be looked at.
        return min([await deployment.watermark(p) for p in range(partitions)]) >= 0

    await until(is_under_way, working, moving)
    reports = [await deployment.audit() for _ in range(3)]
    moving.cancel()
    persister.stop()
    await working
    assert all(report.is_clean for report in reports), [report.first for report in reports]


async def _move(deployment: Deployment) -> None:
    person = 0
    while True:
        person += 1
        course = await deployment.booked(person, person % LOCATIONS + 1)
        await deployment.cancelled(course)


async def test_the_command(booked: Deployment, course: Course, tmp_path: Path) -> None:
    secrets = open_secrets(tmp_path / "secrets")
    references = References(secrets.reference_key)
    reference = references.of_booking(BookingRef(course.id.person, 1, course.id.generation, course.location))
    with AckWriter(tmp_path / "acks") as writer:
        writer.by_reference("book", reference, course.appointments, 5)
    status, report = await _command(booked, tmp_path)
    assert status == 0
    assert report["acknowledged"] == 1
    await booked.client.hdel(*guard_key(booked, 7))
    status, report = await _command(booked, tmp_path)
    assert status == 1
    assert report["figures"]["drift"] == 1


async def _command(deployment: Deployment, folder: Path) -> tuple[int, dict[str, Any]]:
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "engine.cli", "audit", "--acks", str(folder / "acks")),
        *("--json", str(folder / "report"), "--redis-url", deployment.redis_url),
        *("--database-url", deployment.database_url),
        env={"DOSEBOOK_SECRETS_DIR": str(folder / "secrets")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    status = await process.wait()
    report: dict[str, Any] = json.loads((folder / "report").read_text())
    return status, report


async def test_it_waits_no_longer_than_postgres_comes_nearer(booked: Deployment) -> None:
    await booked.booked(9, 3)
    async with booked.pool.acquire() as connection:
        said: list[str] = []
        await Audit(connection, booked.nodes, say=said.append).run()
    assert "Postgres does not come nearer: compared as it is" in said
