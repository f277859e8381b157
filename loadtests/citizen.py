"""What one citizen does: register, search, book both doses, try elsewhere, be told.

Every write is repeated under the same idempotency key until it is answered, so a server that comes back
within `PATIENCE_S` loses nobody. Who stays without an answer that long is `Unanswered`, and so is who gets an
answer that the protocol does not have. An acknowledged write stands in the acknowledgement log before it
counts.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
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
# Each place farther, and each pair later, is this much less likely to be chosen than the one before it.
NEAR_FACTOR, EARLY_FACTOR = 0.55, 0.8
NOTHING_NEAR = "nothing-near"
ALREADY_BOOKED = "already-booked"
# Refusals after which there is nothing to do but look again.
_LOOK_AGAIN = {"slot-full", "session-closed", "superseded", "slot-past"}


class Wish(msgspec.Struct, frozen=True, gc=False):
    """A slot of a session, as the server names them."""

    session: int
    slot: int


class Pair(msgspec.Struct, frozen=True, gc=False):
    """Both doses, as shown; sent back as it came."""

    dose1: Wish
    dose2: Wish


class Place(msgspec.Struct, frozen=True, gc=False):
    """A place with pairs that are free there."""

    pairs: list[Pair]


class Found(msgspec.Struct, frozen=True, gc=False):
    """The answer to a search, nearest place first."""

    places: list[Place]


class Registered(msgspec.Struct, frozen=True, gc=False):
    """The answer to a registration."""

    person: str


class Booking(msgspec.Struct, frozen=True, gc=False):
    """The answer to a booking."""

    booking: str
    appointments: list[Appointment]


class Problem(msgspec.Struct, frozen=True, gc=False):
    """A refusal (RFC 9457), with what is free near the wish."""

    type: str = "about:blank"
    alternatives: list[Pair] = msgspec.field(default_factory=list)

    @property
    def reason(self) -> str:
        """The last part of the type."""
        return self.type.rpartition(":")[2]


_found = msgspec.json.Decoder(Found)
_registered = msgspec.json.Decoder(Registered)
_booking = msgspec.json.Decoder(Booking)
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
        self._random = Random(desk.seed << 32 | person.number)
        self._key = ""
        self._tries = 0
        self._habit = self._random.random()

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
        self._key = await self._register()
        outcome = await self._find_a_place()
        if isinstance(outcome, str):
            self._figures.told[outcome] += 1
            return
        self._figures.booked += 1
        await self._afterwards(outcome)

    async def _register(self) -> str:
        reply = await self._write(b"POST", "/v1/persons", self._person.registration())
        if reply.status not in (200, 201):
            raise self._unexpected("registration", reply)
        self._figures.registered += 1
        return _registered.decode(reply.body).person

    async def _find_a_place(self) -> Booking | str:
        """Search wider and wider, and book; or why that was not possible."""
        for radius_km in RADII_KM:
            places = await self._search(radius_km)
            while self._tries < BOOKINGS_TRIED_MAX and (pair := choose(self._random, places)) is not None:
                outcome = await self._try(pair)
                if isinstance(outcome, Booking):
                    return outcome
                if outcome.reason == ALREADY_BOOKED:
                    return ALREADY_BOOKED
                places = [Place(outcome.alternatives)]
        return NOTHING_NEAR

    async def _try(self, pair: Pair) -> Booking | Problem:
        """Think for a moment, then book the pair."""
        await asyncio.sleep(self._random.expovariate(1 / self._desk.think_s))
        self._tries += 1
        reply = await self._book(pair)
        return self._acknowledge(reply) if reply.status in (200, 201) else self._refusal(reply)

    async def _search(self, radius_km: int) -> list[Place]:
        path = f"/v1/availability?postcode={self._person.postcode}&radius_km={radius_km}&limit={PLACES_SHOWN}"
        reply = await self._ask(b"GET", path, b"", "")
        self._figures.searches += 1
        if reply.status != 200:
            raise self._unexpected("search", reply)
        return _found.decode(reply.body).places

    async def _book(self, pair: Pair) -> Reply:
        """Book a pair under a new key. Those who click twice do so at their first try."""
        body = {"person": self._key, "dose1": pair.dose1, "dose2": pair.dose2}
        first_try = self._tries == 1
        self._figures.first_attempts += first_try
        self._figures.second_tries += not first_try
        if first_try and self._habit < DOUBLE_CLICK_SHARE:
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
        """The few who book again, and must be refused, and the few who cancel."""
        habit = self._habit - DOUBLE_CLICK_SHARE
        if 0 <= habit < BOOK_AGAIN_SHARE:
            await self._book_again(booking)
        elif BOOK_AGAIN_SHARE <= habit < BOOK_AGAIN_SHARE + CANCEL_SHARE:
            await self._cancel(booking)

    async def _book_again(self, booking: Booking) -> None:
        one, two = (Wish(seat.session, seat.slot) for seat in booking.appointments)
        self._figures.book_again += 1
        reply = await self._write(b"POST", "/v1/bookings", {"person": self._key, "dose1": one, "dose2": two})
        if reply.status in (200, 201):
            self._acknowledge(reply)
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

    def _acknowledge(self, reply: Reply) -> Booking:
        """Into the log first: what stands there has been promised to somebody."""
        booking = _booking.decode(reply.body)
        self._log("book", booking)
        self._figures.acknowledged += 1
        return booking

    def _log(self, op: OpName, booking: Booking) -> None:
        now_ms = time.time_ns() // 1_000_000
        self._desk.acknowledgements.by_reference(op, booking.booking, booking.appointments, now_ms)

    def _refusal(self, reply: Reply) -> Problem:
        """Count a refusal by its reason. Raises `Unanswered` for what is not one of the protocol's."""
        if reply.status not in (409, 422):
            raise self._unexpected("booking", reply)
        problem = _problem.decode(reply.body)
        self._figures.refused[problem.reason] += 1
        if problem.reason != ALREADY_BOOKED and problem.reason not in _LOOK_AGAIN:
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
        await asyncio.sleep(min(max(wanted, PAUSE_S_MIN), PAUSE_S_MAX) * self._random.uniform(0.6, 1.4))

    def _unexpected(self, what: str, reply: Reply | None) -> Unanswered:
        """Counted by kind: what was asked, and the status that came (0: none)."""
        kind = f"{what} {reply.status if reply else 0}"
        if reply is not None and 400 <= reply.status < 500:
            kind += f" {_reason_of(reply)}"
        self._figures.unexpected[kind] += 1
        return Unanswered(kind)


def route_of(method: bytes, path: str) -> str:
    """What is counted together: the noun after ``/v1/``; cancellations by themselves."""
    return "cancellations" if method == b"DELETE" else path[4:].partition("?")[0].partition("/")[0]


def choose(random: Random, places: Sequence[Place]) -> Pair | None:
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
