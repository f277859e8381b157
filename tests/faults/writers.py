"""The load: writers who book, hold, confirm, extend, move, give up a dose or all, alone or as a household.

Each writer has people of its own and asks again until it knows, as a patient client does. Whatever is sent
and answered goes into the history. Nothing is sent twice below a record of the history.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import msgspec

from tests.faults.desk import Course, Desk, Person, Wishes
from tests.faults.history import BEGINS, Act, Op

WRITERS = 256
DEADLINE_S = 10.0
OPEN = {"unknown", "away"}
PAUSE_S_MAX = 0.3
# A writer that does not learn an outcome by then gives up; its last record stays unknown.
RESOLVE_S_MAX = 120.0
HOUSEHOLDS, HOLDS, ELSEWHERE = 0.12, 0.35, 0.2
HOUSEHOLD_MAX, NEIGHBOURS = 4, 4
TWINS, RIVALS = 0.15, 0.1
# Who was told 202 asks at the address that it came with until it is known, or sends the write again.
POLLS = 0.5
# What is done with a hold (the rest is left until it is over), and with a booked course.
CONFIRMS, EXTENDS, GIVES_BACK = 0.55, 0.2, 0.08
MOVES, DROPS, CANCELS, REPEATS = 0.4, 0.1, 0.3, 0.12
REPEATS_AFTER = 0.25
# A course may go through eight changes; sometimes one more is asked for.
CHANGES_MAX = 8
LATER_S = (0.5, 4.0)
Again = Callable[[], Coroutine[Any, Any, list[Op]]]


class Place(msgspec.Struct, frozen=True):
    """A location that is booked: its session of each dose, and their slots."""

    id: int
    sessions: tuple[int, int]
    slots: int


class Life(msgspec.Struct):
    """Courses that began together, while they are held; then each is one of its own. ``asked`` asks again."""

    courses: list[Course]
    asked: list[Again]


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
        self._people = {person.key: person for person in people}
        self._places = places
        self._chance = chance
        self._history = desk.history
        self._stop = stop
        self._pause_s = pause_s
        self._lives: dict[str, Life] = {}
        # Who left a hold: when to try again.
        self._later: dict[str, float] = {}

    async def run(self) -> None:
        """Work."""
        while not self._stop.is_set() and self._people:
            if self._pause_s:
                await asyncio.sleep(self._chance.uniform(0, 2 * self._pause_s))
            if not await self.step():
                await asyncio.sleep(self._chance.uniform(0.05, PAUSE_S_MAX))

    async def step(self) -> bool:
        """One thing for somebody; False where they wait for the end of a hold."""
        person = self._chance.choice(list(self._people.values()))
        if person.key in self._lives:
            await self._go_on(self._lives[person.key])
        elif self._later.get(person.key, 0.0) <= self._history.now_s():
            await self._begin(person)
        else:
            return False
        return True

    async def _begin(self, person: Person) -> None:
        """Book or hold: alone, twice at once with one key, twice at once with two, or with others."""
        free = [one for one in self._people.values() if one.key not in self._lives and one is not person]
        group = [person]
        if self._chance.random() < HOUSEHOLDS:
            group += self._chance.sample(free, min(len(free), self._chance.randrange(1, HOUSEHOLD_MAX)))
        act: Act = "hold" if self._chance.random() < HOLDS else "book"
        first = self._asking(group, act)
        asks, draw = [first], self._chance.random()
        if draw < TWINS:
            asks.append(first)
        elif draw < TWINS + RIVALS:
            asks.append(self._asking(group, act))
        answers = await asyncio.gather(*(self._resolved(ask) for ask in asks))
        won = [(ask, ops) for ask, ops in zip(asks, answers, strict=True) if ops[0].outcome == "ok"]
        if won:
            # A rival can come after a hold that is over: the later course is the one that they have.
            self._begun(group, *max(won, key=lambda one: one[1][0].generation))
        elif any(ops[0].words == "already-booked" for ops in answers):
            self._lost(group)

    def _asking(self, group: Sequence[Person], act: Act) -> Again:
        key, wishes = self._key(), self._wished(len(group))
        return lambda: self._desk.begin(group, key, wishes, act)

    def _begun(self, group: Sequence[Person], ask: Again, ops: Sequence[Op]) -> None:
        courses = [
            Course(person, op.generation, op.location, op.reference, op.seats, is_held=op.act == "hold")
            for person, op in zip(group, ops, strict=True)
        ]
        if courses[0].is_held:
            self._live(Life(courses, [ask]))
            return
        for course in courses:
            self._live(Life([course], [ask] if len(courses) == 1 else []))

    def _live(self, life: Life) -> None:
        for course in life.courses:
            self._lives[course.person.key] = life

    def _over(self, life: Life) -> None:
        for course in life.courses:
            del self._lives[course.person.key]

    def _lost(self, group: Sequence[Person]) -> None:
        """Somebody has a hold that was left, and waits, or a course whose answer was lost, and is done."""
        for person in group:
            if person.key in self._later:
                self._later[person.key] = self._history.now_s() + self._chance.uniform(*LATER_S)
            elif len(group) == 1:
                # By a copy whose answer was lost; nobody has the reference, so this person is done.
                del self._people[person.key]

    async def _go_on(self, life: Life) -> None:
        await (self._go_on_held(life) if life.courses[0].is_held else self._go_on_booked(life))

    async def _go_on_held(self, life: Life) -> None:
        """Confirm, extend, give back, or leave."""
        draw = self._chance.random()
        if draw < CONFIRMS:
            await self._confirm(life)
        elif draw < CONFIRMS + EXTENDS:
            if await self._change(life, "extend") == "hold-over":
                self._over(life)
        elif draw < CONFIRMS + EXTENDS + GIVES_BACK:
            for course in life.courses:
                own = Life([course], [])
                self._live(own)
                await self._cancel(own)
        else:
            self._over(life)
            for course in life.courses:
                self._later[course.person.key] = self._history.now_s() + self._chance.uniform(*LATER_S)

    async def _confirm(self, life: Life) -> None:
        words = await self._change(life, "confirm")
        if words == "hold-over":
            self._over(life)
        elif not words:
            for course in life.courses:
                course.is_held = False
                self._live(Life([course], life.asked if len(life.courses) == 1 else []))

    async def _go_on_booked(self, life: Life) -> None:
        """Move, give up dose 2, cancel, ask again, or try to get a second course."""
        draw, course = self._chance.random(), life.courses[0]
        if draw < MOVES and course.moves <= CHANGES_MAX:
            await self._move(life)
        elif draw < MOVES + DROPS and course.moves <= CHANGES_MAX and 2 in course.doses:
            await self._change(life, "drop")
        elif draw < MOVES + DROPS + CANCELS:
            await self._cancel(life)
        elif draw < MOVES + DROPS + CANCELS + REPEATS:
            await self._repeat(life)
        else:
            await self._resolved(self._asking([course.person], "book"))

    async def _move(self, life: Life) -> None:
        """One dose or both, also one that was given up; sometimes to two places at once."""
        course = life.courses[0]
        wishes = self._wishes()
        if course.doses == {1}:
            wishes.pop(self._chance.choice(["dose1", ""]), None)
        elif self._chance.random() < 0.6:
            wishes.pop(self._chance.choice(["dose1", "dose2"]))
        rivals = self._chance.random() < RIVALS and course.doses == {1, 2}
        await self._change(life, "move", wishes, self._wishes() if rivals else None)

    async def _cancel(self, life: Life) -> None:
        if not await self._change(life, "cancel"):
            self._over(life)
            if self._chance.random() < REPEATS_AFTER:
                await self._repeat(life)

    async def _repeat(self, life: Life) -> None:
        """Ask once more for something that was granted: the answer is the old one."""
        if life.asked:
            await self._resolved(self._chance.choice(life.asked))

    async def _change(
        self, life: Life, act: Act, wishes: Wishes | None = None, rival: Wishes | None = None
    ) -> str:
        """Why it was refused, empty where it was not. Nobody goes on with what stays unknown."""
        asks = [self._changing(act, life, wishes)]
        if rival is not None:
            asks.append(self._changing(act, life, rival))
        elif self._chance.random() < TWINS:
            asks.append(asks[0])
        answers = await asyncio.gather(
            *(self._resolved(ask, life.courses, is_rival=rival is not None) for ask in asks)
        )
        granted = [ask for ask, ops in zip(asks, answers, strict=True) if ops[0].outcome == "ok"]
        if any(ops[0].outcome in OPEN for ops in answers) or (act == "cancel" and not granted):
            for course in life.courses:
                self._lives.pop(course.person.key, None)
                self._people.pop(course.person.key, None)
            return "unknown"
        if not granted:
            return answers[0][0].words
        life.asked += granted if len(life.courses) == 1 else []
        self._changed(life, act, [ops for ops in answers if ops[0].outcome == "ok"], len(set(granted)))
        return ""

    def _changing(self, act: Act, life: Life, wishes: Wishes | None) -> Again:
        key, courses = self._key(), list(life.courses)
        return lambda: self._desk.change(act, courses, key, wishes)

    def _changed(self, life: Life, act: Act, told: Sequence[list[Op]], count: int) -> None:
        for n, course in enumerate(life.courses):
            course.revision += count
            course.moves += count if act in {"move", "drop"} else 0
            if act in {"move", "drop"}:
                course.seats = told[0][n].seats
            for ops in told:
                ops[n].revision = course.revision

    async def _resolved(self, ask: Again, of: Sequence[Course] = (), *, is_rival: bool = False) -> list[Op]:
        """Ask until the outcome is known. ``of``: the courses that are changed."""
        deadline_s, pending_s = self._history.now_s() + RESOLVE_S_MAX, 0.0
        address, only_polls = "", False
        ops = await ask()
        self._mark(ops, of, is_rival=is_rival)
        while ops[0].outcome in OPEN and self._history.now_s() < deadline_s:
            op = ops[0]
            if op.status == 202 and not pending_s:
                # The address tells the fate of one booking, not that of a household.
                only_polls = op.act in BEGINS and len(ops) == 1 and self._chance.random() < POLLS
                pending_s, address = op.answered_s, op.status_at
            await asyncio.sleep(self._chance.uniform(0.02, PAUSE_S_MAX))
            if address and only_polls:
                ops = [await self._desk.status(msgspec.structs.replace(op, status_at=address))]
            else:
                ops = await ask()
            self._mark(ops, of, is_rival=is_rival)
        if pending_s:
            self._history.resolved.append((pending_s, self._history.now_s()))
        return ops

    def _mark(self, ops: Sequence[Op], of: Sequence[Course], *, is_rival: bool) -> None:
        for op, course in zip(ops, of, strict=False):
            op.is_rival, op.revision = is_rival, course.revision

    def _key(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128)))

    def _wishes(self) -> Wishes:
        """Both doses, mostly at one place."""
        place = self._chance.choice(self._places)
        other = self._chance.choice(self._places) if self._chance.random() < ELSEWHERE else place
        return {
            f"dose{n + 1}": {"session": at.sessions[n], "slot": self._chance.randrange(at.slots)}
            for n, at in enumerate((place, other))
        }

    def _wished(self, count: int) -> list[Wishes]:
        """What people who begin together wish for: one place, neighbouring first doses."""
        if count == 1:
            return [self._wishes()]
        place = self._chance.choice(self._places)
        first = self._chance.randrange(max(1, place.slots - NEIGHBOURS))
        return [
            {
                "dose1": {
                    "session": place.sessions[0],
                    "slot": min(first + self._chance.randrange(NEIGHBOURS), place.slots - 1),
                },
                "dose2": {"session": place.sessions[1], "slot": self._chance.randrange(place.slots)},
            }
            for _ in range(count)
        ]
