"""Reads whom a request is about: references of people, and what rules know of them."""

from datetime import UTC, date, datetime, timedelta

from api.messages import GivenIn, MemberIn, SlotIn, SomeoneIn
from api.problems import ProblemError, problem
from api.site import Site
from engine.booking.changes import Place
from engine.booking.desk import Applicant
from engine.domain.course import CourseId, Wish
from engine.domain.person import Given
from engine.persons.facts import Known, facts_of
from engine.privacy.references import BookingRef, PersonRef
from engine.wishes.book import Someone

# Courses record the day as one since 1970.
_GIVEN_EARLIEST = date(1970, 1, 1)


def person_of(site: Site, reference: str, member: int | None = None) -> PersonRef:
    """The person. Raises ``ProblemError`` for a reference that was not made here."""
    ref = site.engine.references.person(reference)
    if ref is None:
        raise ProblemError(problem("unknown-person", member=member))
    return ref


def booking_of(site: Site, reference: str) -> BookingRef:
    """The booking. Raises ``ProblemError`` for a reference that was not made here."""
    ref = site.engine.references.booking(reference)
    if ref is None:
        raise ProblemError(problem("not-found"))
    return ref


def known_of(ref: PersonRef | BookingRef) -> Known:
    """What a reference carries for the rules."""
    return Known(ref.born, ref.groups)


def place_of(ref: BookingRef) -> Place:
    """The course, and where it is known."""
    return Place(CourseId(ref.person, ref.kind, ref.generation), ref.location)


def applicant_of(site: Site, ref: PersonRef, data: MemberIn) -> Applicant:
    """One person of an order."""
    facts = facts_of(known_of(ref), site.engine.rules.campaign)
    return Applicant(ref.person, facts, wishes_of(data.dose1, data.dose2), given_of(data.given))


def someone_of(site: Site, data: SomeoneIn, member: int | None) -> tuple[Someone, Known]:
    """One person for whom something is looked for."""
    ref = person_of(site, data.person, member)
    facts = facts_of(known_of(ref), site.engine.rules.campaign)
    return Someone(ref.person, facts, given_of(data.given)), known_of(ref)


def wishes_of(dose1: SlotIn | None, dose2: SlotIn | None) -> tuple[Wish, ...]:
    """A slot for each dose that was given, dose 1 first."""
    doses = ((1, dose1), (2, dose2))
    return tuple(Wish(dose, slot.session, slot.slot) for dose, slot in doses if slot is not None)


def given_of(data: GivenIn | None) -> Given | None:
    """The last dose given elsewhere. Raises ``ProblemError`` for a day that cannot be one."""
    if data is None:
        return None
    if data.day > latest_today():
        raise ProblemError(problem("given-in-future"))
    if data.day < _GIVEN_EARLIEST:
        raise ProblemError(problem("given-impossible"))
    return Given(data.vaccine, data.day)


def latest_today() -> date:
    """Today where the day begins first: nobody is born tomorrow there."""
    return (datetime.now(UTC) + timedelta(hours=14)).date()
