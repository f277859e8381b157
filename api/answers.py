"""Writes the engine's answers as JSON: references signed, instants in the location's own time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from api import problems
from api.messages import (
    AlternativeOut,
    AppointmentOut,
    AvailabilityOut,
    BookingOut,
    ChoiceOut,
    LocationOut,
    NearLocationOut,
    OperationOut,
    PairOut,
    PlaceOut,
)
from api.metrics import Metrics
from api.replies import Reply, reply
from engine.availability.plan import Plan
from engine.availability.sampling import Choice
from engine.availability.search import Pair, Place
from engine.booking.desk import CancelPending, NotBooked, Pending
from engine.booking.outcomes import Booked, Cancelled, Refused
from engine.booking.rules import Impossible
from engine.bootstrap import Engine
from engine.domain.course import Course, Wish
from engine.privacy.references import BookingRef, OperationRef

RETRY = (b"retry-after", b"1")
Answer = Reply[Any]


class Answers:
    """Writes for one engine."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._sessions = engine.catalogue.sessions
        places = engine.catalogue.locations.values()
        self._zones = {place.id: ZoneInfo(place.zone) for place in places}
        self._locations = {
            place.id: LocationOut(place.id, place.name, place.address, place.postcode, place.municipality)
            for place in places
        }

    def of_booking(self, outcome: Any, wishes: tuple[Wish, Wish]) -> Answer:
        """The answer to a booking."""
        if isinstance(outcome, Booked):
            self._metrics.outcome("booked")
            return self._created(outcome.course)
        if isinstance(outcome, Refused):
            name = problems.OF_REASON[outcome.reason]
            self._metrics.outcome(name)
            found = self._engine.alternatives(wishes, outcome)
            alternatives = [self._alternative(one) for one in found]
            return problems.problem(name, alternatives=alternatives, dose=outcome.dose)
        if isinstance(outcome, Impossible):
            self._metrics.outcome(problems.OF_RULE[outcome.rule])
            return problems.impossible(outcome)
        self._metrics.outcome("pending")
        return self._pending(outcome)

    def of_cancellation(self, outcome: Any, reference: str) -> Answer:
        """The answer to a cancellation."""
        if isinstance(outcome, Cancelled):
            return reply(200, self.booking(outcome.course, "cancelled"))
        if isinstance(outcome, CancelPending):
            headers = [(b"location", b"/v1/bookings/" + reference.encode()), RETRY]
            return reply(202, OperationOut("pending"), headers)
        return problems.problem(problems.OF_REASON[outcome.reason])

    def of_operation(self, outcome: Course | NotBooked | Pending) -> Answer:
        """What became of an op."""
        if isinstance(outcome, Course):
            return reply(200, self.booking(outcome, outcome.state))
        if isinstance(outcome, NotBooked):
            return reply(200, OperationOut("not-booked"))
        return self._pending(outcome)

    def booking(self, course: Course, status: str) -> BookingOut:
        """A course as its holder sees it."""
        appointments = [
            AppointmentOut(one.dose, one.session, one.slot, one.seat, self._starts_at(one.session, one.slot))
            for one in course.appointments
        ]
        vaccine = self._sessions[course.appointments[0].session].vaccine
        reference = self._reference(course)
        return BookingOut(reference, status, vaccine, self._locations[course.location], appointments)

    def availability(self, places: Sequence[Place]) -> AvailabilityOut:
        """The answer to a search."""
        as_of = datetime.fromtimestamp(round(self._engine.follower.as_of_s, 3), UTC)
        return AvailabilityOut(as_of, [self._place(place) for place in places])

    def _created(self, course: Course) -> Answer:
        out = self.booking(course, "booked")
        return reply(201, out, [(b"location", b"/v1/bookings/" + out.booking.encode())])

    def _pending(self, pending: Pending) -> Answer:
        ref = OperationRef(pending.person, pending.kind, pending.op, pending.not_after_ms)
        reference = self._engine.references.of_operation(ref)
        headers = [(b"location", b"/v1/operations/" + reference.encode()), RETRY]
        return reply(202, OperationOut("pending", reference), headers)

    def _reference(self, course: Course) -> str:
        person, kind, generation = course.id.person, course.id.kind, course.id.generation
        return self._engine.references.of_booking(BookingRef(person, kind, generation, course.location))

    def _starts_at(self, session_id: int, slot: int) -> datetime:
        session = self._sessions[session_id]
        return session.slot_starts_at(slot).astimezone(self._zones[session.location])

    def _near(self, location: int, distance_km: float) -> NearLocationOut:
        place = self._locations[location]
        return NearLocationOut(
            place.id, place.name, place.address, place.postcode, place.municipality, round(distance_km, 2)
        )

    def _place(self, place: Place) -> PlaceOut:
        pairs = [self._pair(pair) for pair in place.pairs]
        return PlaceOut(self._near(place.location, place.distance_km), place.vaccine, pairs)

    def _pair(self, pair: Pair) -> PairOut:
        return PairOut(self._choice(pair.dose_1), self._choice(pair.dose_2))

    def _choice(self, choice: Choice) -> ChoiceOut:
        starts_at = self._starts_at(choice.session, choice.slot)
        return ChoiceOut(choice.session, choice.slot, starts_at, choice.free)

    def _alternative(self, plan: Plan) -> AlternativeOut:
        dose_1, dose_2 = (self._choice(choice) for choice in plan.choices)
        near = self._near(plan.locations[0], plan.distance_km)
        return AlternativeOut(near, plan.vaccine, dose_1, dose_2)
