"""A client's way to the API: sends one request at a time and writes down what came of it."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec

from engine.privacy.references import References
from loadtests.http import Client, NoAnswer, Reply
from tests.faults.history import BEGINS, Act, History, Op, Outcome, Seat

KEY_BYTES = 8
Wishes = dict[str, Any]


class Once(Client):
    """A client that never sends a request again by itself."""

    async def _exchange(self, request: bytes) -> Reply:
        return await self._exchange_on(self._rested() or await self._connect(), request)


class Person(msgspec.Struct, frozen=True):
    """Somebody to book for: the person key in hex, and the reference that the API takes."""

    key: str
    reference: str


class Course(msgspec.Struct):
    """A course as its client knows it. ``revision``: at least that. ``moves``: changes that were granted."""

    person: Person
    generation: int
    location: int
    reference: str
    seats: tuple[Seat, ...]
    revision: int = 1
    is_held: bool = False
    moves: int = 0

    @property
    def doses(self) -> set[int]:
        """Those that it has."""
        return {seat[0] for seat in self.seats}


class Desk:
    """Sends requests; an answer is one ``Op`` for each person."""

    def __init__(self, client: Client, history: History, references: References) -> None:
        self._client = client
        self.history = history
        self._references = references

    async def begin(self, people: Sequence[Person], key: str, wishes: Sequence[Wishes], act: Act) -> list[Op]:
        """Ask once for courses that begin together."""
        mine, sent_s = op_key(people[0].key, key), self.history.now_s()
        ops = [
            Op(act, person.key, key, mine, sent_s, member=n, members=len(people))
            for n, person in enumerate(people)
        ]
        members = [{"person": person.reference, **own} for person, own in zip(people, wishes, strict=True)]
        hold = {"hold": True} if act == "hold" else {}
        if len(people) == 1:
            await self._ask(ops, b"POST", "/v1/bookings", {**members[0], **hold})
        else:
            await self._ask(ops, b"POST", "/v1/households", {"members": members, **hold})
        return ops

    async def change(
        self, act: Act, courses: Sequence[Course], key: str, wishes: Wishes | None = None
    ) -> list[Op]:
        """Ask once for a change; only holds are changed together."""
        mine, sent_s = op_key(courses[0].person.key, key), self.history.now_s()
        ops = [
            Op(
                act,
                course.person.key,
                key,
                mine,
                sent_s,
                course.generation,
                course.location,
                reference=course.reference,
                member=n,
                members=len(courses),
            )
            for n, course in enumerate(courses)
        ]
        await self._ask(ops, *_request(act, [course.reference for course in courses], wishes))
        return ops

    async def status(self, asked: Op) -> Op:
        """Ask once, at the address that a 202 came with, what became of a booking."""
        op = msgspec.structs.replace(
            asked,
            sent_s=self.history.now_s(),
            answered_s=float("inf"),
            outcome="unknown",
            status=0,
            words="",
            is_poll=True,
        )
        await self._ask([op], b"GET", asked.status_at, None)
        return op

    async def _ask(self, ops: list[Op], method: bytes, path: str, body: Any) -> None:
        self.history.sent(ops)
        outcome: Outcome = "unknown"
        words, status, reply = "", 0, None
        try:
            key = "" if ops[0].is_poll else ops[0].key
            packed = b"" if body is None else msgspec.json.encode(body)
            reply = await self._client.request(method, path, packed, key)
            status = reply.status
            outcome, words = outcome_of(reply)
        except NoAnswer as none:
            words = str(none)
        finally:
            now_s = self.history.now_s()
            for op in ops:
                op.answered_s, op.outcome, op.words, op.status = now_s, outcome, words, status
                if reply is not None and status == 202:
                    op.status_at = reply.location
            if reply is not None and outcome == "ok":
                self._read(ops, reply.json())
            self.history.ended(ops)

    def _read(self, ops: Sequence[Op], told: dict[str, Any]) -> None:
        if told.get("status") == "not-booked":
            ops[0].outcome, ops[0].words = "refused", "not-booked"
            return
        bookings = told.get("bookings", [told])
        for op, booking in zip(ops, bookings * (len(ops) if len(bookings) == 1 else 1), strict=True):
            if "hold_until" in booking:
                op.until_ms = round(datetime.fromisoformat(booking["hold_until"]).timestamp() * 1000)
            if "booking" in booking:
                self._read_booking(op, booking)

    def _read_booking(self, op: Op, told: dict[str, Any]) -> None:
        op.seats = tuple((a["dose"], a["session"], a["slot"], a["seat"]) for a in told["appointments"])
        if op.act not in BEGINS:
            return
        op.reference = told["booking"]
        ref = self._references.booking(op.reference)
        if ref is not None and ref.person.hex() == op.person:
            op.generation, op.location = ref.generation, ref.location


def _request(act: Act, references: list[str], wishes: Wishes | None) -> tuple[bytes, str, Any]:
    """Method, path and body of a change."""
    at = f"/v1/bookings/{references[0]}"
    if act == "cancel":
        return b"DELETE", at, None
    if act == "drop":
        return b"DELETE", f"{at}/doses/2", None
    if act == "move":
        return b"POST", f"{at}/moves", wishes
    noun = {"confirm": "confirmation", "extend": "extension"}[act]
    if len(references) == 1:
        return b"POST", f"{at}/{noun}", None
    return b"POST", f"/v1/households/{noun}", {"bookings": references}


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
