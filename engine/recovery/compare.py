"""Compares one reading of everything with itself, and names each difference. Pure: no store is asked here.

A difference is counted under one figure and belongs to one subject; the same subject found twice counts
once. The subjects are as small as possible (a seat, a course, a guard), so that on a moving system two
readings do not name the same subject for two passing reasons.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from engine import limits
from engine.domain.course import HERE
from engine.inventory import codec
from engine.recovery.compare_acks import lost
from engine.recovery.compare_seats import parts, seats_sold
from engine.recovery.differences import (
    HELD,
    STATES,
    Difference,
    course_words,
    is_live,
    packed,
    person_words,
    seats_words,
    split,
)
from engine.recovery.evidence import CourseRow, Evidence, Key, Stored


def compare(evidence: Evidence) -> list[Difference]:
    """Every difference, each subject of a figure once."""
    found: dict[tuple[object, ...], Difference] = {}
    for check in CHECKS:
        for difference in check(evidence):
            found.setdefault((difference.figure, *difference.subject), difference)
    return list(found.values())


# The outboxes -----------------------------------------------------------------------------------------------


def _sequences(evidence: Evidence) -> Iterator[Difference]:
    for partition, outbox in evidence.outboxes.items():
        where, committed = f"partition {partition}", outbox.committed
        if outbox.epoch != committed.epoch:
            words = f"{where} has epoch {committed.epoch} in Postgres, {outbox.epoch or 'none'} in Redis"
            yield Difference("drift", ("epoch", partition), words)
        elif outbox.end < committed.sequence:
            words = f"{where} ends at event {outbox.end} in Redis, Postgres has {committed.sequence}"
            yield Difference("drift", ("end", partition), words)
        elif outbox.end > committed.sequence and not evidence.is_moving:
            words = f"{where} ends at event {outbox.end}, Postgres has got as far as {committed.sequence}"
            yield Difference("drift", ("watermark", partition), words)
        if outbox.gap:
            yield Difference("drift", ("gap", partition), f"{where}: {outbox.gap}")


def _quarantined(evidence: Evidence) -> Iterator[Difference]:
    for partition, sequence, reason in evidence.quarantined:
        words = f"event {sequence} of partition {partition} broke a proof: {reason}"
        yield Difference("quarantined", (partition, sequence), words)


# Courses and appointments -----------------------------------------------------------------------------------


def _courses(evidence: Evidence) -> Iterator[Difference]:
    """Course records of Redis against the rows of Postgres."""
    for key, stored in evidence.courses.items():
        row = evidence.rows.get(key)
        state = stored.record[:1]
        if (row is None or not row.state) and state != b"t":
            words = f"{course_words(key)} is {STATES[state]} in Redis, Postgres does not have it"
            yield Difference("drift", ("course", key), words)
        elif row is not None and row.state and (why := _unlike(evidence, stored, row)):
            yield Difference("drift", ("course", key), f"{course_words(key)}: {why}")
    for key, row in evidence.rows.items():
        if row.state and key not in evidence.courses:
            words = f"{course_words(key)} is {STATES[row.state]} in Postgres, Redis does not have it"
            yield Difference("drift", ("course", key), words)
        elif not row.state and (row.live or row.appointments):
            words = f"Postgres has seats of {course_words(key)}, but not the course"
            yield Difference("drift", ("course", key), words)


def _unlike(evidence: Evidence, stored: Stored, row: CourseRow) -> str:
    """How a record and its rows differ; nothing if they do not."""
    record = codec.course(stored.record)
    if record.state != row.state:
        return f"{STATES[record.state]} in Redis, {STATES[row.state]} in Postgres"
    if record.op != row.op:
        return "booked by another op in Redis than in Postgres"
    if record.revision < row.revision:
        return f"revision {record.revision} in Redis, {row.revision} in Postgres"
    if (record.given_vaccine, record.given_day) != row.given:
        return "tells of another dose given elsewhere in Redis than in Postgres"
    appointments = packed(record.appointments)
    if appointments != row.appointments:
        return f"Redis has {seats_words(appointments)}, Postgres has {seats_words(row.appointments)}"
    here = packed([one for one in record.appointments if one.where == HERE]) if row.is_live else b""
    if row.live != here:
        return f"{STATES[row.state]}, but of its seats in Postgres these are live: {seats_words(row.live)}"
    if evidence.keyspace.of_location(row.location) != stored.partition:
        return f"found in partition {stored.partition}, location {row.location} lives in another"
    return ""


def _half_booked(evidence: Evidence) -> Iterator[Difference]:
    """Live courses with no seat, two for one dose, or less than the other store has."""
    for key, stored in evidence.courses.items():
        row = evidence.rows.get(key)
        if not is_live(stored.record):
            continue
        in_redis = packed(codec.course(stored.record).appointments)
        in_postgres = row.appointments if row is not None and row.is_live else in_redis
        for store, one, other in (("Redis", in_redis, in_postgres), ("Postgres", in_postgres, in_redis)):
            if not _is_whole(one, other):
                yield Difference(
                    "half_booked", (key,), f"{course_words(key)} has {seats_words(one)} in {store}"
                )


def _is_whole(appointments: bytes, other: bytes) -> bool:
    """A seat for each dose, and for all that the other store has."""
    doses = _doses(appointments)
    return bool(doses) and len(set(doses)) == len(doses) and set(doses) >= set(_doses(other))


def _doses(appointments: bytes) -> bytes:
    return appointments[:: codec.APPOINTMENT.size]


def _double_booked(evidence: Evidence) -> Iterator[Difference]:
    in_redis = [key for key, stored in evidence.courses.items() if is_live(stored.record)]
    in_postgres = [key for key, row in evidence.rows.items() if row.is_live]
    for store, keys in (("Redis", in_redis), ("Postgres", in_postgres)):
        live: defaultdict[bytes, list[Key]] = defaultdict(list)
        for key in keys:
            live[key[: codec.PERSON_KIND.size]].append(key)
        for guard, courses in live.items():
            if len(courses) > 1:
                generations = ", ".join(str(codec.course_field(key).generation) for key in sorted(courses))
                words = f"{person_words(guard)} has {len(courses)} live courses in {store}: {generations}"
                yield Difference("double_booked", (guard,), words)


def _holds(evidence: Evidence) -> Iterator[Difference]:
    """Held courses and their ends: in Redis, in Postgres, and by the clock."""
    held = {(s.partition, key) for key, s in evidence.courses.items() if s.record[:1] == HELD}
    for _, key in held - evidence.holds.keys():
        yield Difference("drift", ("hold", key), f"{course_words(key)} is held, and would never end")
    for (partition, key), until_ms in evidence.holds.items():
        row, outbox = evidence.rows.get(key), evidence.outboxes.get(partition)
        if (partition, key) not in held:
            yield Difference(
                "drift", ("hold", key), f"{course_words(key)} is among the holds, and is not held"
            )
        elif row is not None and row.state == HELD and row.until_ms != until_ms:
            words = f"{course_words(key)} is held until {until_ms} in Redis, {row.until_ms} in Postgres"
            yield Difference("drift", ("hold", key), words)
        elif (
            outbox is not None and (late_s := (outbox.now_ms - until_ms) // 1000) > limits.HOLD_OVERDUE_S_MAX
        ):
            words = f"{course_words(key)} is held, {late_s} s after its end"
            yield Difference("in_doubt", ("hold", key), words)


# Guards -----------------------------------------------------------------------------------------------------


def _guards(evidence: Evidence) -> Iterator[Difference]:
    """Guards against the courses that they stand for, and live courses against their guards."""
    for key, stored in evidence.guards.items():
        guard = codec.guard(stored.record)
        if guard.state in codec.CLAIMED:
            words = f"{person_words(key)} has claimed generation {guard.generation}, without an outcome"
            yield Difference("in_doubt", (key, guard.generation), words)
        elif guard.state == b"b":
            course = key + codec.GENERATION.pack(guard.generation)
            record = evidence.courses.get(course)
            if record is None or not is_live(record.record):
                words = f"the guard of {person_words(key)} says booked, {course_words(course)} is not"
                yield Difference("drift", ("guard", key, guard.generation), words)
            elif record.partition != evidence.keyspace.of_location(guard.location):
                named = f"the guard of {person_words(key)} names location {guard.location}"
                words = f"{named}, its course is elsewhere"
                yield Difference("drift", ("guard", key, guard.generation), words)
    for key, record in evidence.courses.items():
        if is_live(record.record) and (why := _unguarded(evidence, key)):
            yield Difference("drift", ("guard", *split(key)), f"{course_words(key)} is live, {why}")


def _unguarded(evidence: Evidence, key: Key) -> str:
    """What is wrong with the guard of a live course."""
    guard_key, generation = split(key)
    stored = evidence.guards.get(guard_key)
    if stored is None:
        return "and has no guard"
    guard = codec.guard(stored.record)
    if guard.generation != generation or guard.state == b"f":
        return f"its guard is {STATES[guard.state]} at generation {guard.generation}"
    if stored.partition != evidence.keyspace.of_person(guard_key[:16]):
        return f"its guard is in partition {stored.partition}, where it does not belong"
    return ""


CHECKS: tuple[Callable[[Evidence], Iterator[Difference]], ...] = (
    _sequences, _quarantined, _courses, _half_booked, _double_booked, _holds, parts, seats_sold, _guards,
    lost,
)  # fmt: skip
