"""The acknowledgement log: what clients were told, as JSON lines, one for each acknowledged write.

It is the audit's one source that neither Redis nor Postgres has written. A line is ``{"op": "book",
"booking": reference, "appointments": [[dose, session, slot, seat], ...], "revision": n, "at": ms}``;
instead of ``booking`` it may name ``person`` (32 hex), ``kind``, ``generation``, ``location``. ``op`` is one
of ``book``, ``hold``, ``confirm``, ``move`` (also of a dose that is given up or added), ``cancel``.
``appointments`` are all that the course has then; ``revision`` is its revision, 1 if it is left out. A writer
appends whole lines, so several processes may share a file; a last line without an end was cut by a crash and
is ignored. A client that may be stopped before it is answered writes ``asking-move`` or ``asking-cancel``
first: then either end is right.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

from engine.domain.course import Appointment, CourseId
from engine.privacy.references import BookingRef

Decode = Callable[[str], BookingRef | None]
OpName = Literal["book", "hold", "confirm", "asking-move", "move", "asking-cancel", "cancel"]


class AckLogError(Exception):
    """A line of the log cannot be read; the message names file and line."""


class Ack(msgspec.Struct, frozen=True, gc=False):
    """One acknowledged write."""

    op: OpName
    course: CourseId
    location: int
    appointments: tuple[Appointment, ...]
    at_ms: int
    revision: int = 1


class _Line(msgspec.Struct, omit_defaults=True):
    op: OpName
    at: int
    revision: int = 1
    appointments: tuple[tuple[int, int, int, int], ...] = ()
    booking: str = ""
    person: str = ""
    kind: int = 0
    generation: int = 0
    location: int = 0


class AckWriter:
    """Appends to a log. A line is one write to the file: it is there when the method returns."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __enter__(self) -> "AckWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def by_reference(
        self, op: OpName, booking: str, appointments: Iterable[Appointment], at_ms: int, revision: int = 1
    ) -> None:
        """Log what a client knows: the reference that it was answered with."""
        self._write(_Line(op, at_ms, revision, _plain(appointments), booking=booking))

    def by_course(self, ack: Ack) -> None:
        """Log what is known inside."""
        course = ack.course
        self._write(
            _Line(
                ack.op,
                ack.at_ms,
                ack.revision,
                _plain(ack.appointments),
                person=course.person.hex(),
                kind=course.kind,
                generation=course.generation,
                location=ack.location,
            )
        )

    def _write(self, line: _Line) -> None:
        os.write(self._descriptor, msgspec.json.encode(line) + b"\n")


def read_acks(paths: Iterable[Path], decode: Decode) -> Iterator[Ack]:
    """Every acknowledgement of the logs. ``decode`` reads the references (``References.booking``).

    Raises ``AckLogError`` for a line that cannot be read, or whose reference is not of this deployment.
    """
    decoder = msgspec.json.Decoder(_Line)
    for path in paths:
        *lines, _cut = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                yield _ack(decoder.decode(line), decode)
            except (ValueError, msgspec.DecodeError) as error:
                raise AckLogError(f"{path}:{number}: {error}") from None


def _ack(line: _Line, decode: Decode) -> Ack:
    appointments = tuple(Appointment(*fields) for fields in line.appointments)
    if not line.booking:
        course = CourseId(bytes.fromhex(line.person), line.kind, line.generation)
        return Ack(line.op, course, line.location, appointments, line.at, line.revision)
    reference = decode(line.booking)
    if reference is None:
        raise ValueError("the reference was not made by this deployment (another DOSEBOOK_SECRETS_DIR?)")
    course = CourseId(reference.person, reference.kind, reference.generation)
    return Ack(line.op, course, reference.location, appointments, line.at, line.revision)


def _plain(appointments: Iterable[Appointment]) -> tuple[tuple[int, int, int, int], ...]:
    return tuple((a.dose, a.session, a.slot, a.seat) for a in appointments)
