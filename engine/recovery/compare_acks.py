"""Compares what clients were told with what the stores have. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from engine.inventory import codec
from engine.recovery.acks import Ack
from engine.recovery.differences import HELD, STATES, Difference, course_words, packed, seats_words
from engine.recovery.evidence import Evidence, Key

# Acknowledgements that say that somebody has seats, and those of them that say for good.
BOOKINGS = frozenset({"book", "confirm", "move"})
PROMISES = BOOKINGS | {"hold"}


class Found(NamedTuple):
    """What a store has of a course."""

    store: str
    state: bytes
    revision: int
    appointments: bytes


def lost(evidence: Evidence) -> Iterator[Difference]:
    """Courses that are not as somebody was told that they are."""
    acks: defaultdict[Key, list[Ack]] = defaultdict(list)
    for ack in evidence.acks:
        acks[codec.COURSE.pack(ack.course.person, ack.course.kind, ack.course.generation)].append(ack)
    for key, told in acks.items():
        for found in _both(evidence, key):
            if why := _broken_promise(told, found):
                yield Difference("lost", (key,), f"{course_words(key)} {why} in {found.store}")


def _both(evidence: Evidence, key: Key) -> Iterator[Found]:
    stored, row = evidence.courses.get(key), evidence.rows.get(key)
    if stored is None:
        yield Found("Redis", b"", 0, b"")
    else:
        record = codec.course(stored.record)
        yield Found("Redis", record.state, record.revision, packed(record.appointments))
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
        else f"has other seats than were acknowledged: {seats_words(found.appointments)}"
    )
