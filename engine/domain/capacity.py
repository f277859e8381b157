"""Locations and sessions: where and when seats are sold."""

from datetime import date, datetime, timedelta

import msgspec

from engine.domain import seats


class Location(msgspec.Struct, frozen=True, gc=False):
    """A vaccination centre. ``lat``/``lon`` in degrees WGS84, ``zone`` an IANA time zone name.

    ``id`` is ours (a small positive integer), ``register_id`` the key in the register it came from.
    """

    id: int
    register_id: str
    name: str
    address: str
    postcode: str
    municipality: str
    department: str
    region: str
    lat: float
    lon: float
    zone: str


class Session(msgspec.Struct, frozen=True, gc=False):
    """One location, one day, one vaccine, from opening to closing.

    ``day`` is the date in the location's zone, ``starts_at`` the aware instant of slot 0; slot ``n``
    begins ``n * slot_minutes`` later in absolute time, so a change of daylight saving time moves none.
    """

    id: int
    location: int
    vaccine: str
    day: date
    starts_at: datetime
    slot_minutes: int
    slots: int
    lines: int

    @property
    def width(self) -> int:
        """Bytes that one slot takes in the seat mask."""
        return seats.width_of(self.lines)

    def slot_starts_at(self, slot: int) -> datetime:
        """Aware instant at which the slot begins."""
        return self.starts_at + timedelta(minutes=slot * self.slot_minutes)


class SessionPlan(msgspec.Struct, frozen=True, gc=False):
    """A session that is to be opened: as ``Session``, without an id, and with the seats on sale.

    ``seats`` is the packed mask (see ``engine.domain.seats``): a 0 bit is a seat that is not sold
    (a break in the opening hours, a seat that is held back).
    """

    location: int
    vaccine: str
    day: date
    starts_at: datetime
    slot_minutes: int
    slots: int
    lines: int
    seats: bytes
