"""The states of entries, lots and offers, as the database's CHECK constraints hold them."""

from enum import StrEnum


class Purpose(StrEnum):
    """What an entry is for: seats, or only being told where a place opens."""

    SEATS = "seats"
    ALERT = "alert"


class EntryState(StrEnum):
    """The first two wait; the others are final."""

    WAITING = "waiting"
    OFFERED = "offered"
    BOOKED = "booked"
    LEFT = "left"
    EXPIRED = "expired"


class LotState(StrEnum):
    """A lot goes through them in this order; it may skip any."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class OfferState(StrEnum):
    """The first three are live; the others are final."""

    OPENING = "opening"
    OPEN = "open"
    ACCEPTING = "accepting"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"
    GONE = "gone"
    WITHDRAWN = "withdrawn"
