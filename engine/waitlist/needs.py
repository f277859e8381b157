"""What the waitlist needs of the rooms beside it: seats, plans, who freed what. ``bootstrap`` brings it."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from engine.domain.course import Course, Wish
from engine.domain.person import Facts, Given

Plan = tuple[tuple[Wish, ...], ...]
"""The doses of each member, in the members' order; all at one location."""


class Freed(msgspec.Struct, frozen=True, gc=False):
    """A slot in which a seat may have come free."""

    session: int
    slot: int


class Member(msgspec.Struct, frozen=True):
    """One person of an entry, with what the campaign's rules need to know."""

    person: bytes
    facts: Facts
    given: Given | None = None


class SetAside(msgspec.Struct, frozen=True):
    """The seats are held under the offer's key, now or by an earlier call with the same key."""


class NotSetAside(msgspec.Struct, frozen=True):
    """Refused, nothing is held: a seat was taken meanwhile, or the hold of this key has ended already."""


class Booked(msgspec.Struct, frozen=True):
    """All members are booked in place of the hold, now or by an earlier call with the same key."""

    courses: tuple[Course, ...]


class HoldGone(msgspec.Struct, frozen=True):
    """Final: the hold is not there (any more), and this key has booked nothing and never will."""


class HasCourse(msgspec.Struct, frozen=True):
    """Final: one of the members has a live course of this kind. The hold is as it was."""


class Impossible(msgspec.Struct, frozen=True):
    """Final: the campaign's rules refuse these wishes for these people. The hold is as it was."""


AcceptAnswer = Booked | HoldGone | HasCourse | Impossible


class Seats(Protocol):
    """The booking desk, as the waitlist uses it.

    Every call is idempotent by its key, may be made at any time by several processes at once, and may raise
    what the engine raises when a store is away: then nothing is known, and the same call is made again.
    """

    async def set_aside(
        self, offer_key: bytes, kind: int, plan: Plan, hold_ms: int, key: str
    ) -> SetAside | NotSetAside:
        """Hold every seat of the plan, or none, as a course of ``Kind.OFFER`` whose person is the offer key.

        It ends by itself ``hold_ms`` after the first call, in the partition's clock; a later call with the
        same key never begins it anew.
        """
        ...

    async def accept(
        self, members: Sequence[Member], kind: int, plan: Plan, offer_key: bytes, key: str
    ) -> AcceptAnswer:
        """Book each member's wishes in place of the offer's hold: everything in one step, or nothing."""
        ...

    async def give_back(self, offer_key: bytes, location: int, key: str) -> None:
        """End the hold, if it is there: its seats are free. It never touches what was booked in its place.

        A hold that an earlier ``set_aside`` of this key could still make must not come after it: the key is
        dead.
        """
        ...

    async def has_live_course(self, person: bytes, kind: int) -> bool:
        """Whether the person is booked, as Redis has it."""
        ...


class Around(Protocol):
    """The search, for a seat that came free."""

    def __call__(self, session: int, slot: int, kind: int, shape: str, n: int) -> Plan | None:
        """What ``n`` people of a shape can book around this slot now, one of them in it; from memory."""
        ...


class FreedBy(Protocol):
    """Postgres, about who gave a seat back."""

    async def __call__(self, slots: Sequence[Freed]) -> set[bytes]:
        """The person keys whose appointments in these slots ended lately."""
        ...


class FreeSlots(Protocol):
    """The board, about one session."""

    def __call__(self, session: int) -> Sequence[int]:
        """The slots that have a free seat, ascending."""
        ...
