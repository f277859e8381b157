"""One difference of an audit, the figures that differences are counted under, and the words for subjects."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from engine.domain.course import Appointment, Kind
from engine.inventory import codec
from engine.recovery.evidence import Key, Owner

Figure = Literal["oversold", "double_booked", "half_booked", "lost", "in_doubt", "quarantined", "drift"]
FIGURES: tuple[Figure, ...] = (
    "oversold", "double_booked", "half_booked", "lost", "in_doubt", "quarantined", "drift",
)  # fmt: skip
STATES = {
    b"b": "booked", b"h": "held", b"x": "cancelled", b"t": "given up", b"c": "claimed", b"f": "free",
    b"": "missing",
}  # fmt: skip
KINDS = {Kind.PRIMARY: "primary", Kind.BOOSTER: "booster", Kind.OFFER: "offer"}
HELD = b"h"
Seat = tuple[int, int, int]  # session, slot, seat


class Difference(NamedTuple):
    """One difference. Two readings found the same one if figure and subject are equal."""

    figure: Figure
    subject: tuple[object, ...]
    words: str


def packed(appointments: Iterable[Appointment]) -> bytes:
    """Appointments in the order of doses."""
    return codec.pack_appointments(sorted(appointments, key=lambda one: (one.dose, one.revision)))


def is_live(record: bytes) -> bool:
    """Whether the record is of a course that is booked or held."""
    return record[:1] in codec.LIVE_STATES


def split(key: Key) -> tuple[Key, int]:
    """The guard's key and the generation of a course's key."""
    (generation,) = codec.GENERATION.unpack_from(key, codec.PERSON_KIND.size)
    return key[: codec.PERSON_KIND.size], generation


def _kind(key: Key) -> Kind | None:
    number = key[16]
    return Kind(number) if number in KINDS else None


def person_words(key: Key) -> str:
    """Person and kind of a guard's or course's key."""
    kind = _kind(key)
    return f"person {key[:16].hex()[:8]} ({KINDS[kind] if kind else f'kind {key[16]}'})"


def course_words(key: Key) -> str:
    """A course."""
    return f"course {split(key)[1]} of {person_words(key)}"


def owner_words(owner: Owner) -> str:
    """The course that has a seat."""
    return course_words(owner[1 : 1 + codec.COURSE.size])


def part_words(owner: Owner, seat: Seat) -> str:
    """A seat, and the course that has it."""
    return f"{seat_words(*seat)} for {owner_words(owner)}"


def seat_words(session: int, slot: int, seat: int) -> str:
    """A seat."""
    return f"seat {seat} of session {session}, slot {slot}"


def seats_words(appointments: bytes) -> str:
    """Packed appointments."""
    unpacked = codec.appointments(appointments)
    return ", ".join(f"dose {a.dose} at {a.session}/{a.slot}/{a.seat}" for a in unpacked) or "no appointment"
