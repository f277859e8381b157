"""One partition, its records written and read byte by byte: no use case between a test and a script.

Numbers are chosen so that no two fields of a record look alike, and none fits the field beside it.
"""

from collections.abc import Mapping
from typing import Any

from engine.domain.course import HERE, Appointment, CourseId, Op, Wish
from engine.inventory import codec
from tests.world import EPOCH, World

PERSON = b"\xfe\x01-person-" + b"\x00\xff{}\r\n"
KIND, GENERATION, LOCATION = 200, 70_001, 300_003
COURSE = CourseId(PERSON, KIND, GENERATION)
OP = Op(b"key-op-1", b"digest-1")
OTHER = Op(b"key-op-2", b"digest-2")
# As OP, but for another request.
REUSED = Op(OP.key, OTHER.digest)
# Every use of a partition in these tests happens at this time, once `stop_the_clock` was called.
NOW_MS = 10**14


class ByHand:
    """A founded partition without sessions."""

    def __init__(self, world: World, partition: int) -> None:
        self.world, self.redis, self.keys, self.number = world, world.redis, world.keyspace, partition
        self._is_stopped = False

    def call(self, function: str, *arguments: Any) -> Any:
        """Call one function of the library on this partition."""
        if self._is_stopped:
            self._set_clock()
        return self.redis.fcall(function, 1, self.keys.outbox(self.number), *arguments)

    def step(self, *records: bytes) -> list[bytes]:
        """The answers of one call."""
        answers: list[bytes] = self.call("dosebook_step", EPOCH, *records)[2:]
        return answers

    def answer(self, record: bytes) -> bytes:
        """The answer of a call with one record."""
        return self.step(record)[0]

    def everything(self) -> dict[bytes, Any]:
        """All keys of the partition with their values; of a clock that stands, without its host's."""
        if self._is_stopped:
            self._set_clock()
        found = {}
        for key in self.redis.scan_iter(self.keys.prefix(self.number) + b"*"):
            found[key] = self.redis.dump(key)
        return found

    def stop_the_clock(self) -> None:
        """Let every call happen at one time: a clock that is ahead without its host's stands."""
        self._is_stopped = True
        self._set_clock()

    def _set_clock(self) -> None:
        meta = self.keys.meta(self.number)
        self.redis.hset(meta, "clock", NOW_MS)
        self.redis.hdel(meta, "host")

    def meta(self) -> Mapping[bytes, bytes]:
        """The partition's meta."""
        found: Mapping[bytes, bytes] = self.redis.hgetall(self.keys.meta(self.number))
        return found

    def run_id(self) -> bytes:
        """The server process, as it stands in a certificate."""
        return self.meta()[b"certified"]

    # Guards and courses ------------------------------------------------------------------------------------

    def put_guard(self, state: bytes, generation: int = GENERATION, op: Op = OP, memories: int = 0) -> bytes:
        """Write a guard; returns its record."""
        record = guard(state, generation, op.id, tuple(memory(number) for number in range(memories)))
        self.redis.hset(self.keys.bucket(self.number, PERSON), codec.PERSON_KIND.pack(PERSON, KIND), record)
        return record

    def guard(self) -> bytes | None:
        """The guard's record."""
        field = codec.PERSON_KIND.pack(PERSON, KIND)
        record: bytes | None = self.redis.hget(self.keys.bucket(self.number, PERSON), field)
        return record

    def put_course(
        self,
        state: bytes,
        appointments: tuple[Appointment, ...] = (),
        op: Op = OP,
        until_ms: int = 0,
        changes: tuple[codec.Change, ...] = (),
        course: CourseId = COURSE,
    ) -> bytes:
        """Write a course that OTHER cancelled, if it is cancelled, or a hold; returns its record."""
        if state == b"x":
            changes = (codec.Change(OTHER.id, b"x", 2 + len(changes)), *changes)
        revision = 0 if state == b"t" else 1 + len(changes)
        record = course_record(state, op, appointments, revision, changes)
        self.redis.hset(self.keys.bucket(self.number, course.person), field_of(course), record)
        if state == b"h":
            self.redis.zadd(self.holds_key, {field_of(course): until_ms})
        return record

    @property
    def holds_key(self) -> bytes:
        """Of the sorted set of holds."""
        return self.keys.prefix(self.number) + b"holds"

    def holds(self) -> dict[bytes, float]:
        """When which hold ends, by its course's field."""
        return dict(self.redis.zrange(self.holds_key, 0, -1, withscores=True))

    def course_of(self, course: CourseId) -> bytes | None:
        """A course's record."""
        bucket = self.keys.bucket(self.number, course.person)
        record: bytes | None = self.redis.hget(bucket, field_of(course))
        return record

    def part(self, part: codec.PartId) -> bytes | None:
        """A part's record."""
        bucket = self.keys.bucket(self.number, part.course.person)
        record: bytes | None = self.redis.hget(bucket, codec.part_field(part))
        return record

    def put_part(self, part: codec.PartId, record: codec.Part) -> bytes:
        """Write a part; returns its record."""
        packed = codec.pack_part(record)
        self.redis.hset(self.keys.bucket(self.number, part.course.person), codec.part_field(part), packed)
        return packed

    def course(self, generation: int = GENERATION) -> bytes | None:
        """The course's record."""
        bucket = self.keys.bucket(self.number, PERSON)
        record: bytes | None = self.redis.hget(bucket, course_field(generation))
        return record

    # Sessions and events -----------------------------------------------------------------------------------

    def put_session(self, session: int, width: int, mask: bytes, state: bytes = b"o") -> None:
        """Write a session's stock."""
        self.redis.set(self.keys.session(self.number, session), state + bytes([width]) + mask)

    def mask(self, session: int) -> bytes:
        """A session's seat mask."""
        stock: bytes = self.redis.get(self.keys.session(self.number, session))
        return stock[2:]

    def events(self) -> list[bytes]:
        """The packed events, oldest first."""
        return [fields[b"e"] for _, fields in self.redis.xrange(self.keys.outbox(self.number))]


def course_field(generation: int) -> bytes:
    """The field of the person's course."""
    return codec.COURSE.pack(PERSON, KIND, generation)


def guard(state: bytes, generation: int, op: bytes, memories: tuple[codec.Memory, ...] = ()) -> bytes:
    """A guard's record; the location is 0 once it is free."""
    location = 0 if state == b"f" else LOCATION
    return codec.pack_guard(codec.Guard(state, generation, location, op, memories))


def memory(number: int) -> codec.Memory:
    """What a guard remembers of an earlier course."""
    return codec.Memory(b"past-op%d" % number + b"digest-p", 60_000 + number, 400_000 + number)


def mask_of(length: int, *free: tuple[int, int]) -> bytes:
    """A mask of so many bytes, in which only these bits, by byte and bit, are free."""
    mask = bytearray(length)
    for byte, bit in free:
        mask[byte] |= 1 << bit
    return bytes(mask)


def field_of(course: CourseId) -> bytes:
    """The field of a course."""
    return codec.COURSE.pack(course.person, course.kind, course.generation)


def course_record(
    state: bytes,
    op: Op,
    appointments: tuple[Appointment, ...],
    revision: int = 1,
    changes: tuple[codec.Change, ...] = (),
    given: tuple[int, int] = (0, 0),
) -> bytes:
    """A course's record."""
    return codec.pack_course(codec.CourseRecord(state, op.id, appointments, revision, *given, changes))


def event(
    kind_of_event: bytes,
    op: Op,
    taken: tuple[Appointment, ...],
    generation: int,
    released: tuple[Appointment, ...] = (),
    revision: int = 1,
    tail: tuple[int, int, int] = (0, 0, 0),
    course: CourseId | None = None,
) -> bytes:
    """A packed event of the person's course at NOW_MS: what it takes, here or elsewhere, and gives back."""
    told = [codec.Entry(codec.TAKEN if a.where == HERE else codec.JOINED, a) for a in taken]
    told += [codec.Entry(codec.RELEASED if a.where == HERE else codec.LEFT, a) for a in released]
    of = course or CourseId(PERSON, KIND, generation)
    return codec.pack_event(codec.Event(kind_of_event, NOW_MS, of, revision, op.id, tuple(told), *tail))


def begun(*members: tuple[int, bytes], until_ms: int = 0) -> bytes:
    """The ``B`` answer: generation and seats of each member."""
    told = [codec.GENERATION.pack(generation) + taken for generation, taken in members]
    return b"B" + codec.UNTIL.pack(until_ms) + b"".join(told)


def take(wishes: tuple[Wish, ...], op: Op = OP, not_after_ms: int = NOW_MS) -> bytes:
    """A take for COURSE."""
    return codec.take(codec.Group(op, not_after_ms, (codec.Member(PERSON, KIND, GENERATION, wishes),)))


def book(wishes: tuple[Wish, ...], op: Op = OP, not_after_ms: int = NOW_MS) -> bytes:
    """A fused booking of the person."""
    return codec.book(codec.Group(op, not_after_ms, (codec.Member(PERSON, KIND, LOCATION, wishes),)))


def claim(op: Op = OP, not_after_ms: int = NOW_MS) -> bytes:
    """A claim of the person's guard."""
    return codec.claim(PERSON, KIND, op, LOCATION, not_after_ms)


def live(state: bytes, generation: int = GENERATION) -> bytes:
    """The ``L`` answer for the person's guard."""
    return b"L" + codec.LIVE.pack(state, generation, LOCATION)


def seats(*numbers: int) -> bytes:
    """Seats as they are answered."""
    return b"".join(number.to_bytes(2, "little") for number in numbers)
