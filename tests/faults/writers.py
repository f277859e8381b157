"""The load: writers who book, ask again with the same key, book once more beside it, and cancel.

Each writer has people of its own and asks again until it knows, as a patient client does. Whatever is sent
and answered goes into the history. Nothing is sent twice below a record of the history.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from random import Random
from typing import Any

import msgspec

from engine.privacy.references import References
from loadtests.http import Client, NoAnswer, Reply
from tests.faults.history import History, Op, Outcome

WRITERS = 256
DEADLINE_S = 10.0
KEY_BYTES = 8
OPEN = {"unknown", "away"}
PAUSE_S_MAX = 0.3
# A writer that does not learn an outcome by then gives up; its last record stays unknown.
RESOLVE_S_MAX = 120.0
TWINS, RIVALS = 0.15, 0.1
CANCELS, REPEATS = 0.6, 0.2
# Who was told 202 asks at the address that it came with until it is known, or sends the write again.
POLLS = 0.5


class Once(Client):
    """A client that never sends a request again by itself."""

    async def _exchange(self, request: bytes) -> Reply:
        return await self._exchange_on(self._rested() or await self._connect(), request)


class Place(msgspec.Struct, frozen=True):
    """A location that is booked: its session of each dose, and their slots."""

    id: int
    sessions: tuple[int, int]
    slots: int


class Person(msgspec.Struct, frozen=True):
    """Somebody to book for: the person key in hex, and the reference that the API takes."""

    key: str
    reference: str


class Desk:
    """Sends one request and writes down what came of it."""

    def __init__(self, client: Client, history: History, references: References) -> None:
        self._client = client
        self.history = history
        self._references = references

    async def book(self, person: Person, key: str, wishes: dict[str, Any]) -> Op:
        """Ask for a booking once."""
        op = Op("book", person.key, key, op_key(person.key, key), self.history.now_s())
        body = msgspec.json.encode({"person": person.reference, **wishes})
        reply = await self._ask(op, b"POST", "/v1/bookings", body)
        if reply is not None and op.outcome == "ok":
            self._read_booking(op, reply.json())
        return op

    async def cancel(self, booked: Op, key: str) -> Op:
        """Ask for a cancellation once."""
        op = Op("cancel", booked.person, key, op_key(booked.person, key), self.history.now_s())
        op.generation, op.location, op.reference = booked.generation, booked.location, booked.reference
        await self._ask(op, b"DELETE", f"/v1/bookings/{booked.reference}", b"")
        return op

    async def status(self, asked: Op) -> Op:
        """Ask once, at the address that a 202 came with, what became of a write."""
        op = msgspec.structs.replace(
            asked,
            sent_s=self.history.now_s(),
            answered_s=float("inf"),
            outcome="unknown",
            status=0,
            words="",
            is_poll=True,
        )
        reply = await self._ask(op, b"GET", asked.status_at, b"")
        if reply is not None and op.outcome == "ok":
            self._read_status(op, reply.json())
        return op

    def _read_status(self, op: Op, told: dict[str, Any]) -> None:
        """A booking's address says what was booked; that of a cancellation is the booking's own."""
        if op.act == "cancel":
            if told["status"] != "cancelled":
                op.outcome, op.words = "unknown", "not yet"
        elif told["status"] == "not-booked":
            op.outcome, op.words = "refused", "not-booked"
        else:
            self._read_booking(op, told)

    def _read_booking(self, op: Op, told: dict[str, Any]) -> None:
        op.reference = told["booking"]
        ref = self._references.booking(op.reference)
        if ref is not None and ref.person.hex() == op.person:
            op.generation, op.location = ref.generation, ref.location
        op.seats = tuple((a["dose"], a["session"], a["slot"], a["seat"]) for a in told["appointments"])

    async def _ask(self, op: Op, method: bytes, path: str, body: bytes) -> Reply | None:
        self.history.sent(op)
        reply: Reply | None = None
        try:
            reply = await self._client.request(method, path, body, "" if op.is_poll else op.key)
            op.status = reply.status
            op.status_at = reply.location if reply.status == 202 else op.status_at
            op.outcome, op.words = outcome_of(reply)
        except NoAnswer as none:
            op.words = str(none)
        finally:
            op.answered_s = self.history.now_s()
            self.history.ended(op)
        return reply


class Writer:
    """One client with a few people; works until told to stop, then resolves what it does not know."""

    def __init__(
        self,
        desk: Desk,
        people: Sequence[Person],
        places: Sequence[Place],
        chance: Random,
        stop: asyncio.Event,
        pause_s: float = 0.0,
    ) -> None:
        self._desk = desk
        self._people = list(people)
        self._places = places
        self._chance = chance
        self._history = desk.history
        self._stop = stop
        self._pause_s = pause_s
        # Who has a booking: the acknowledged op, and what was asked.
        self._booked: dict[str, tuple[Op, dict[str, Any]]] = {}

    async def run(self) -> None:
        """Work."""
        while not self._stop.is_set() and self._people:
            if self._pause_s:
                await asyncio.sleep(self._chance.uniform(0, 2 * self._pause_s))
            person = self._chance.choice(self._people)
            if person.key in self._booked:
                await self._go_on(person)
            else:
                await self._begin(person)

    async def _begin(self, person: Person) -> None:
        """Book: alone, twice at once with one key, or twice at once with two."""
        draw, key, wishes = self._chance.random(), self._key(), self._wishes()
        asks = [self._book(person, key, wishes)]
        if draw < TWINS:
            asks.append(self._book(person, key, wishes))
        elif draw < TWINS + RIVALS:
            asks.append(self._book(person, self._key(), self._wishes()))
        told = await asyncio.gather(*asks)
        if not any(op.outcome == "ok" for op in told) and any(op.words == "already-booked" for op in told):
            # By a copy whose answer was lost; nobody has the reference, so this person is done.
            self._people.remove(person)

    async def _go_on(self, person: Person) -> None:
        """Cancel a booking, ask for it again, or try to get a second one."""
        booked, wishes = self._booked[person.key]
        draw = self._chance.random()
        if draw < CANCELS:
            await self._cancel(person, booked)
        elif draw < CANCELS + REPEATS:
            await self._resolved(lambda: self._desk.book(person, booked.key, wishes))
        else:
            await self._book(person, self._key(), self._wishes())

    async def _book(self, person: Person, key: str, wishes: dict[str, Any]) -> Op:
        op = await self._resolved(lambda: self._desk.book(person, key, wishes))
        if op.outcome == "ok":
            self._booked[person.key] = (op, wishes)
        return op

    async def _cancel(self, person: Person, booked: Op) -> None:
        key = self._key()
        op = await self._resolved(lambda: self._desk.cancel(booked, key))
        if op.outcome == "ok":
            del self._booked[person.key]
        else:
            self._people.remove(person)

    async def _resolved(self, ask: Any) -> Op:
        """Ask until the outcome is known."""
        deadline_s, pending_s, address = self._history.now_s() + RESOLVE_S_MAX, 0.0, ""
        # The address of a booking tells its fate; that of a cancellation only tells if it has happened.
        only_polls = False
        op: Op = await ask()
        while op.outcome in OPEN and self._history.now_s() < deadline_s:
            if op.status == 202:
                if not pending_s:
                    only_polls = op.act == "book" and self._chance.random() < POLLS
                pending_s, address = pending_s or op.answered_s, op.status_at
            await asyncio.sleep(self._chance.uniform(0.02, PAUSE_S_MAX))
            if address and (only_polls or (op.act == "cancel" and self._chance.random() < POLLS)):
                op = await self._desk.status(msgspec.structs.replace(op, status_at=address))
            else:
                op = await ask()
        if pending_s:
            self._history.resolved.append((pending_s, self._history.now_s()))
        return op

    def _key(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128)))

    def _wishes(self) -> dict[str, Any]:
        place = self._chance.choice(self._places)
        return {
            f"dose{n + 1}": {"session": session, "slot": self._chance.randrange(place.slots)}
            for n, session in enumerate(place.sessions)
        }


def outcome_of(reply: Reply) -> tuple[Outcome, str]:
    """What a status means to a client, and the problem's name."""
    if reply.status in (200, 201):
        return "ok", ""
    if reply.status == 202:
        return "unknown", "pending"
    with suppress(msgspec.DecodeError, AttributeError):
        name = str(reply.json().get("type", "")).rpartition(":")[2]
        if reply.status == 503:
            return ("unknown" if name == "no-answer" else "away"), name
        return ("refused" if reply.status < 500 else "unknown"), name
    return "unknown", f"status {reply.status}"


def op_key(person: str, key: str) -> str:
    """What an idempotency key becomes in the rows."""
    return sha256(bytes.fromhex(person) + key.encode()).digest()[:KEY_BYTES].hex()
