"""Compares one reading of everything with itself, and names each difference. Pure: no store is asked here.

A difference is counted under one figure and belongs to one subject; the same subject found twice counts
once. The subjects are as small as possible (a seat, a course, a guard), so that on a moving system two
readings do not name the same subject for two passing reasons.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from engine.domain.course import Kind
from engine.domain.seats import is_free
from engine.inventory import codec
from engine.recovery.acks import Ack
from engine.recovery.evidence import CourseRow, Evidence, Key, SessionRow, Stored

Figure = Literal["oversold", "double_booked", "half_booked", "lost", "in_doubt", "quarantined", "drift"]
FIGURES: tuple[Figure, ...] = (
    "oversold", "double_booked", "half_booked", "lost", "in_doubt", "quarantined", "drift",
)  # fmt: skip
STATES = {b"b": "booked", b"x": "cancelled", b"t": "given up", b"c": "claimed", b"f": "free", b"": "missing"}
KINDS = {Kind.PRIMARY: "primary", Kind.BOOSTER: "booster"}
Seats = dict[int, dict[tuple[int, int], Key]]


class Difference(NamedTuple):
    """One difference. Two readings found the same one if figure and subject are equal."""

    figure: Figure
    subject: tuple[object, ...]
    words: str


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
        if row is None and state != b"t":
            words = f"{_course(key)} is {STATES[state]} in Redis, Postgres does not have it"
            yield Difference("drift", ("course", key), words)
        elif row is not None and (why := _unlike(evidence, stored, row)):
            yield Difference("drift", ("course", key), f"{_course(key)}: {why}")
    for key in evidence.rows.keys() - evidence.courses.keys():
        words = f"{_course(key)} is {STATES[evidence.rows[key].state]} in Postgres, Redis does not have it"
        yield Difference("drift", ("course", key), words)


def _unlike(evidence: Evidence, stored: Stored, row: CourseRow) -> str:
    """How a record and its rows differ; nothing if they do not."""
    state, op, appointments = _parts(stored.record)
    if state != row.state:
        return f"{STATES[state]} in Redis, {STATES[row.state]} in Postgres"
    if op != row.op:
        return "booked by another op in Redis than in Postgres"
    if appointments != row.appointments:
        return f"Redis has {_seats(appointments)}, Postgres has {_seats(row.appointments)}"
    if row.live != (row.appointments if state == b"b" else b""):
        return f"{STATES[state]}, but of its seats in Postgres these are live: {_seats(row.live)}"
    if evidence.keyspace.of_location(row.location) != stored.partition:
        return f"found in partition {stored.partition}, location {row.location} lives in another"
    return ""


def _half_booked(evidence: Evidence) -> Iterator[Difference]:
    for key, stored in evidence.courses.items():
        state, _, appointments = _parts(stored.record)
        if state == b"b" and not _is_whole(key, appointments):
            yield Difference("half_booked", (key,), f"{_course(key)} has {_seats(appointments)} in Redis")
    for key, row in evidence.rows.items():
        if row.state == b"b" and not _is_whole(key, row.live):
            yield Difference("half_booked", (key,), f"{_course(key)} has {_seats(row.live)} in Postgres")


def _is_whole(key: Key, appointments: bytes) -> bool:
    doses = appointments[:: codec.APPOINTMENT.size]
    return doses == b"\x01\x02" if key[16] == Kind.PRIMARY else len(doses) == 1


def _double_booked(evidence: Evidence) -> Iterator[Difference]:
    in_redis = [key for key, stored in evidence.courses.items() if stored.record[:1] == b"b"]
    in_postgres = [key for key, row in evidence.rows.items() if row.state == b"b"]
    for store, keys in (("Redis", in_redis), ("Postgres", in_postgres)):
        live: defaultdict[bytes, list[Key]] = defaultdict(list)
        for key in keys:
            live[key[: codec.PERSON_KIND.size]].append(key)
        for guard, courses in live.items():
            if len(courses) > 1:
                generations = ", ".join(str(codec.course_field(key).generation) for key in sorted(courses))
                words = f"{_person(guard)} has {len(courses)} live courses in {store}: {generations}"
                yield Difference("double_booked", (guard,), words)


# Seats ------------------------------------------------------------------------------------------------------


def _seats_sold(evidence: Evidence) -> Iterator[Difference]:
    """Seats sold twice or not on sale, then every stock against what is sold."""
    in_redis: Seats = {}
    in_postgres: Seats = {}
    records = ((k, _parts(s.record)[2]) for k, s in evidence.courses.items() if s.record[:1] == b"b")
    yield from _sold_twice(in_redis, records)
    yield from _sold_twice(in_postgres, ((key, row.live) for key, row in evidence.rows.items()))
    for sold in (in_redis, in_postgres):
        for session, seats in sold.items():
            yield from _not_on_sale(session, seats, evidence.sessions.get(session))
    for session, row in evidence.sessions.items():
        yield from _stock(session, row, in_redis.get(session, {}))
    for name in evidence.strangers:
        yield Difference("drift", ("stock", name), f"Redis has {name.decode()}, Postgres has no such session")


def _sold_twice(sold: Seats, courses: Iterable[tuple[Key, bytes]]) -> Iterator[Difference]:
    """Fill ``sold``; every seat that two live courses hold."""
    for key, packed in courses:
        for _, session, slot, seat in codec.APPOINTMENT.iter_unpack(packed):
            holder = sold.setdefault(session, {}).setdefault((slot, seat), key)
            if holder != key:
                words = f"{_seat(session, slot, seat)} is sold to {_course(holder)} and to {_course(key)}"
                yield Difference("oversold", (session, slot, seat), words)


def _not_on_sale(
    session: int, seats: dict[tuple[int, int], Key], row: SessionRow | None
) -> Iterator[Difference]:
    for (slot, seat), key in seats.items():
        if row is None or not _has(row, slot, seat) or not is_free(row.on_sale, row.width, slot, seat):
            words = f"{_seat(session, slot, seat)} is sold to {_course(key)}, and is not on sale"
            yield Difference("oversold", (session, slot, seat), words)


def _has(row: SessionRow, slot: int, seat: int) -> bool:
    return seat < 8 * row.width and (slot + 1) * row.width <= len(row.on_sale)


def _stock(session: int, row: SessionRow, sold: dict[tuple[int, int], Key]) -> Iterator[Difference]:
    """A stock must be the seats on sale without those that are sold."""
    if row.stock is None:
        yield Difference("drift", ("stock", session), f"session {session} has no stock in Redis")
        return
    state, width, mask = codec.stock(row.stock) if len(row.stock) > 1 else (b"", 0, b"")
    if state != b"o" or width != row.width or len(mask) != len(row.on_sale):
        yield Difference("drift", ("stock", session), f"the stock of session {session} has another shape")
        return
    wanted = bytearray(row.on_sale)
    for slot, seat in sold:
        if _has(row, slot, seat):
            wanted[slot * width + seat // 8] &= ~(1 << seat % 8) & 0xFF
    if mask != wanted:
        yield from _wrong_bits(session, width, mask, wanted)


def _wrong_bits(session: int, width: int, mask: bytes, wanted: bytearray) -> Iterator[Difference]:
    for at, (byte, good) in enumerate(zip(mask, wanted, strict=True)):
        for bit in range(8):
            if (byte ^ good) >> bit & 1:
                slot, seat = at // width, at % width * 8 + bit
                has = "free" if byte >> bit & 1 else "taken"
                why = "sold or not on sale" if has == "free" else "on sale and sold to nobody"
                words = f"{_seat(session, slot, seat)} is {has} in Redis, but {why}"
                yield Difference("drift", ("seat", session, slot, seat), words)


# Guards -----------------------------------------------------------------------------------------------------


def _guards(evidence: Evidence) -> Iterator[Difference]:
    """Guards against the courses that they stand for, and live courses against their guards."""
    for key, stored in evidence.guards.items():
        guard = codec.guard(stored.record)
        if guard.state in codec.CLAIMED:
            words = f"{_person(key)} has claimed generation {guard.generation}, without an outcome"
            yield Difference("in_doubt", (key, guard.generation), words)
        elif guard.state == b"b":
            course = key + codec.GENERATION.pack(guard.generation)
            record = evidence.courses.get(course)
            if record is None or record.record[:1] != b"b":
                words = f"the guard of {_person(key)} says booked, {_course(course)} is not"
                yield Difference("drift", ("guard", key, guard.generation), words)
            elif record.partition != evidence.keyspace.of_location(guard.location):
                words = (
                    f"the guard of {_person(key)} names location {guard.location}, its course is elsewhere"
                )
                yield Difference("drift", ("guard", key, guard.generation), words)
    for key, record in evidence.courses.items():
        if record.record[:1] == b"b" and (why := _unguarded(evidence, key)):
            yield Difference("drift", ("guard", *_split(key)), f"{_course(key)} is live, {why}")


def _unguarded(evidence: Evidence, key: Key) -> str:
    """What is wrong with the guard of a live course."""
    guard_key, generation = _split(key)
    stored = evidence.guards.get(guard_key)
    if stored is None:
        return "and has no guard"
    guard = codec.guard(stored.record)
    if guard.generation != generation or guard.state == b"f":
        return f"its guard is {STATES[guard.state]} at generation {guard.generation}"
    if stored.partition != evidence.keyspace.of_person(guard_key[:16]):
        return f"its guard is in partition {stored.partition}, where it does not belong"
    return ""


# Acknowledgements -------------------------------------------------------------------------------------------


def _lost(evidence: Evidence) -> Iterator[Difference]:
    acks: dict[Key, dict[str, Ack]] = {}
    for ack in evidence.acks:
        course = ack.course
        acks.setdefault(codec.COURSE.pack(course.person, course.kind, course.generation), {})[ack.op] = ack
    for key, by_op in acks.items():
        for store, state, appointments in _both(evidence, key):
            if why := _broken_promise(by_op, state, appointments):
                yield Difference("lost", (key,), f"{_course(key)} {why} in {store}")


def _both(evidence: Evidence, key: Key) -> Iterator[tuple[str, bytes, bytes]]:
    stored, row = evidence.courses.get(key), evidence.rows.get(key)
    state, _, appointments = _parts(stored.record) if stored else (b"", b"", b"")
    yield "Redis", state, appointments
    yield "Postgres", row.state if row else b"", row.appointments if row else b""


def _broken_promise(by_op: dict[str, Ack], state: bytes, appointments: bytes) -> str:
    """How a course breaks what was acknowledged; nothing if it does not."""
    if "cancel" in by_op:
        return "" if state == b"x" else f"was acknowledged as cancelled, and is {STATES[state]}"
    if state == b"x" and "asking-cancel" in by_op:
        return ""
    if state == b"x":
        return "was acknowledged as booked, nobody was told of its cancellation, and it is cancelled"
    if state != b"b":
        return f"was acknowledged as booked, and is {STATES[state]}"
    told = sorted((a.dose, a.session, a.slot, a.seat) for a in by_op["book"].appointments)
    if told != sorted(codec.APPOINTMENT.iter_unpack(appointments)):
        return f"has other seats than were acknowledged: {_seats(appointments)}"
    return ""


CHECKS: tuple[Callable[[Evidence], Iterator[Difference]], ...] = (
    _sequences, _quarantined, _courses, _half_booked, _double_booked, _seats_sold, _guards, _lost,
)  # fmt: skip


# Words ------------------------------------------------------------------------------------------------------


def _parts(record: bytes) -> tuple[bytes, bytes, bytes]:
    """State, op and appointments of a course record; the appointments in the order of doses."""
    state, op, count = codec.COURSE_RECORD.unpack_from(record)
    packed, size = record[codec.COURSE_RECORD.size :], codec.APPOINTMENT.size
    return state, op, b"".join(sorted(packed[at * size : (at + 1) * size] for at in range(count)))


def _split(key: Key) -> tuple[Key, int]:
    (generation,) = codec.GENERATION.unpack_from(key, codec.PERSON_KIND.size)
    return key[: codec.PERSON_KIND.size], generation


def _kind(key: Key) -> Kind | None:
    number = key[16]
    return Kind(number) if number in KINDS else None


def _person(key: Key) -> str:
    kind = _kind(key)
    return f"person {key[:16].hex()[:8]} ({KINDS[kind] if kind else f'kind {key[16]}'})"


def _course(key: Key) -> str:
    return f"course {_split(key)[1]} of {_person(key)}"


def _seat(session: int, slot: int, seat: int) -> str:
    return f"seat {seat} of session {session}, slot {slot}"


def _seats(appointments: bytes) -> str:
    unpacked = codec.APPOINTMENT.iter_unpack(appointments)
    return ", ".join(f"dose {d} at {s}/{slot}/{seat}" for d, s, slot, seat in unpacked) or "no appointment"
