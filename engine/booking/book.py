"""Begins courses: claim, take, settle (PROTOCOL.md). Of one person or of a household: all of them or none.

Where everybody and the location share a partition the three are one operation, ``book``. Otherwise the commit
point is ``take`` in the home partition; seats elsewhere were set aside before it, and the outbox consumer
settles guards and parts. A process that dies after ``claim`` leaves claimed guards: the next claim resolves
them, so that nobody is locked out and nobody is booked twice. Parts that it leaves are resolved by the sweep.
"""

from collections.abc import Iterable, Sequence

import msgspec

from engine import limits
from engine.booking.aside import Away, RefusedAside, aside, quit_all
from engine.booking.outcomes import Booked, BookOutcome, InDoubt, Reason, Refused
from engine.booking.resolve import resolve
from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import Appointment, Course, CourseId, Op, Wish
from engine.errors import EngineFault, OutcomeUnknown
from engine.inventory import codec


class Seeker(msgspec.Struct, frozen=True, gc=False):
    """One person's wishes: those at the request's location, and those elsewhere.

    ``given_vaccine`` and ``given_day`` tell of the last dose given elsewhere, 0 for none.
    """

    person: bytes
    kind: int
    wishes: tuple[Wish, ...]
    away: tuple[Away, ...] = ()
    given_vaccine: int = 0
    given_day: int = 0


class Request(msgspec.Struct, frozen=True, gc=False):
    """Courses that begin together at one location. ``hold_ms`` 0 books them, else the seats are held so long.

    ``instead``: a hold at the same location whose seats are for these people; it ends in the same step.
    """

    op: Op
    location: int
    seekers: tuple[Seeker, ...]
    hold_ms: int = 0
    instead: CourseId | None = None


class _Claim(msgspec.Struct, frozen=True, gc=False):
    """A claimed generation. ``first``: the claim was new, not joined."""

    course: CourseId
    seeker: Seeker
    first: bool


class _Rival(msgspec.Struct, frozen=True, gc=False):
    """Another course of a member is in the way."""

    member: int
    live: codec.Live


class _Again(msgspec.Struct, frozen=True, gc=False):
    """A generation was given up, or another copy of this op was quicker: begin anew, and get its answer."""


_Outcome = BookOutcome | _Rival | _Again


def book(request: Request, placement: Placement) -> Steps[BookOutcome]:
    """Steps of a booking or a hold. Bounded: ``CLAIM_ATTEMPTS_MAX`` rivals for each person are resolved."""
    request = _gathered(request, placement)
    steps = _fused if _is_fused(request, placement) else _claim_and_take
    for _ in range(limits.CLAIM_ATTEMPTS_MAX * len(request.seekers)):
        outcome: _Outcome = yield from steps(request, placement)
        if isinstance(outcome, _Rival):
            seeker = request.seekers[outcome.member]
            if (yield from resolve(seeker.person, seeker.kind, outcome.live, placement)):
                return Refused(Reason.ALREADY_BOOKED, member=outcome.member)
        elif not isinstance(outcome, _Again):
            return outcome
    return InDoubt()


def _gathered(request: Request, placement: Placement) -> Request:
    """The request with wishes at other locations of the home partition among those at home."""
    if not any(seeker.away for seeker in request.seekers):
        return request
    of_location = placement.keyspace.of_location
    home = of_location(request.location)
    seekers = tuple(
        msgspec.structs.replace(
            seeker,
            wishes=(*seeker.wishes, *(a.wish for a in seeker.away if of_location(a.location) == home)),
            away=tuple(a for a in seeker.away if of_location(a.location) != home),
        )
        for seeker in request.seekers
    )
    return msgspec.structs.replace(request, seekers=seekers)


def _is_fused(request: Request, placement: Placement) -> bool:
    home = placement.keyspace.of_location(request.location)
    of_person = placement.keyspace.of_person
    return all(not seeker.away and of_person(seeker.person) == home for seeker in request.seekers)


def _group(
    request: Request, not_after_ms: int, numbers: Iterable[int], parts: Sequence[tuple[Appointment, ...]]
) -> codec.Group:
    members = tuple(
        codec.Member(s.person, s.kind, number, s.wishes, own_parts, s.given_vaccine, s.given_day)
        for s, number, own_parts in zip(request.seekers, numbers, parts, strict=True)
    )
    return codec.Group(request.op, not_after_ms, members, request.hold_ms, request.instead)


def _fused(request: Request, placement: Placement) -> Steps[_Outcome]:
    home = placement.keyspace.of_location(request.location)
    count = len(request.seekers)
    group = _group(request, placement.not_after(home), [request.location] * count, [()] * count)
    answer = yield Call(home, codec.book(group))
    code = answer[:1]
    if code == b"B":
        return _booked(request, answer[1:])
    if code == b"L":
        return _Rival(answer[1] - 1, codec.live(answer[2:]))
    # `book` refuses what no other copy may be granted: nothing is left to give up.
    return _Again() if code == b"T" else _refused(request, answer)


def _claim_and_take(request: Request, placement: Placement) -> Steps[_Outcome]:
    claims: list[_Claim] = []
    try:
        for member in _in_key_order(request):
            answer = yield from _claim(request, member, placement)
            if answer[:1] not in b"+=":
                yield from _unclaim(claims, placement)
                if answer[:1] == b"L":
                    return _Rival(member, codec.live(answer[1:]))
                return _refused(request, answer[:1] + bytes([member + 1]) + answer[1:])
            seeker = request.seekers[member]
            (generation,) = codec.GENERATION.unpack_from(answer, 1)
            course = CourseId(seeker.person, seeker.kind, generation)
            claims.append(_Claim(course, seeker, answer[:1] == b"+"))
    except EngineFault:
        # No take was sent. What is left behind would be in these people's way.
        yield from _unclaim(claims, placement)
        raise
    return (yield from _take(request, claims, placement))


def _in_key_order(request: Request) -> list[int]:
    """Members by their keys: two households that share people do not wait for each other in a circle."""
    seekers = request.seekers
    return sorted(range(len(seekers)), key=lambda member: (seekers[member].person, seekers[member].kind))


def _claim(request: Request, member: int, placement: Placement) -> Steps[bytes]:
    seeker = request.seekers[member]
    guard = placement.keyspace.of_person(seeker.person)
    deadline = placement.not_after(guard)
    record = codec.claim(seeker.person, seeker.kind, request.op, request.location, deadline)
    return (yield Call(guard, record))


def _unclaim(claims: Iterable[_Claim], placement: Placement) -> Steps[None]:
    """Give claims back whose take was refused, or never sent. One that was joined stays as it is."""
    for claim in claims:
        guard = placement.keyspace.of_person(claim.course.person)
        yield Call(guard, codec.unclaim(claim.course, buried=False), awaited=False)


def _take(request: Request, claims: list[_Claim], placement: Placement) -> Steps[_Outcome]:
    """Take the seats of claimed generations: those elsewhere are set aside first."""
    home = placement.keyspace.of_location(request.location)
    by_person = {(claim.course.person, claim.course.kind): claim for claim in claims}
    ordered = [by_person[seeker.person, seeker.kind] for seeker in request.seekers]
    parts: list[tuple[Appointment, ...]] = []
    refused: RefusedAside | None = None
    try:
        for member, claim in enumerate(ordered):
            found = yield from aside(claim.course, 1, request.op, home, claim.seeker.away, placement)
            if isinstance(found, RefusedAside):
                refused = msgspec.structs.replace(
                    found, refusal=msgspec.structs.replace(found.refusal, member=member)
                )
                parts.append(found.parts)
                break
            parts.append(found)
        numbers = [claim.course.generation for claim in ordered]
        # Past its deadline a take is only remembered, never made: an op that came before keeps its answer.
        deadline = 0 if refused else placement.not_after(home)
        of_members = [()] * len(ordered) if refused else parts
        answer = yield Call(home, codec.take(_group(request, deadline, numbers, of_members)))
        if answer[:1] == b"B":
            return _booked(request, answer[1:])
    except OutcomeUnknown:
        raise
    except EngineFault:
        # Refused as a whole, so as good as any refusal. What is left behind would take up what becomes free.
        yield from _give_up(ordered, home, parts, placement)
        raise
    buried = answer[:1] == b"T" or (refused is not None and refused.is_over)
    if not (yield from _give_up(ordered, home, parts, placement, buried=buried)) or buried:
        return _Again()
    return refused.refusal if refused else _refused(request, answer)


def _give_up(
    claims: list[_Claim],
    home: int,
    parts: Sequence[tuple[Appointment, ...]],
    placement: Placement,
    *,
    buried: bool = False,
) -> Steps[bool]:
    """Give claims and parts back after a refused take; False where another copy of this op was granted.

    While another copy's take may still be on its way, or seats are set aside that it could count, only a
    tombstone makes the generation's end final. ``buried``: one stands somewhere in the group.
    """
    if not buried and all(claim.first for claim in claims) and not any(parts):
        yield from _unclaim(claims, placement)
        return True
    granted = False
    for claim, own_parts in zip(claims, [*parts, *[()] * (len(claims) - len(parts))], strict=True):
        answer = yield Call(home, codec.resolve(claim.course))
        granted = granted or answer[:1] != b"T"
        if answer[:1] == b"B":
            continue
        guard = placement.keyspace.of_person(claim.course.person)
        ended = codec.free(claim.course) if answer[:1] == b"X" else codec.unclaim(claim.course, buried=True)
        yield Call(guard, ended)
        yield from quit_all(claim.course, own_parts)
    return not granted


def _booked(request: Request, packed: bytes) -> Booked | InDoubt:
    """What was begun.

    If an earlier request of the op wished for other slots, its seats are told as if they were of these:
    whoever sends one op with several wishes reads the courses again (``Desk.begun``). In doubt where they
    cannot even be read as such.
    """
    until_ms, rest = codec.begun(packed)
    if len(rest) != sum(map(_answer_bytes, request.seekers)):
        return InDoubt()
    courses, at = [], 0
    for seeker in request.seekers:
        end = at + codec.GENERATION.size + 2 * len(seeker.wishes)
        parts_end = end + codec.APPOINTMENT.size * len(seeker.away)
        (generation,) = codec.GENERATION.unpack_from(rest, at)
        seats = codec.seats_of(rest[at + codec.GENERATION.size : end])
        here = tuple(
            Appointment(wish.dose, wish.session, wish.slot, seat)
            for wish, seat in zip(seeker.wishes, seats, strict=True)
        )
        courses.append(
            Course(
                CourseId(seeker.person, seeker.kind, generation),
                request.location,
                "held" if request.hold_ms else "booked",
                here + codec.appointments(rest[end:parts_end]),
                until_ms=until_ms,
                given_vaccine=seeker.given_vaccine,
                given_day=seeker.given_day,
            )
        )
        at = parts_end
    return Booked(tuple(courses))


def _answer_bytes(seeker: Seeker) -> int:
    return codec.GENERATION.size + 2 * len(seeker.wishes) + codec.APPOINTMENT.size * len(seeker.away)


def _refused(request: Request, answer: bytes) -> Refused:
    """A refusal, whose answer names the member where it is one's."""
    code = answer[:1]
    if code == b"G":
        return Refused(Reason.GONE)
    if code == b"D":
        return Refused(Reason.LATE)
    member = answer[1] - 1
    if code == b"F":
        _, width, mask = codec.stock(answer[3:])
        return Refused(Reason.FULL, answer[2], width, mask, request.seekers[member].wishes, member)
    if code == b"N":
        return Refused(Reason.CLOSED, answer[2], member=member)
    return Refused({b"K": Reason.KEY_REUSED, b"T": Reason.SUPERSEDED}[code], member=member)
