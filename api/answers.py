"""Writes the engine's answers as JSON: references sealed, instants in the location's own time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import UNSET

from api import problems
from api.messages import (
    AlternativeOut,
    AppointmentAtOut,
    AppointmentOut,
    AvailabilityOut,
    BookingOut,
    ChoiceOut,
    HoldOut,
    HouseholdOut,
    LocationOut,
    NearLocationOut,
    OperationOut,
    PairOut,
    PlaceOut,
    PlansOut,
    ToldOut,
    WishedOut,
)
from api.metrics import Metrics
from api.replies import Reply, reply
from engine.availability.plan import Party, Plan
from engine.availability.sampling import Choice
from engine.availability.search import Pair, Place
from engine.booking.changes import ChangePending
from engine.booking.desk import NotBooked, Pending
from engine.booking.outcomes import Booked, Cancelled, Extended, Moved, Refused
from engine.bootstrap import Engine
from engine.domain.course import Course, Wish
from engine.persons.facts import Known
from engine.privacy.references import BookingRef, OperationRef
from engine.rules.refusal import Refusal
from engine.storage.waitlist import Told
from engine.wishes.book import Nothing

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

    def of_booking(self, outcome: Any, wishes: tuple[Wish, ...], known: Known) -> Answer:
        """The answer to a booking, or a hold, of one person."""
        if isinstance(outcome, Booked):
            out = self.booking(outcome.course, known)
            self._metrics.outcome(out.status)
            return reply(201, out, [(b"location", b"/v1/bookings/" + out.booking.encode())])
        return self._not_begun(outcome, [wishes], [known])

    def of_household(
        self, outcome: Any, wished: Sequence[tuple[Wish, ...]], knowns: Sequence[Known]
    ) -> Answer:
        """The answer to a booking of several people."""
        if isinstance(outcome, Booked):
            bookings = [self.booking(c, k) for c, k in zip(outcome.courses, knowns, strict=True)]
            self._metrics.outcome(bookings[0].status)
            return reply(201, HouseholdOut(bookings))
        return self._not_begun(outcome, wished, knowns)

    def of_move(self, outcome: Any, known: Known, repairs: Sequence[Plan] = ()) -> Answer:
        """The answer to a move; ``repairs``: where dose 2 could go, if it does not fit any more."""
        if isinstance(outcome, Moved):
            return reply(200, self.booking(outcome.course, known))
        if isinstance(outcome, Refusal):
            return problems.refusal(outcome, [self._alternative(plan) for plan in repairs] or None)
        return self._not_changed(outcome)

    def of_cancellation(self, outcome: Any, known: Known) -> Answer:
        """The answer to a cancellation, of a course or of some of its doses."""
        if isinstance(outcome, Cancelled):
            return reply(200, self.booking(outcome.course, known, "cancelled"))
        return self.of_move(outcome, known)

    def of_extension(self, outcome: Any) -> Answer:
        """The answer to prolonging a hold."""
        if isinstance(outcome, Extended):
            return reply(200, HoldOut(self._instant(outcome.until_ms)))
        return self._not_changed(outcome)

    def of_refused_change(self, outcome: Refused | ChangePending) -> Answer:
        """The answer to a change that was not made, or of which nobody knows."""
        return self._not_changed(outcome)

    def of_operation(self, outcome: Course | NotBooked | Pending, known: Known) -> Answer:
        """What became of an op."""
        if isinstance(outcome, Course):
            return reply(200, self.booking(outcome, known))
        if isinstance(outcome, NotBooked):
            return reply(200, OperationOut("not-booked"))
        return self._pending(outcome, known)

    def booking(self, course: Course, known: Known, status: str = "") -> BookingOut:
        """A course as its holder sees it."""
        appointments = [
            AppointmentOut(
                one.dose,
                one.session,
                one.slot,
                one.seat,
                self._starts_at(one.session, one.slot),
                self._sessions[one.session].location,
            )
            for one in course.appointments
        ]
        places = {one.location for one in appointments} - {course.location}
        return BookingOut(
            self._reference(course, known),
            status or _status(course),
            self._sessions[course.appointments[0].session].vaccine,
            self._locations[course.location],
            appointments,
            [self._locations[place] for place in sorted(places)] if places else UNSET,
            self._instant(course.until_ms) if course.state == "held" and course.until_ms else UNSET,
        )

    def availability(self, places: Sequence[Place]) -> AvailabilityOut:
        """The answer to a search."""
        return AvailabilityOut(self._as_of(), [self._place(place) for place in places])

    def plans(self, parties: Sequence[Party]) -> PlansOut:
        """The answer to a search for what people would like."""
        return PlansOut(self._as_of(), [[self._alternative(plan) for plan in party] for party in parties])

    def told(self, told: Sequence[Told]) -> list[ToldOut]:
        """The places of which an alert was told."""
        return [ToldOut(self._locations[one.location], one.day, one.told_at) for one in told]

    def wished(self, wishes: tuple[Wish, ...]) -> WishedOut:
        """What one person is offered."""
        session = self._sessions[wishes[0].session]
        doses = [
            AppointmentAtOut(w.dose, w.session, w.slot, self._starts_at(w.session, w.slot)) for w in wishes
        ]
        return WishedOut(self._locations[session.location], session.vaccine, doses)

    def _not_begun(self, outcome: Any, wished: Sequence[tuple[Wish, ...]], knowns: Sequence[Known]) -> Answer:
        """Why nothing has begun, or that nobody knows."""
        if isinstance(outcome, Refused):
            name = problems.OF_REASON[outcome.reason]
            self._metrics.outcome(name)
            found = self._engine.alternatives(wished, outcome)
            parties = [[self._alternative(plan) for plan in party] for party in found]
            alone = len(wished) == 1
            return problems.problem(
                name,
                alternatives=[party[0] for party in parties] if alone else parties,
                dose=outcome.dose or None,
                member=None if alone else outcome.member,
            )
        if isinstance(outcome, Refusal):
            self._metrics.outcome(problems.OF_RULE[outcome.rule])
            return problems.refusal(outcome)
        if isinstance(outcome, Nothing):
            self._metrics.outcome("nothing-free")
            return problems.problem("nothing-free")
        self._metrics.outcome("pending")
        return self._pending(outcome, knowns[0])

    def _not_changed(self, outcome: Refused | ChangePending) -> Answer:
        if isinstance(outcome, ChangePending):
            return reply(202, OperationOut("pending"), [RETRY])
        return problems.problem(problems.OF_REASON[outcome.reason], dose=outcome.dose or None)

    def _pending(self, pending: Pending, known: Known) -> Answer:
        ref = OperationRef(pending.person, pending.kind, pending.op, pending.not_after_ms, *known)
        reference = self._engine.references.of_operation(ref)
        headers = [(b"location", b"/v1/operations/" + reference.encode()), RETRY]
        return reply(202, OperationOut("pending", reference), headers)

    def _reference(self, course: Course, known: Known) -> str:
        person, kind, generation = course.id.person, course.id.kind, course.id.generation
        ref = BookingRef(person, kind, generation, course.location, *known)
        return self._engine.references.of_booking(ref)

    def _as_of(self) -> datetime:
        return datetime.fromtimestamp(round(self._engine.follower.as_of_s, 3), UTC)

    def _instant(self, until_ms: int) -> datetime:
        return datetime.fromtimestamp(until_ms / 1000, UTC)

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
        choices = {choice.dose: self._choice(choice) for choice in plan.choices}
        first, last = plan.locations[0], plan.locations[-1]
        return AlternativeOut(
            self._near(first, plan.distance_km),
            plan.vaccine,
            choices.get(1, UNSET),
            choices.get(2, UNSET),
            UNSET if last == first else self._locations[last],
        )


def _status(course: Course) -> str:
    """As the API says it: a hold that ended without anybody's doing has expired."""
    if course.state != "ended":
        return course.state
    return "cancelled" if "x" in course.changes else "expired"
