"""Signed opaque references: what clients hold instead of person keys and course ids.

A reference is a prefix by kind, then payload and tag in lower-case hexadecimal (base32 would be a quarter
shorter, and cost five times as much on the way of every booking). The tag is 8 bytes of HMAC-SHA256 over
prefix and payload, so that one kind never passes for another. Each payload has exactly one spelling. A
forged, cut or foreign reference decodes to None, and nothing tells these apart.
"""

import hmac
import struct

import msgspec

TAG_BYTES = 8
PERSON_PREFIX, BOOKING_PREFIX, OPERATION_PREFIX = "per_", "bkg_", "opr_"

_PERSON = struct.Struct("<16s")
_BOOKING = struct.Struct("<16sBII")
_OPERATION = struct.Struct("<16sB16sQ")


class PersonRef(msgspec.Struct, frozen=True, gc=False):
    """A registered person."""

    person: bytes


class BookingRef(msgspec.Struct, frozen=True, gc=False):
    """A course, and the location that knows it."""

    person: bytes
    kind: int
    generation: int
    location: int


class OperationRef(msgspec.Struct, frozen=True, gc=False):
    """A write whose outcome its caller never learned; it cannot happen after ``not_after_ms``."""

    person: bytes
    kind: int
    op: bytes
    not_after_ms: int


class References:
    """Encodes and decodes references under the deployment's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of_person(self, ref: PersonRef) -> str:
        """``per_...``."""
        return self._sign(PERSON_PREFIX, _PERSON.pack(ref.person))

    def of_booking(self, ref: BookingRef) -> str:
        """``bkg_...``."""
        return self._sign(BOOKING_PREFIX, _BOOKING.pack(ref.person, ref.kind, ref.generation, ref.location))

    def of_operation(self, ref: OperationRef) -> str:
        """``opr_...``."""
        return self._sign(OPERATION_PREFIX, _OPERATION.pack(ref.person, ref.kind, ref.op, ref.not_after_ms))

    def person(self, text: str) -> PersonRef | None:
        """The person, or None where the reference was not made here."""
        payload = self._verified(PERSON_PREFIX, text, _PERSON.size)
        return None if payload is None else PersonRef(payload)

    def booking(self, text: str) -> BookingRef | None:
        """The booking, or None where the reference was not made here."""
        payload = self._verified(BOOKING_PREFIX, text, _BOOKING.size)
        return None if payload is None else BookingRef(*_BOOKING.unpack(payload))

    def operation(self, text: str) -> OperationRef | None:
        """The operation, or None where the reference was not made here."""
        payload = self._verified(OPERATION_PREFIX, text, _OPERATION.size)
        return None if payload is None else OperationRef(*_OPERATION.unpack(payload))

    def _tag(self, prefix: str, payload: bytes) -> bytes:
        return hmac.digest(self._key, prefix.encode() + payload, "sha256")[:TAG_BYTES]

    def _sign(self, prefix: str, payload: bytes) -> str:
        return prefix + (payload + self._tag(prefix, payload)).hex()

    def _verified(self, prefix: str, text: str, payload_bytes: int) -> bytes | None:
        if not text.startswith(prefix):
            return None
        signed = _bytes_of(text[len(prefix) :], payload_bytes + TAG_BYTES)
        if signed is None:
            return None
        payload, tag = signed[:payload_bytes], signed[payload_bytes:]
        return payload if hmac.compare_digest(tag, self._tag(prefix, payload)) else None


def _bytes_of(text: str, size: int) -> bytes | None:
    """The ``size`` bytes that ``text`` spells; None where it spells none, or not in the one way."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if len(data) == size and data.hex() == text else None
