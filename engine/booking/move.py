"""Moves doses of a booked course to other seats, here or elsewhere; gives one dose up, or adds one.

Commit point: ``move`` in the home partition, by compare-and-set on the course's revision: new seats are taken
there and old ones given back in one script. Seats elsewhere are set aside before, and old ones elsewhere are
given back after. So at every moment the course has all its seats, old or new; what dies on the way leaves a
part that nobody counts, and the sweep gives it back.
"""

import msgspec

from engine.booking.aside import Away, RefusedAside, aside, quit_all
from engine.booking.outcomes import Moved, MoveOutcome, Reason, Refused
from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import Appointment, Course, Op
from engine.inventory import codec


class Change(msgspec.Struct, frozen=True, gc=False):
    """What is to change of a course as it was read: doses that end, and wishes with their locations."""

    course: Course
    op: Op
    ends: frozenset[int]
    wishes: tuple[Away, ...] = ()


def move(change: Change, placement: Placement) -> Steps[MoveOutcome]:
    """Steps of a move."""
    course, of_location = change.course, placement.keyspace.of_location
    home = of_location(course.location)
    away = [wish for wish in change.wishes if of_location(wish.location) != home]
    found = yield from aside(course.id, course.revision + 1, change.op, home, away, placement)
    wishes = tuple(wish.wish for wish in change.wishes if of_location(wish.location) == home)
    if isinstance(found, RefusedAside):
        # An op that came before keeps its answer. Past its deadline a move is only remembered, never made.
        record = codec.Move(course.id, change.op, course.revision, 0, change.ends, wishes)
        answer = yield Call(home, codec.move(record))
        if answer[:1] == b"V":
            return (yield from _moved(change, home, found.parts, answer[1:]))
        if found.parts or found.is_over:
            yield from _give_up(change, home, found.parts)
        return found.refusal
    deadline = placement.not_after(home)
    record = codec.Move(course.id, change.op, course.revision, deadline, change.ends, wishes, found)
    answer = yield Call(home, codec.move(record))
    if answer[:1] == b"V":
        return (yield from _moved(change, home, found, answer[1:]))
    if found:
        yield from _give_up(change, home, found)
    return _refused(answer, change)


def _moved(change: Change, home: int, parts: tuple[Appointment, ...], packed: bytes) -> Steps[MoveOutcome]:
    """The course after the change. Old seats elsewhere are not counted any more, and are given back."""
    (revision,) = codec.REVISION.unpack_from(packed)
    appointments = codec.appointments(packed[codec.REVISION.size :])
    if revision == change.course.revision + 1:
        old = (one for one in change.course.appointments if one.dose in change.ends)
        yield from quit_all(change.course.id, old)
    elif parts:
        # This op came before, and the course was read after it: what it has is not old, these are too many.
        yield from _give_up(change, home, parts)
    course = msgspec.structs.replace(change.course, revision=revision, appointments=appointments)
    return Moved(course)


def _give_up(change: Change, home: int, parts: tuple[Appointment, ...]) -> Steps[None]:
    """Give set-aside seats back, once the home cannot count them any more."""
    course = change.course.id
    answer = yield Call(home, codec.resolve(course, change.course.revision))
    counted = _counted(answer)
    yield from quit_all(course, (part for part in parts if part not in counted))


def _counted(answer: bytes) -> tuple[Appointment, ...]:
    """The appointments of a live course in the answer of ``resolve``."""
    return codec.course(answer[1:]).appointments if answer[:1] == b"B" else ()


def settle_part(part: codec.PartId, record: codec.Part, where: int) -> Steps[bool]:
    """Decide about a part that is in doubt: True where the home counts it. Otherwise it is given back."""
    answer = yield Call(record.home, codec.resolve(part.course, part.revision - 1))
    mine = Appointment(part.dose, record.session, record.slot, record.seat, part.revision, where)
    if mine in _counted(answer):
        yield Call(where, codec.keep(part))
        return True
    yield Call(where, codec.quit_part(part))
    return False


def _refused(answer: bytes, change: Change) -> Refused:
    code = answer[:1]
    if code == b"F":
        _, width, mask = codec.stock(answer[2:])
        wishes = tuple(wish.wish for wish in change.wishes)
        return Refused(Reason.FULL, answer[1], width, mask, wishes)
    if code == b"N":
        return Refused(Reason.CLOSED, answer[1])
    reasons = {b"R": Reason.CHANGED, b"-": Reason.UNKNOWN_COURSE, b"K": Reason.KEY_REUSED, b"D": Reason.LATE}
    return Refused(reasons[code])
