"""Opaque references: what clients hold instead of person keys and course ids.

A reference is a prefix by kind, then its payload under AES-SIV (RFC 5297) in lower-case hexadecimal: it is
encrypted, because it carries what the campaign's rules need to know of a person, and authenticated with 128
bits over prefix and payload, so that one kind never passes for another. The same payload has the same, one
spelling. A forged, cut or foreign reference decodes to None, and nothing tells these apart.
"""

import struct

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

TAG_BYTES = 16
PERSON_PREFIX, BOOKING_PREFIX, OPERATION_PREFIX = "per_", "bkg_", "opr_"
ENTRY_PREFIX, OFFER_PREFIX = "wtl_", "off_"

_PERSON = struct.Struct("<16sHI")
_BOOKING = struct.Struct("<16sBIIHI")
_OPERATION = struct.Struct("<16sB16sQHI")
_ENTRY = struct.Struct("<Q")
_OFFER = struct.Struct("<QQ")


class PersonRef(msgspec.Struct, frozen=True, gc=False):
    """A registered person. ``born``: days since 1900-01-01; ``groups``: the declared ones as bits."""

    person: bytes
    born: int = 0
    groups: int = 0


class BookingRef(msgspec.Struct, frozen=True, gc=False):
    """A course, the location that knows it, and what rules know of its person."""

    person: bytes
    kind: int
    generation: int
    location: int
    born: int = 0
    groups: int = 0


class OperationRef(msgspec.Struct, frozen=True, gc=False):
    """A write whose outcome its caller never learned; it cannot happen after ``not_after_ms``."""

    person: bytes
    kind: int
    op: bytes
    not_after_ms: int
    born: int = 0
    groups: int = 0


class EntryRef(msgspec.Struct, frozen=True, gc=False):
    """An entry of the waitlist."""

    entry: int


class OfferRef(msgspec.Struct, frozen=True, gc=False):
    """An offer, and the entry that it is for."""

    offer: int
    entry: int


class References:
    """Encodes and decodes references under the deployment's key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def of_person(self, ref: PersonRef) -> str:
        """``per_...``."""
        return self._seal(PERSON_PREFIX, _PERSON.pack(ref.person, ref.born, ref.groups))

    def of_booking(self, ref: BookingRef) -> str:
        """``bkg_...``."""
        return self._seal(
            BOOKING_PREFIX,
            _BOOKING.pack(ref.person, ref.kind, ref.generation, ref.location, ref.born, ref.groups),
        )

    def of_operation(self, ref: OperationRef) -> str:
        """``opr_...``."""
        return self._seal(
            OPERATION_PREFIX,
            _OPERATION.pack(ref.person, ref.kind, ref.op, ref.not_after_ms, ref.born, ref.groups),
        )

    def of_entry(self, ref: EntryRef) -> str:
        """``wtl_...``."""
        return self._seal(ENTRY_PREFIX, _ENTRY.pack(ref.entry))

    def of_offer(self, ref: OfferRef) -> str:
        """``off_...``."""
        return self._seal(OFFER_PREFIX, _OFFER.pack(ref.offer, ref.entry))

    def entry(self, text: str) -> EntryRef | None:
        """The entry, or None where the reference was not made here."""
        payload = self._opened(ENTRY_PREFIX, text, _ENTRY.size)
        return None if payload is None else EntryRef(*_ENTRY.unpack(payload))

    def offer(self, text: str) -> OfferRef | None:
        """The offer, or None where the reference was not made here."""
        payload = self._opened(OFFER_PREFIX, text, _OFFER.size)
        return None if payload is None else OfferRef(*_OFFER.unpack(payload))

    def person(self, text: str) -> PersonRef | None:
        """The person, or None where the reference was not made here."""
        payload = self._opened(PERSON_PREFIX, text, _PERSON.size)
        return None if payload is None else PersonRef(*_PERSON.unpack(payload))

    def booking(self, text: str) -> BookingRef | None:
        """The booking, or None where the reference was not made here."""
        payload = self._opened(BOOKING_PREFIX, text, _BOOKING.size)
        return None if payload is None else BookingRef(*_BOOKING.unpack(payload))

    def operation(self, text: str) -> OperationRef | None:
        """The operation, or None where the reference was not made here."""
        payload = self._opened(OPERATION_PREFIX, text, _OPERATION.size)
        return None if payload is None else OperationRef(*_OPERATION.unpack(payload))

    def _seal(self, prefix: str, payload: bytes) -> str:
        return prefix + self._cipher.encrypt(payload, [prefix.encode()]).hex()

    def _opened(self, prefix: str, text: str, payload_bytes: int) -> bytes | None:
        if not text.startswith(prefix):
            return None
        sealed = _bytes_of(text[len(prefix) :], payload_bytes + TAG_BYTES)
        if sealed is None:
            return None
        try:
            return self._cipher.decrypt(sealed, [prefix.encode()])
        except InvalidTag:
            return None


def _bytes_of(text: str, size: int) -> bytes | None:
    """The ``size`` bytes that ``text`` spells; None where it spells none, or not in the one way."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if len(data) == size and data.hex() == text else None
