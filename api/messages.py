"""What requests and answers say. Requests are strict: an unknown field or a wrong type is refused."""

from datetime import date, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

_Name = Annotated[str, Meta(min_length=1, max_length=100)]
_Reference = Annotated[str, Meta(min_length=1, max_length=100, description="as the API gave it")]


class PersonIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Who is to be vaccinated. The disambiguator tells apart people of the same names and birth date."""

    family_name: _Name
    given_names: _Name
    birth_date: date
    disambiguator: Annotated[str, Meta(max_length=64)] = ""
    email: Annotated[str, Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    phone: Annotated[str, Meta(max_length=24, pattern=r"^\+?[0-9][0-9 ().-]{4,22}$")] | None = None


class PersonOut(msgspec.Struct, frozen=True):
    """The reference that stands for the person from now on."""

    person: str


class SlotIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One dose's slot."""

    session: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    slot: Annotated[int, Meta(ge=0, le=2**16 - 1)]


class BookingIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Both doses of one person, at one location."""

    person: _Reference
    dose1: SlotIn
    dose2: SlotIn


class LocationOut(msgspec.Struct, frozen=True, gc=False):
    """A vaccination centre."""

    id: int
    name: str
    address: str
    postcode: str
    municipality: str


class AppointmentOut(msgspec.Struct, frozen=True, gc=False):
    """One seat. ``starts_at`` carries the location's offset."""

    dose: int
    session: int
    slot: int
    seat: int
    starts_at: datetime


class BookingOut(msgspec.Struct, frozen=True, gc=False):
    """A booking. ``status`` is ``booked`` or ``cancelled``."""

    booking: str
    status: str
    vaccine: str
    location: LocationOut
    appointments: list[AppointmentOut]


class OperationOut(msgspec.Struct, frozen=True, gc=False):
    """A write that is not decided (``pending``), or that booked nothing (``not-booked``)."""

    status: str
    operation: str | None = None


class ChoiceOut(msgspec.Struct, frozen=True, gc=False):
    """A slot that can be had, with the seats free in it."""

    session: int
    slot: int
    starts_at: datetime
    free: int


class PairOut(msgspec.Struct, frozen=True, gc=False):
    """Two slots that may be booked together."""

    dose1: ChoiceOut
    dose2: ChoiceOut


class NearLocationOut(LocationOut, frozen=True, gc=False):
    """A location and how far it is."""

    distance_km: float


class PlaceOut(msgspec.Struct, frozen=True, gc=False):
    """A location with a sample of its free pairs, the earliest first."""

    location: NearLocationOut
    vaccine: str
    pairs: list[PairOut]


class AvailabilityOut(msgspec.Struct, frozen=True, gc=False):
    """The nearest places with both doses free, as of an instant."""

    as_of: datetime
    places: list[PlaceOut]


class AlternativeOut(msgspec.Struct, frozen=True, gc=False):
    """A pair instead of the one that was refused."""

    location: NearLocationOut
    vaccine: str
    dose1: ChoiceOut
    dose2: ChoiceOut


class ReadyOut(msgspec.Struct, frozen=True, gc=False):
    """Whether this process takes bookings, and which partitions are closed, and why."""

    ready: bool
    closed: dict[str, str]
    board_age_s: float
    board_loaded: bool
