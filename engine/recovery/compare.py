"""Compares one reading of everything with itself, and names each difference. Pure: no store is asked here.

A difference is counted under one figure and belongs to one subject; the same subject found twice counts
once. The subjects are as small as possible (a seat, a course, a guard), so that on a moving system two
readings do not name the same subject for two passing reasons.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from engine import limits
from engine.domain.course import HERE, Appointment, Kind
from engine.domain.seats import is_free
from engine.inventory import codec
from engine.recovery.acks import Ack
from engine.recovery.evidence import CourseRow, Evidence, Key, Owner, SessionRow, Stored, owner_of

Figure = Literal["oversold", "double_booked", "half_booked", "lost", "in_doubt", "quarantined", "drift"]
FIGURES: tuple[Figure, ...] = (
    "oversold", "double_booked", "half_booked", "lost", "in_doubt", "quarantined", "drift",
)  # fmt: skip
STATES = {
    b"b": "booked", b"h": "held", b"x": "cancelled", b"t": "given up", b"c": "claimed", b"f": "free",
    b"": "missing",
}  # fmt: skip
HELD, SET_ASIDE = b"h", b"s"
KINDS = {Kind.PRIMARY: "primary", Kind.BOOSTER: "booster", Kind.OFFER: "offer"}
# Acknowledgements that say that somebody has seats, and those of them that say for good.
BOOKINGS = frozenset({"book", "confirm", "move"})
PROMISES = BOOKINGS | {"hold"}
Seat = tuple[int, int, int]  # session, slot, seat
Seats = dict[int, dict[tuple[int, int], Owner]]


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
        if (row is None or not row.state) and state != b"t":
            words = f"{_course(key)} is {STATES[state]} in Redis, Postgres does not have it"
            yield Difference("drift", ("course", key), words)
        elif row is not None and row.state and (why := _unlike(evidence, stored, row)):
            yield Difference("drift", ("course", key), f"{_course(key)}: {why}")
    for key, row in evidence.rows.items():
        if row.state and key not in evidence.courses:
            words = f"{_course(key)} is {STATES[row.state]} in Postgres, Redis does not have it"
            yield Difference("drift", ("course", key), words)
        elif not row.state and (row.live or row.appointments):
            words = f"Postgres has seats of {_course(key)}, but not the course"
            yield Difference("drift", ("seats", key), words)


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
    appointments = _packed(record.appointments)
    if appointments != row.appointments:
        return f"Redis has {_seats(appointments)}, Postgres has {_seats(row.appointments)}"
    here = _packed([one for one in record.appointments if one.where == HERE]) if row.is_live else b""
    if row.live != here:
        return f"{STATES[row.state]}, but of its seats in Postgres these are live: {_seats(row.live)}"
    if evidence.keyspace.of_location(row.location) != stored.partition:
        return f"found in partition {stored.partition}, location {row.location} lives in another"
    return ""


def _half_booked(evidence: Evidence) -> Iterator[Difference]:
    """Live courses with no seat, two for one dose, or less than the other store has."""
    for key, stored in evidence.courses.items():
        row = evidence.rows.get(key)
        if not _is_live(stored.record):
            continue
        in_redis = _packed(codec.course(stored.record).appointments)
        in_postgres = row.appointments if row is not None and row.is_live else in_redis
        for store, one, other in (("Redis", in_redis, in_postgres), ("Postgres", in_postgres, in_redis)):
            if not _is_whole(one, other):
                yield Difference("half_booked", (key,), f"{_course(key)} has {_seats(one)} in {store}")


def _is_whole(appointments: bytes, other: bytes) -> bool:
    """A seat for each dose, and for all that the other store has."""
    doses = _doses(appointments)
    return bool(doses) and len(set(doses)) == len(doses) and set(doses) >= set(_doses(other))


def _doses(appointments: bytes) -> bytes:
    return appointments[:: codec.APPOINTMENT.size]


def _double_booked(evidence: Evidence) -> Iterator[Difference]:
    in_redis = [key for key, stored in evidence.courses.items() if _is_live(stored.record)]
    in_postgres = [key for key, row in evidence.rows.items() if row.is_live]
    for store, keys in (("Redis", in_redis), ("Postgres", in_postgres)):
        live: defaultdict[bytes, list[Key]] = defaultdict(list)
        for key in keys:
            live[key[: codec.PERSON_KIND.size]].append(key)
        for guard, courses in live.items():
            if len(courses) > 1:
                generations = ", ".join(str(codec.course_field(key).generation) for key in sorted(courses))
                words = f"{_person(guard)} has {len(courses)} live courses in {store}: {generations}"
                yield Difference("double_booked", (guard,), words)


# Parts and holds --------------------------------------------------------------------------------------------


def _parts(evidence: Evidence) -> Iterator[Difference]:
    """Seats away from home: each against what its home lists, and against Postgres."""
    listed = {owner: seat for owner, seat in _owned_by_courses(evidence) if owner[0] != HERE}
    for owner, stored in evidence.parts.items():
        part, seat = codec.part(stored.record), _seat_of(stored)
        if part.state == SET_ASIDE:
            words = f"{_part(owner, seat)} is set aside, its home has not decided"
            yield Difference("in_doubt", ("part", owner), words)
        elif listed.get(owner) != seat:
            words = f"{_part(owner, seat)} is kept, its course does not list it"
            yield Difference("half_booked", ("part", owner), words)
    for owner, seat in listed.items():
        own = evidence.parts.get(owner)
        if own is None or _seat_of(own) != seat:
            words = f"{_part(owner, seat)} is listed by its course, and not kept for it"
            yield Difference("half_booked", ("part", owner), words)
    yield from _part_rows(evidence)


def _part_rows(evidence: Evidence) -> Iterator[Difference]:
    in_redis = {owner: _seat_of(stored) for owner, stored in evidence.parts.items()}
    in_postgres = {owner: (row.session, row.slot, row.seat) for owner, row in evidence.part_rows.items()}
    for owner in in_redis.keys() | in_postgres.keys():
        if in_redis.get(owner) != in_postgres.get(owner):
            told = (
                f"{_part(owner, seats[owner]) if owner in seats else 'nothing'} in {store}"
                for store, seats in (("Redis", in_redis), ("Postgres", in_postgres))
            )
            yield Difference("drift", ("part", owner), ", ".join(told))


def _seat_of(stored: Stored) -> Seat:
    part = codec.part(stored.record)
    return part.session, part.slot, part.seat


def _holds(evidence: Evidence) -> Iterator[Difference]:
    """Held courses and their ends: in Redis, in Postgres, and by the clock."""
    held = {(s.partition, key) for key, s in evidence.courses.items() if s.record[:1] == HELD}
    for _, key in held - evidence.holds.keys():
        yield Difference("drift", ("hold", key), f"{_course(key)} is held, and would never end")
    for (partition, key), until_ms in evidence.holds.items():
        row, outbox = evidence.rows.get(key), evidence.outboxes.get(partition)
        if (partition, key) not in held:
            yield Difference("drift", ("hold", key), f"{_course(key)} is among the holds, and is not held")
        elif row is not None and row.state == HELD and row.until_ms != until_ms:
            words = f"{_course(key)} is held until {until_ms} in Redis, {row.until_ms} in Postgres"
            yield Difference("drift", ("hold", key), words)
        elif (
            outbox is not None and (late_s := (outbox.now_ms - until_ms) // 1000) > limits.HOLD_OVERDUE_S_MAX
        ):
            words = f"{_course(key)} is held, {late_s} s after its end"
            yield Difference("in_doubt", ("hold", key), words)


# Seats ------------------------------------------------------------------------------------------------------


def _seats_sold(evidence: Evidence) -> Iterator[Difference]:
    """Seats sold twice or not on sale, then every stock against what is sold."""
    in_redis: Seats = {}
    in_postgres: Seats = {}
    yield from _sold_twice(in_redis, _owned_in_redis(evidence))
    yield from _sold_twice(in_postgres, _owned_in_postgres(evidence))
    for sold in (in_redis, in_postgres):
        for session, seats in sold.items():
            yield from _not_on_sale(session, seats, evidence.sessions.get(session))
    for session, row in evidence.sessions.items():
        yield from _stock(session, row, in_redis.get(session, {}))
    for name in evidence.strangers:
        yield Difference("drift", ("stock", name), f"Redis has {name.decode()}, Postgres has no such session")


def _owned_by_courses(evidence: Evidence) -> Iterator[tuple[Owner, Seat]]:
    for key, stored in evidence.courses.items():
        if _is_live(stored.record):
            for one in codec.course(stored.record).appointments:
                yield owner_of(key, one.where, one.dose, one.revision), (one.session, one.slot, one.seat)


def _owned_in_redis(evidence: Evidence) -> Iterator[tuple[Owner, Seat]]:
    """Every seat that somebody has. A course that lists a seat elsewhere and its part are one owner."""
    yield from _owned_by_courses(evidence)
    for owner, stored in evidence.parts.items():
        yield owner, _seat_of(stored)


def _owned_in_postgres(evidence: Evidence) -> Iterator[tuple[Owner, Seat]]:
    for key, row in evidence.rows.items():
        for packed in (row.live, row.appointments if row.is_live else b""):
            for dose, place, revision, *seat in codec.APPOINTMENT.iter_unpack(packed):
                yield owner_of(key, place, dose, revision), (seat[0], seat[1], seat[2])
    for owner, part in evidence.part_rows.items():
        yield owner, (part.session, part.slot, part.seat)


def _sold_twice(sold: Seats, owned: Iterable[tuple[Owner, Seat]]) -> Iterator[Difference]:
    """Fill ``sold``; every seat that has two owners."""
    for owner, (session, slot, seat) in owned:
        holder = sold.setdefault(session, {}).setdefault((slot, seat), owner)
        if holder != owner:
            words = f"{_seat(session, slot, seat)} is sold to {_owner(holder)} and to {_owner(owner)}"
            yield Difference("oversold", (session, slot, seat), words)


def _not_on_sale(
    session: int, seats: dict[tuple[int, int], Owner], row: SessionRow | None
) -> Iterator[Difference]:
    for (slot, seat), owner in seats.items():
        if row is None or not _has(row, slot, seat) or not is_free(row.on_sale, row.width, slot, seat):
            words = f"{_seat(session, slot, seat)} is sold to {_owner(owner)}, and is not on sale"
            yield Difference("oversold", (session, slot, seat), words)


def _has(row: SessionRow, slot: int, seat: int) -> bool:
    return seat < 8 * row.width and (slot + 1) * row.width <= len(row.on_sale)


def _stock(session: int, row: SessionRow, sold: dict[tuple[int, int], Owner]) -> Iterator[Difference]:
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
            if record is None or not _is_live(record.record):
                words = f"the guard of {_person(key)} says booked, {_course(course)} is not"
                yield Difference("drift", ("guard", key, guard.generation), words)
            elif record.partition != evidence.keyspace.of_location(guard.location):
                words = (
                    f"the guard of {_person(key)} names location {guard.location}, its course is elsewhere"
                )
                yield Difference("drift", ("guard", key, guard.generation), words)
    for key, record in evidence.courses.items():
        if _is_live(record.record) and (why := _unguarded(evidence, key)):
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


class Found(NamedTuple):
    """What a store has of a course."""

    store: str
    state: bytes
    revision: int
    appointments: bytes


def _lost(evidence: Evidence) -> Iterator[Difference]:
    acks: defaultdict[Key, list[Ack]] = defaultdict(list)
    for ack in evidence.acks:
        acks[codec.COURSE.pack(ack.course.person, ack.course.kind, ack.course.generation)].append(ack)
    for key, told in acks.items():
        for found in _both(evidence, key):
            if why := _broken_promise(told, found):
                yield Difference("lost", (key,), f"{_course(key)} {why} in {found.store}")


def _both(evidence: Evidence, key: Key) -> Iterator[Found]:
    stored, row = evidence.courses.get(key), evidence.rows.get(key)
    if stored is None:
        yield Found("Redis", b"", 0, b"")
    else:
        record = codec.course(stored.record)
        yield Found("Redis", record.state, record.revision, _packed(record.appointments))
    yield (
        Found("Postgres", row.state, row.revision, row.appointments)
        if row
        else Found("Postgres", b"", 0, b"")
    )


def _broken_promise(told: list[Ack], found: Found) -> str:
    """How a course breaks what was acknowledged; nothing if it does not."""
    ops, state = {ack.op for ack in told}, found.state
    if "cancel" in ops:
        return "" if state == b"x" else f"was acknowledged as cancelled, and is {STATES[state]}"
    if not ops & PROMISES:
        return ""
    promised = "booked" if ops & BOOKINGS else "held"
    if state == b"x":
        may_end = promised == "held" or "asking-cancel" in ops
        words = f"was acknowledged as {promised}, nobody was told of its cancellation, and it is cancelled"
        return "" if may_end else words
    if state != b"b" and (promised == "booked" or state != HELD):
        return f"was acknowledged as {promised}, and is {STATES[state]}"
    return _other_seats(told, found)


def _other_seats(told: list[Ack], found: Found) -> str:
    """The last revision that was acknowledged must be there, or a later one with the same seats.

    Only where somebody asks for a move without being told of it may the seats be others.
    """
    last = max((ack for ack in told if ack.appointments), key=lambda ack: ack.revision, default=None)
    if last is None:
        return ""
    if found.revision < last.revision:
        return f"was acknowledged at revision {last.revision}, and is at {found.revision}"
    seats = sorted((a.dose, a.session, a.slot, a.seat) for a in last.appointments)
    has = sorted((a.dose, a.session, a.slot, a.seat) for a in codec.appointments(found.appointments))
    may_differ = found.revision > last.revision and any(ack.op == "asking-move" for ack in told)
    return (
        ""
        if has == seats or may_differ
        else f"has other seats than were acknowledged: {_seats(found.appointments)}"
    )


CHECKS: tuple[Callable[[Evidence], Iterator[Difference]], ...] = (
    _sequences, _quarantined, _courses, _half_booked, _double_booked, _parts, _holds, _seats_sold, _guards,
    _lost,
)  # fmt: skip


# Words ------------------------------------------------------------------------------------------------------


def _packed(appointments: Iterable[Appointment]) -> bytes:
    """Appointments in the order of doses."""
    return codec.pack_appointments(sorted(appointments, key=lambda one: (one.dose, one.revision)))


def _is_live(record: bytes) -> bool:
    return record[:1] in codec.LIVE_STATES


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


def _owner(owner: Owner) -> str:
    return _course(owner[1 : 1 + codec.COURSE.size])


def _part(owner: Owner, seat: Seat) -> str:
    return f"{_seat(*seat)} for {_owner(owner)}"


def _seat(session: int, slot: int, seat: int) -> str:
    return f"seat {seat} of session {session}, slot {slot}"


def _seats(appointments: bytes) -> str:
    unpacked = codec.appointments(appointments)
    return ", ".join(f"dose {a.dose} at {a.session}/{a.slot}/{a.seat}" for a in unpacked) or "no appointment"
