"""What one citizen does: register, search, book, try elsewhere, be told; some hold, move or cancel.

Every write is repeated under the same idempotency key until it is answered, so a server that comes back
within `PATIENCE_S` loses nobody. Who stays without an answer that long is `Unanswered`, and so is who gets an
answer that the protocol does not have. An acknowledged write stands in the acknowledgement log before it
counts.
"""

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from random import Random

import msgspec

from engine.domain.course import Appointment
from engine.recovery.acks import AckWriter, OpName
from loadtests.figures import Figures
from loadtests.http import Client, NoAnswer, Reply
from loadtests.people import Person

# How far people are ready to go, in km; each further search after nothing was found nearer.
RADII_KM = (20, 50, 120)
PLACES_SHOWN = 6
BOOKINGS_TRIED_MAX = 8
PATIENCE_S = 120.0
PAUSE_S_MIN, PAUSE_S_MAX = 0.2, 4.0
DOUBLE_CLICK_SHARE, BOOK_AGAIN_SHARE, CANCEL_SHARE = 0.02, 0.01, 0.01
HOLD_SHARE, MOVE_SHARE, DROP_SHARE = 0.05, 0.03, 0.01
# Each place farther, and each pair later, is this much less likely to be chosen than the one before it.
NEAR_FACTOR, EARLY_FACTOR = 0.55, 0.8
NOTHING_NEAR = "nothing-near"
ALREADY_BOOKED = "already-booked"
# Refusals after which there is nothing to do but look again.
_LOOK_AGAIN = {"slot-full", "session-closed", "superseded", "slot-past", "hold-over", "nothing-free"}
# Refusals of a vaccine, not of a person: they look for one that everybody of their age may have.
_ANOTHER_VACCINE = {"vaccine-not-admitted", "cohort-not-open"}
FOR_EVERYBODY = ("pfizer", "moderna")
# What may be answered to a wish to move: then the course stays as it is.
_NOT_MOVED = {"slot-full", "session-closed", "changed-meanwhile", "interval", "slot-past"}


CHANGES, _CHANGES = "changes", ("/confirmation", "/moves")


def _habits(*shares: float) -> Iterator[tuple[float, float]]:
    """One stretch of the numbers from 0 to 1 for each."""
    begin = 0.0
    for share in shares:
        yield begin, begin + share
        begin += share


_CLICKS_TWICE, _BOOKS_AGAIN, _CANCELS, _HOLDS, _MOVES, _DROPS = _habits(
    DOUBLE_CLICK_SHARE, BOOK_AGAIN_SHARE, CANCEL_SHARE, HOLD_SHARE, MOVE_SHARE, DROP_SHARE
)


class Wish(msgspec.Struct, frozen=True, gc=False):
    """A slot of a session, as the server names them."""

    session: int
    slot: int


class Plan(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What can be booked, as shown, and sent back as it came: both doses, or one where that is all."""

    dose1: Wish | None = None
    dose2: Wish | None = None


class Place(msgspec.Struct, frozen=True, gc=False):
    """A place with pairs that are free there."""

    pairs: list[Plan]


class Found(msgspec.Struct, frozen=True, gc=False):
    """The answer to a search, nearest place first."""

    places: list[Place]


class Registered(msgspec.Struct, frozen=True, gc=False):
    """The answer to a registration."""

    person: str


class Booking(msgspec.Struct, frozen=True, gc=False):
    """The answer to a booking, a hold, or a change of it."""

    booking: str
    status: str
    vaccine: str
    appointments: list[Appointment]


class Household(msgspec.Struct, frozen=True, gc=False):
    """The answer to a booking of several people."""

    bookings: list[Booking]


class Problem(msgspec.Struct, frozen=True, gc=False):
    """A refusal (RFC 9457), with what is free near the wish."""

    type: str = "about:blank"
    alternatives: list[Plan] = msgspec.field(default_factory=list)

    @property
    def reason(self) -> str:
        """The last part of the type."""
        return self.type.rpartition(":")[2]


_found = msgspec.json.Decoder(Found)
_registered = msgspec.json.Decoder(Registered)
_booking = msgspec.json.Decoder(Booking)
_household = msgspec.json.Decoder(Household)
_problem = msgspec.json.Decoder(Problem)


class Unanswered(Exception):
    """No answer, or one that the protocol does not have."""


class Desk(msgspec.Struct, frozen=True):
    """What all citizens share. ``think_s`` is the mean time between seeing a pair and booking it."""

    client: Client
    figures: Figures
    acknowledgements: AckWriter
    seed: int
    think_s: float


class Citizen:
    """One person's visit."""

    def __init__(self, person: Person, desk: Desk) -> None:
        self._person = person
        self._desk = desk
        self._figures = desk.figures
        self.random = Random(desk.seed << 32 | person.number)
        self._key = ""
        self._tries = 0
        self._habit = self.random.random()

    async def visit(self) -> bool:
        """The whole visit; whether the person was answered: booked, or told why not."""
        try:
            await self._visit()
        except Unanswered:
            return False
        except msgspec.MsgspecError:
            self._figures.unexpected["an answer of another shape"] += 1
            return False
        return True

    async def _visit(self) -> None:
        await self.register()
        outcome = await self._find_a_place()
        if isinstance(outcome, str):
            self._figures.told[outcome] += 1
            return
        self._figures.booked += 1
        await self._afterwards(outcome)

    async def register(self) -> str:
        """The reference of the person, who registers once. Raises ``Unanswered``."""
        if self._key:
            return self._key
        reply = await self._write(b"POST", "/v1/persons", self._person.registration())
        if reply.status not in (200, 201):
            raise self._unexpected("registration", reply)
        self._figures.registered += 1
        self._key = _registered.decode(reply.body).person
        return self._key

    async def _find_a_place(self) -> Booking | str:
        """Search wider and wider, and book; or why that was not possible."""
        for radius_km in RADII_KM:
            places = await self.search(radius_km)
            while self._tries < BOOKINGS_TRIED_MAX and (plan := choose(self.random, places)) is not None:
                outcome = await self._try(plan)
                if isinstance(outcome, Booking):
                    return outcome
                if outcome.reason == ALREADY_BOOKED:
                    return ALREADY_BOOKED
                if outcome.reason in _ANOTHER_VACCINE:
                    places = await self._search_for_everybody(radius_km)
                else:
                    places = [Place(outcome.alternatives)]
        return NOTHING_NEAR

    async def _search_for_everybody(self, radius_km: int) -> list[Place]:
        """Vaccines that have no age of their own."""
        for vaccine in FOR_EVERYBODY:
            places = await self.search(radius_km, vaccine)
            if any(place.pairs for place in places):
                return places
        return []

    async def _try(self, plan: Plan) -> Booking | Problem:
        """Think for a moment, then book what was chosen."""
        await self.think()
        self._tries += 1
        reply = await self._book(plan)
        if reply.status not in (200, 201):
            return self._refusal(reply)
        booking = self.acknowledge(_booking.decode(reply.body))
        return await self._confirm(booking) if booking.status == "held" else booking

    async def think(self) -> None:
        """The time between seeing something and booking it."""
        await asyncio.sleep(self.random.expovariate(1 / self._desk.think_s))

    async def search(self, radius_km: int, vaccine: str = "") -> list[Place]:
        """What is free near home. Raises ``Unanswered``."""
        path = f"/v1/availability?postcode={self._person.postcode}&radius_km={radius_km}&limit={PLACES_SHOWN}"
        path += f"&vaccine={vaccine}" if vaccine else ""
        reply = await self._ask(b"GET", path, b"", "")
        self._figures.searches += 1
        if reply.status != 200:
            raise self._unexpected("search", reply)
        return _found.decode(reply.body).places

    async def _book(self, plan: Plan) -> Reply:
        """Book, or hold, under a new key. Those who click twice do so at their first try."""
        body = {"person": self._key, **wished(plan)}
        if self._has_habit(_HOLDS):
            body["hold"] = True
        first_try = self._tries == 1
        self._figures.first_attempts += first_try
        self._figures.second_tries += not first_try
        if first_try and self._has_habit(_CLICKS_TWICE):
            reply = await self._double_click(body)
        else:
            reply = await self._write(b"POST", "/v1/bookings", body)
        self._figures.first_successes += first_try and reply.status in (200, 201)
        return reply

    async def _double_click(self, body: object) -> Reply:
        """The same key twice at once; both clicks must get one answer."""
        self._figures.double_clicks += 1
        key = str(uuid.uuid4())
        clicks = (self._write(b"POST", "/v1/bookings", body, key) for _ in range(2))
        one, other = await asyncio.gather(*clicks)
        self._figures.double_click_conflicts += not same_answer(one, other)
        return one

    async def _afterwards(self, booking: Booking) -> None:
        """The few who book again, and must be refused, and those who cancel, move, or give up dose 2."""
        if self._has_habit(_BOOKS_AGAIN):
            await self._book_again(booking)
        elif self._has_habit(_CANCELS):
            await self._cancel(booking)
        elif self._has_habit(_MOVES):
            await self._move(booking)
        elif self._has_habit(_DROPS) and len(booking.appointments) > 1:
            await self._drop(booking)

    def _has_habit(self, between: tuple[float, float]) -> bool:
        return between[0] <= self._habit < between[1]

    async def _confirm(self, booking: Booking) -> Booking | Problem:
        """Think once more, then make the hold final."""
        await self.think()
        reply = await self._write(b"POST", f"/v1/bookings/{booking.booking}/confirmation", None)
        if reply.status != 200:
            return self._refusal(reply)
        confirmed = _booking.decode(reply.body)
        self._log("confirm", confirmed, 2)
        self._figures.confirmed += 1
        return confirmed

    async def _move(self, booking: Booking) -> None:
        """Both doses go to another time, perhaps another place, with the same vaccine."""
        plan = choose(self.random, await self.search(RADII_KM[1], booking.vaccine))
        if plan is None or plan.dose1 is None or plan.dose2 is None:
            return
        self._log("asking-move", booking)
        reply = await self._write(b"POST", f"/v1/bookings/{booking.booking}/moves", wished(plan))
        if reply.status == 200:
            self._log("move", _booking.decode(reply.body), 2)
            self._figures.moved += 1
        elif reply.status in (409, 422) and _reason_of(reply) in _NOT_MOVED:
            self._figures.not_moved += 1
        else:
            raise self._unexpected("move", reply)

    async def _drop(self, booking: Booking) -> None:
        self._log("asking-move", booking)
        reply = await self._write(b"DELETE", f"/v1/bookings/{booking.booking}/doses/2", None)
        if reply.status != 200:
            raise self._unexpected("cancellation", reply)
        self._log("move", _booking.decode(reply.body), 2)
        self._figures.second_doses_cancelled += 1

    async def _book_again(self, booking: Booking) -> None:
        doses = {f"dose{seat.dose}": Wish(seat.session, seat.slot) for seat in booking.appointments}
        self._figures.book_again += 1
        reply = await self._write(b"POST", "/v1/bookings", {"person": self._key, **doses})
        if reply.status in (200, 201):
            self.acknowledge(_booking.decode(reply.body))
            self._figures.book_again_wrong += 1
        elif self._refusal(reply).reason != ALREADY_BOOKED:
            self._figures.book_again_wrong += 1

    async def _cancel(self, booking: Booking) -> None:
        self._log("asking-cancel", booking)
        reply = await self._write(b"DELETE", f"/v1/bookings/{booking.booking}", None)
        if reply.status not in (200, 204):
            raise self._unexpected("cancellation", reply)
        self._log("cancel", booking)
        self._figures.cancelled += 1

    async def book_together(self, keys: Sequence[str]) -> list[Booking] | None:
        """The first that suits all of them; None where nothing does. Raises ``Unanswered``."""
        near = {"postcode": self._person.postcode, "radius_km": RADII_KM[0]}
        people = [{"person": key} for key in keys]
        wish = {"people": people, "near": near, "vaccines": FOR_EVERYBODY}
        reply = await self._write(b"POST", "/v1/wishes", wish)
        if reply.status == 201:
            return _household.decode(reply.body).bookings
        self._refusal(reply)
        return None

    def acknowledge(self, booking: Booking) -> Booking:
        """Into the log first: what stands there has been promised to somebody."""
        self._log("hold" if booking.status == "held" else "book", booking)
        self._figures.held += booking.status == "held"
        self._figures.acknowledged += 1
        return booking

    def _log(self, op: OpName, booking: Booking, revision: int = 1) -> None:
        now_ms = time.time_ns() // 1_000_000
        log = self._desk.acknowledgements
        log.by_reference(op, booking.booking, booking.appointments, now_ms, revision)

    def _refusal(self, reply: Reply) -> Problem:
        """Count a refusal by its reason. Raises `Unanswered` for what is not one of the protocol's."""
        if reply.status not in (409, 422):
            raise self._unexpected("booking", reply)
        problem = _problem.decode(reply.body)
        self._figures.refused[problem.reason] += 1
        if problem.reason not in {ALREADY_BOOKED} | _LOOK_AGAIN | _ANOTHER_VACCINE:
            raise self._unexpected("booking", reply)
        return problem

    async def _write(self, method: bytes, path: str, body: object, key: str = "") -> Reply:
        """A write, repeated under its key until it is decided."""
        content = b"" if body is None else msgspec.json.encode(body)
        key = key or str(uuid.uuid4())
        patience = time.monotonic() + PATIENCE_S
        while True:
            reply = await self._ask(method, path, content, key)
            if reply.status != 202:
                return reply
            if time.monotonic() > patience:
                raise self._unexpected("operation", reply)
            self._figures.accepted += 1
            await self._follow(reply)

    async def _follow(self, accepted: Reply) -> None:
        """Ask for the status of an operation that is not decided; asking resolves it."""
        await self._pause(accepted.retry_after_s, 1)
        if accepted.location:
            await self._ask(b"GET", accepted.location, b"", "")

    async def _ask(self, method: bytes, path: str, content: bytes, key: str) -> Reply:
        """One request, repeated while nobody answers or the server says that it cannot now."""
        patience = time.monotonic() + PATIENCE_S
        attempt = 0
        while True:
            reply = await self._request(method, path, content, key)
            if reply is not None and reply.status < 500 and reply.status != 429:
                return reply
            if time.monotonic() > patience:
                raise self._unexpected(path.split("?")[0], reply)
            attempt += 1
            await self._pause(reply.retry_after_s if reply else None, attempt)

    async def _request(self, method: bytes, path: str, content: bytes, key: str) -> Reply | None:
        """One exchange with its latency counted; None when no answer came."""
        began = time.perf_counter()
        try:
            reply = await self._desk.client.request(method, path, content, key)
        except NoAnswer:
            self._figures.requests += 1
            self._figures.lost += 1
            return None
        ms = (time.perf_counter() - began) * 1000
        self._figures.answer(route_of(method, path), reply.status, ms)
        return reply

    async def _pause(self, retry_after_s: float | None, attempt: int) -> None:
        """What the server asks for, else longer each time; spread, so that not all come back at once."""
        wanted = PAUSE_S_MIN * 2 ** min(attempt, 6) if retry_after_s is None else retry_after_s
        await asyncio.sleep(min(max(wanted, PAUSE_S_MIN), PAUSE_S_MAX) * self.random.uniform(0.6, 1.4))

    def _unexpected(self, what: str, reply: Reply | None) -> Unanswered:
        """Counted by kind: what was asked, and the status that came (0: none)."""
        kind = f"{what} {reply.status if reply else 0}"
        if reply is not None and 400 <= reply.status < 500:
            kind += f" {_reason_of(reply)}"
        self._figures.unexpected[kind] += 1
        return Unanswered(kind)


async def visit_together(people: Sequence[Person], desk: Desk) -> int:
    """The visit of a household; those who find nothing together go each alone. How many were answered."""
    citizens = [Citizen(person, desk) for person in people]
    if len(citizens) == 1 or not (booked := await _book_together(citizens, desk)):
        return sum([await citizen.visit() for citizen in citizens])
    return booked


async def _book_together(citizens: Sequence[Citizen], desk: Desk) -> int:
    """One wish for all. How many have booked: all or none."""
    head = citizens[0]
    try:
        keys = [await citizen.register() for citizen in citizens]
        await head.think()
        desk.figures.households_asked += 1
        bookings = await head.book_together(keys)
    except Unanswered:
        # Each asks for himself, and so learns what became of it.
        return 0
    if bookings is None:
        return 0
    for booking in bookings:
        head.acknowledge(booking)
    desk.figures.booked += len(bookings)
    desk.figures.households += 1
    return len(bookings)


def wished(plan: Plan) -> dict[str, object]:
    """The doses of a plan as a request names them."""
    doses = {"dose1": plan.dose1, "dose2": plan.dose2}
    return {name: wish for name, wish in doses.items() if wish is not None}


def route_of(method: bytes, path: str) -> str:
    """What is counted together: the noun after ``/v1/``; cancellations and changes by themselves."""
    if method == b"DELETE":
        return "cancellations"
    noun, _, rest = path[4:].partition("?")[0].partition("/")
    return CHANGES if noun == "bookings" and rest.endswith(_CHANGES) else noun


def choose(random: Random, places: Sequence[Place]) -> Plan | None:
    """Mostly the nearest place and an early pair, sometimes another; None if there is no pair."""
    places = [place for place in places if place.pairs]
    if not places:
        return None
    pairs = places[_rank(random, len(places), NEAR_FACTOR)].pairs
    return pairs[_rank(random, len(pairs), EARLY_FACTOR)]


def same_answer(one: Reply, other: Reply) -> bool:
    """Whether two clicks were told the same: one booking, or one reason."""
    if one.status >= 300 or other.status >= 300:
        return one.status == other.status and _reason_of(one) == _reason_of(other)
    return _booking.decode(one.body) == _booking.decode(other.body)


def _reason_of(reply: Reply) -> str:
    try:
        return _problem.decode(reply.body).reason
    except msgspec.DecodeError:
        return "no problem+json"


def _rank(random: Random, count: int, factor: float) -> int:
    """A number below ``count``, each ``factor`` as likely as the one before it."""
    for rank in range(count - 1):
        if random.random() >= factor:
            return rank
    return count - 1 if random.random() < factor else 0
