"""A waitlist on a real Postgres, and seats that stand in for the booking desk.

``Country`` has one location with a session for each dose. Its ``Desk`` keeps the promises of
``engine.waitlist.needs.Seats`` in memory; the scripts that keep them in Redis have suites of their own.
``Fuse`` kills the process before any step, or loses the reply of one.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from engine.domain.capacity import Location, Session
from engine.domain.course import Appointment, Course, CourseId, Kind, Op, Wish
from engine.domain.person import Facts
from engine.errors import OutcomeUnknown
from engine.privacy.seal import PlainSealer
from engine.redis.keyspace import Keyspace
from engine.storage import persons
from engine.storage.waitlist import Area
from engine.waitlist.entries import Asked, Entries, Joined
from engine.waitlist.ledger import Ledger
from engine.waitlist.needs import (
    AcceptAnswer,
    Booked,
    Freed,
    HasCourse,
    HoldGone,
    Member,
    NotSetAside,
    Plan,
    SetAside,
)
from engine.waitlist.offers import Offers
from engine.waitlist.rounds import Rounds, Surroundings
from engine.waitlist.states import Purpose
from engine.waitlist.wakes import Wakes
from tests.world import person_key

DAY = date(2030, 1, 7)
FIRST, SECOND, SLOTS, LINES = 1, 2, 3, 2
HERE = Area(48.8, 2.3, 10.0)
PRIMARY = int(Kind.PRIMARY)
ONE, TWO = "one", "two"
EMPTY = """
    truncate waitlist_entry, waitlist_lot, person, registration restart identity cascade;
    delete from waitlist_standing
"""


class Died(Exception):
    """The process has ended here."""


class Fuse:
    """Counts the steps of a process; ends it before step ``dies_at``, loses the reply of ``mute_at``."""

    def __init__(self) -> None:
        self.set()

    def set(self, dies_at: int | None = None, mute_at: int | None = None) -> None:
        self.steps, self.dies_at, self.mute_at = 0, dies_at, mute_at

    def burn(self) -> bool:
        """A step begins; whether its reply is lost."""
        self.steps += 1
        if self.steps == self.dies_at:
            raise Died
        return self.steps == self.mute_at


class Mortal:
    """A pool of a process that may die."""

    def __init__(self, pool: Any, fuse: Fuse) -> None:
        self._pool = pool
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        self._fuse.burn()
        return getattr(self._pool, name)


class Clock:
    """The host's, which may jump."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 6, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Hold(msgspec.Struct):
    """Seats set aside, until an instant of the partition's clock."""

    seats: list[tuple[Wish, int]]
    until: datetime


class Desk:
    """Free seats, holds and courses; nothing else knows what is booked."""

    def __init__(self, fuse: Fuse, clock: Clock) -> None:
        self.fuse = fuse
        self.free = {(s, slot): set(range(LINES)) for s in (FIRST, SECOND) for slot in range(SLOTS)}
        self.holds: dict[bytes, Hold] = {}
        self.courses: dict[tuple[bytes, int], Course] = {}
        self.freed: set[tuple[bytes, int, int]] = set()
        self.taken_by_offer: list[tuple[bytes, tuple[bytes, ...]]] = []
        self._answers: dict[str, Any] = {}
        self._dead: set[bytes] = set()
        self._clock = clock
        self._generation = 0

    async def set_aside(
        self, offer_key: bytes, kind: int, plan: Plan, hold_ms: int, key: str
    ) -> SetAside | NotSetAside:
        answer: SetAside | NotSetAside = self._reply(key, lambda: self._set_aside(offer_key, plan, hold_ms))
        return answer

    def _set_aside(self, offer_key: bytes, plan: Plan, hold_ms: int) -> SetAside | NotSetAside:
        taken = None if offer_key in self._dead else self._take([wish for member in plan for wish in member])
        if taken is None:
            return NotSetAside()
        self.holds[offer_key] = Hold(taken, self._clock() + timedelta(milliseconds=hold_ms))
        return SetAside()

    async def accept(
        self, members: Sequence[Member], kind: int, plan: Plan, offer_key: bytes, key: str
    ) -> AcceptAnswer:
        people = tuple(member.person for member in members)
        answer: AcceptAnswer = self._reply(key, lambda: self._accept(people, kind, plan, offer_key))
        return answer

    def _accept(self, people: tuple[bytes, ...], kind: int, plan: Plan, offer_key: bytes) -> AcceptAnswer:
        if any((person, kind) in self.courses for person in people):
            return HasCourse()
        hold = self.holds.pop(offer_key, None)
        if hold is None:
            return HoldGone()
        self.taken_by_offer.append((offer_key, people))
        seats = iter(hold.seats)
        courses = []
        for person, wishes in zip(people, plan, strict=True):
            courses.append(self._record(person, kind, [next(seats) for _ in wishes]))
        return Booked(tuple(courses))

    async def give_back(self, offer_key: bytes, location: int, key: str) -> None:
        mute = self.fuse.burn()
        self.expire()
        self._dead.add(offer_key)
        self._release(self.holds.pop(offer_key, None))
        if mute:
            raise OutcomeUnknown

    async def has_live_course(self, person: bytes, kind: int) -> bool:
        self.fuse.burn()
        return (person, kind) in self.courses

    # What others do, at once --------------------------------------------------------------------------------

    def book(self, person: int, *wishes: Wish) -> bool:
        """Book somebody by the usual way."""
        self.expire()
        taken = None if (person_key(person), PRIMARY) in self.courses else self._take(wishes)
        if taken is not None:
            self._record(person_key(person), PRIMARY, taken)
        return taken is not None

    def cancel(self, person: int) -> list[Freed]:
        """Give everything back; the slots that have come free."""
        course = self.courses.pop((person_key(person), PRIMARY))
        for a in course.appointments:
            self.free[a.session, a.slot].add(a.seat)
            self.freed.add((course.id.person, a.session, a.slot))
        return [Freed(a.session, a.slot) for a in course.appointments]

    def expire(self) -> None:
        """End the holds whose time is over."""
        for key in [key for key, hold in self.holds.items() if hold.until <= self._clock()]:
            self._release(self.holds.pop(key))

    def seats_in_all(self) -> int:
        """Free, held and booked ones."""
        free = sum(len(seats) for seats in self.free.values())
        held = sum(len(hold.seats) for hold in self.holds.values())
        return free + held + sum(len(course.appointments) for course in self.courses.values())

    def _reply(self, key: str, act: Callable[[], Any]) -> Any:
        mute = self.fuse.burn()
        self.expire()
        if key not in self._answers:
            self._answers[key] = act()
        if mute:
            raise OutcomeUnknown
        return self._answers[key]

    def _take(self, wishes: Sequence[Wish]) -> list[tuple[Wish, int]] | None:
        taken: list[tuple[Wish, int]] = []
        for wish in wishes:
            if not self.free[wish.session, wish.slot]:
                self._release(Hold(taken, self._clock()))
                return None
            taken.append((wish, min(self.free[wish.session, wish.slot])))
            self.free[wish.session, wish.slot].remove(taken[-1][1])
        return taken

    def _release(self, hold: Hold | None) -> None:
        for wish, seat in hold.seats if hold else ():
            self.free[wish.session, wish.slot].add(seat)

    def _record(self, person: bytes, kind: int, seats: Sequence[tuple[Wish, int]]) -> Course:
        self._generation += 1
        appointments = tuple(Appointment(w.dose, w.session, w.slot, seat) for w, seat in seats)
        course = Course(CourseId(person, kind, self._generation), 1, "booked", appointments)
        self.courses[person, kind] = course
        return course


def plan_around(desk: Desk, session: int, slot: int, shape: str, n: int) -> Plan | None:
    """Members in the slot, then in the next; second doses, where wanted, wherever one is free."""
    desk.expire()
    first = [s for s in [slot, *range(slot + 1, SLOTS)] for _ in desk.free[FIRST, s]]
    second = [s for s in range(SLOTS) for _ in desk.free[SECOND, s]]
    if session == SECOND:
        first, second = (
            [s for s in range(SLOTS) for _ in desk.free[FIRST, s]],
            [s for s in [slot, *range(slot + 1, SLOTS)] for _ in desk.free[SECOND, s]],
        )
    if len(first) < n or (shape == TWO and len(second) < n) or (shape == ONE and session == SECOND):
        return None
    if not desk.free[session, slot]:
        return None
    doses = [
        (Wish(1, FIRST, first[i]), Wish(2, SECOND, second[i]) if shape == TWO else None) for i in range(n)
    ]
    return tuple(tuple(wish for wish in member if wish) for member in doses)


class Country:
    """One process's waitlist on ``pool``. ``restart`` gives another process on the same records."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.fuse, self.clock, self.wakes = Fuse(), Clock(), Wakes()
        self.desk = Desk(self.fuse, self.clock)
        self.said: list[str] = []
        self.locations = {
            1: Location(1, "r1", "Centre", "1 rue", "75001", "Paris", "75", "11", 48.8, 2.3, "Europe/Paris")
        }
        self.sessions = {
            number: Session(number, 1, "pfizer", day, _eight(day), 10, SLOTS, LINES)
            for number, day in ((FIRST, DAY), (SECOND, DAY + timedelta(days=28)))
        }
        self.restart()

    def restart(self) -> None:
        self.fuse.set()
        pool = Mortal(self.pool, self.fuse)
        self.ledger = Ledger(pool)
        sealer = PlainSealer()
        self.offers = Offers(self.ledger, self.desk, sealer, self.clock)
        self.entries = Entries(pool, self.ledger, sealer, self.desk.has_live_course, self.clock)
        self.rounds = Rounds(
            pool, self.surroundings(), self.offers, self.ledger, self.wakes, self.said.append
        )

    def surroundings(self) -> Surroundings:
        return Surroundings(
            seats=self.desk,
            around=lambda session, slot, kind, shape, n: plan_around(self.desk, session, slot, shape, n),
            freed_by=self.freed_by,
            free_slots=lambda session: [slot for slot in range(SLOTS) if self.desk.free[session, slot]],
            locations=self.locations,
            sessions=self.sessions,
            keyspace=Keyspace(4),
            now=self.clock,
            faults=(OutcomeUnknown,),
        )

    async def freed_by(self, slots: Sequence[Freed]) -> set[bytes]:
        return {p for p, session, slot in self.desk.freed if Freed(session, slot) in slots}

    async def clear(self) -> None:
        await self.pool.execute(EMPTY)

    async def register(self, *people: int) -> None:
        rows = [
            persons.NewRow(Op(b"key%05d" % person, bytes(8)), person_key(person), b"") for person in people
        ]
        await persons.register(self.pool, rows)

    async def join(self, *people: int, shape: str = ONE, key: str = "", **terms: Any) -> int:
        """Register and join, which must succeed."""
        await self.register(*people)
        joined = await self.entries.join(asked(*people, shape=shape, **terms), key or f"k{people}")
        assert isinstance(joined, Joined), joined
        return joined.entry

    def fill(self) -> list[int]:
        """Book every seat of dose 1; the people, who are numbered from 100."""
        people = range(100, 100 + SLOTS * LINES)
        assert all(self.desk.book(person, Wish(1, FIRST, n // LINES)) for n, person in enumerate(people))
        return list(people)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.pool.fetch(sql)]

    async def offers_in(self, state: str) -> list[tuple[int, int]]:
        """Offers in one state: entry and offer."""
        found = await self.pool.fetch(
            "select entry, id from waitlist_offer where state = $1 order by id", state
        )
        return [tuple(row) for row in found]

    async def entry_state(self, entry: int) -> str:
        return str(await self.pool.fetchval("select state from waitlist_entry where id = $1", entry))

    async def settle(self) -> None:
        """Drive on until nothing is due, and look at what was woken."""
        for _ in range(50):
            if not await self.rounds.drive() + await self.rounds.look():
                return
        raise AssertionError("it does not come to rest")


def asked(*people: int, shape: str = ONE, **terms: Any) -> Asked:
    """A wish to wait near the location, on any day until dose 1 is over."""
    given: dict[str, Any] = {
        "area": HERE,
        "first_day": DAY - timedelta(days=3),
        "last_day": DAY,
        "purpose": Purpose.SEATS,
    }
    members = tuple(Member(person_key(person), Facts(date(1950, 1, 31))) for person in people)
    return Asked(members, PRIMARY, shape, **(given | terms))


def _eight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 8, tzinfo=UTC)
