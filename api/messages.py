"""What requests and answers say. Requests are strict: an unknown field or a wrong type is refused."""

from datetime import date, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine import limits

_Name = Annotated[str, Meta(min_length=1, max_length=100)]
_Code = Annotated[str, Meta(min_length=1, max_length=40)]
_Reference = Annotated[str, Meta(min_length=1, max_length=200, description="as the API gave it")]
_Time = Annotated[
    str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$", description="as 17:00, or 17:00:00")
]
KindName = Literal["primary", "booster"]

# Requests --------------------------------------------------------------------------------------------------


class PersonIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Who is to be vaccinated. The disambiguator tells apart people of the same names and birth date.

    ``groups`` are those of the campaign that the person declares, by their codes.
    """

    family_name: _Name
    given_names: _Name
    birth_date: date
    disambiguator: Annotated[str, Meta(max_length=64)] = ""
    email: Annotated[str, Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    phone: Annotated[str, Meta(max_length=24, pattern=r"^\+?[0-9][0-9 ().-]{4,22}$")] | None = None
    groups: Annotated[list[_Code], Meta(max_length=limits.GROUPS_MAX)] = []


class HomonymIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Somebody whom the helpline tells apart from a namesake, and why it may."""

    who: PersonIn
    agent: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9._-]+$")]
    reason: Annotated[str, Meta(min_length=10, max_length=500)]


class SlotIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One dose's slot."""

    session: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    slot: Annotated[int, Meta(ge=0, le=2**16 - 1)]


class GivenIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The last dose, given elsewhere, as the person declares it."""

    vaccine: _Code
    day: Annotated[date, Meta()]


class BookingIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One person's course: both doses, one of them, or a booster, which is ``dose1`` of its own kind.

    ``hold`` sets the seats aside for a few minutes instead of booking them.
    """

    person: _Reference
    dose1: SlotIn | None = None
    dose2: SlotIn | None = None
    kind: KindName = "primary"
    given: GivenIn | None = None
    hold: bool = False


class MemberIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One member of a household."""

    person: _Reference
    dose1: SlotIn | None = None
    dose2: SlotIn | None = None
    given: GivenIn | None = None


class HouseholdIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """People who book together at one location: all of them or none."""

    members: Annotated[list[MemberIn], Meta(min_length=1, max_length=limits.HOUSEHOLD_MAX)]
    kind: KindName = "primary"
    hold: bool = False


class BookingsIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Holds of a household that are confirmed or prolonged together."""

    bookings: Annotated[list[_Reference], Meta(min_length=1, max_length=limits.HOUSEHOLD_MAX)]


class MoveIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Where doses of a booking go. What is left out stays where it is."""

    dose1: SlotIn | None = None
    dose2: SlotIn | None = None


class NearIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Around where: a postcode, or both degrees WGS84."""

    postcode: Annotated[str, Meta(min_length=5, max_length=5)] | None = None
    lat: Annotated[float, Meta(ge=-90, le=90)] | None = None
    lon: Annotated[float, Meta(ge=-180, le=180)] | None = None
    radius_km: Annotated[float, Meta(gt=0, le=limits.RADIUS_KM_MAX)] = 10.0


class WhenIn(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    gc=False,
    rename={"day_min": "from", "day_max": "to"},
):
    """When a dose would suit, in the location's time. Days are included; weekdays count from Monday = 1."""

    day_min: date | None = None
    day_max: date | None = None
    weekdays: Annotated[list[Annotated[int, Meta(ge=1, le=7)]], Meta(min_length=1, max_length=7)] | None = (
        None
    )
    after: _Time | None = None
    before: _Time | None = None


class SomeoneIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One of the people for whom something is looked for."""

    person: _Reference
    given: GivenIn | None = None


class PreferenceIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What people would like: the earliest, or the nearest, that suits them.

    ``same_time_minutes``: dose 2 that close to dose 1's time of day. ``elsewhere``: dose 2 may be at another
    location.
    """

    people: Annotated[list[SomeoneIn], Meta(min_length=1, max_length=limits.HOUSEHOLD_MAX)]
    near: NearIn
    kind: KindName = "primary"
    order: Literal["earliest", "nearest"] = "earliest"
    vaccines: Annotated[list[_Code], Meta(min_length=1, max_length=16)] | None = None
    dose1: WhenIn = WhenIn()
    dose2: WhenIn = WhenIn()
    same_time_minutes: Annotated[int, Meta(ge=0, le=720)] | None = None
    elsewhere: bool = False
    hold: bool = False


class EntryIn(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    gc=False,
    rename={"day_min": "from", "day_max": "to"},
):
    """For what people wait: all of them together, near a place, on some days. ``alert`` only tells them."""

    people: Annotated[list[SomeoneIn], Meta(min_length=1, max_length=limits.WAITLIST_PEOPLE_MAX)]
    near: NearIn
    kind: KindName = "primary"
    vaccines: Annotated[list[_Code], Meta(min_length=1, max_length=limits.WAITLIST_VACCINES_MAX)] | None = (
        None
    )
    day_min: date | None = None
    day_max: date | None = None
    weekdays: Annotated[list[Annotated[int, Meta(ge=1, le=7)]], Meta(min_length=1, max_length=7)] | None = (
        None
    )
    alert: bool = False


# Answers ---------------------------------------------------------------------------------------------------


class PersonOut(msgspec.Struct, frozen=True):
    """The reference that stands for the person from now on."""

    person: str


class LocationOut(msgspec.Struct, frozen=True, gc=False):
    """A vaccination centre."""

    id: int
    name: str
    address: str
    postcode: str
    municipality: str


class AppointmentOut(msgspec.Struct, frozen=True, gc=False):
    """One seat. ``starts_at`` carries the location's offset; ``location`` is its id."""

    dose: int
    session: int
    slot: int
    seat: int
    starts_at: datetime
    location: int


class AppointmentAtOut(msgspec.Struct, frozen=True, gc=False):
    """One dose's slot, before a seat is taken in it."""

    dose: int
    session: int
    slot: int
    starts_at: datetime


class BookingOut(msgspec.Struct, frozen=True, gc=False):
    """A booking. ``status``: ``booked``, ``held``, ``cancelled``, or ``expired`` for a hold that is over.

    ``elsewhere``: the other locations at which appointments are. ``hold_until``: when a hold ends.
    """

    booking: str
    status: str
    vaccine: str
    location: LocationOut
    appointments: list[AppointmentOut]
    elsewhere: list[LocationOut] | UnsetType = UNSET
    hold_until: datetime | UnsetType = UNSET


class HouseholdOut(msgspec.Struct, frozen=True, gc=False):
    """The bookings of a household, in the order of its members."""

    bookings: list[BookingOut]


class HoldOut(msgspec.Struct, frozen=True, gc=False):
    """A hold that was prolonged."""

    hold_until: datetime


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
    """What may be booked instead, by one person: the doses that were asked for, at one location or at two."""

    location: NearLocationOut
    vaccine: str
    dose1: ChoiceOut | UnsetType = UNSET
    dose2: ChoiceOut | UnsetType = UNSET
    location2: LocationOut | UnsetType = UNSET


class PlansOut(msgspec.Struct, frozen=True, gc=False):
    """What was found for a preference: for each way, what each of the people may book."""

    as_of: datetime
    plans: list[list[AlternativeOut]]


class EntryRefOut(msgspec.Struct, frozen=True):
    """The reference of an entry of the waitlist."""

    entry: str


class PlaceInLineOut(msgspec.Struct, frozen=True):
    """Entries ``before`` this one that want places near it; ``or_more`` where counting ended."""

    before: int
    or_more: bool


class WishedOut(msgspec.Struct, frozen=True, gc=False):
    """What one person is offered."""

    location: LocationOut
    vaccine: str
    doses: list[AppointmentAtOut]


class OfferOut(msgspec.Struct, frozen=True, gc=False):
    """Seats that are set aside until ``until``, for whoever of those asked accepts first."""

    offer: str
    status: str
    until: datetime
    plans: list[WishedOut]


class ToldOut(msgspec.Struct, frozen=True, gc=False):
    """A place has opened at a location, for that day: search again."""

    location: LocationOut
    day: date
    told_at: datetime


class EntryOut(msgspec.Struct, frozen=True, gc=False):
    """An entry. ``status``: ``waiting``, ``offered``, ``booked``, ``left`` or ``expired``.

    ``told``: the places of which an alert was told, the latest first.
    """

    status: str
    alert: bool
    place: PlaceInLineOut | None
    offer: OfferOut | None
    told: list[ToldOut] | UnsetType = UNSET


class ReadyOut(msgspec.Struct, frozen=True, gc=False):
    """Whether this process takes bookings, and which partitions are closed, and why."""

    ready: bool
    closed: dict[str, str]
    board_age_s: float
    board_loaded: bool
