"""The formats in the scripts' headers, in their bodies and in the codec are the same."""

import re
import struct

import pytest

from engine.domain.course import Appointment, CourseId, Op, Wish
from engine.inventory import codec, library
from engine.redis.batch import DRAINS

OP = Op(b"k" * 8, b"d" * 8)
COURSE = CourseId(b"p" * 16, 1, 7)
OFFER = CourseId(b"o" * 16, 3, 5)
WISHES = (Wish(1, 11, 3), Wish(2, 12, 4))
PART = codec.PartId(COURSE, 2, 1)
AWAY = Appointment(2, 70_012, 301, 502, 3, 7)

RECORDS = {
    "c": codec.claim(b"p" * 16, 1, OP, 5, 99),
    "t": codec.take(codec.Group(OP, 99, ())),
    "b": codec.book(codec.Group(OP, 99, ())),
    "u": codec.unclaim(COURSE, buried=True),
    "s": codec.settle(COURSE),
    "f": codec.free(COURSE),
    "r": codec.resolve(COURSE),
    "x": codec.cancel(COURSE, OP),
    "y": codec.confirm([], OP),
    "w": codec.extend([], OP, 1, 2),
    "v": codec.move(codec.Move(COURSE, OP, 1, 99, frozenset({1}), WISHES))[: -2 * codec.WISH.size],
    "d": codec.move(codec.Move(COURSE, OP, 1, 99, frozenset({1}))),
    "e": codec.expire(3),
    "a": codec.aside(codec.Aside(COURSE, 1, OP, 5, 99, ())),
    "k": codec.keep(PART),
    "q": codec.quit_part(PART),
    "o": codec.open_session(11, 1, b""),
    "m": codec.mark(7),
    "g": codec.read_guard(b"p" * 16, 1),
    "l": codec.read_course(COURSE),
}
LAYOUTS = {
    "appointment": codec.APPOINTMENT,
    "wish": codec.WISH,
    "guard": codec.GUARD_RECORD,
    "memory": codec.MEMORY,
    "course": codec.COURSE_RECORD,
    "change": codec.CHANGE_RECORD,
    "part": codec.PART_RECORD,
    "event": codec.EVENT,
    "entry": codec.ENTRY,
    "tail": codec.TAIL,
    "session": codec.SESSION,
    "group": codec.GROUP,
    "member": codec.MEMBER,
}
# Where the body unpacks a record with the help of another script, or with a loop.
UNPACKED_ELSEWHERE = {"t", "b"}


def python_format(lua: str) -> str:
    """Python's spelling of a format of Lua's struct library."""
    letters = {"c1": "c", "c16": "16s", "B": "B", "I2": "H", "I4": "I", "I8": "Q"}
    return "<" + "".join(letters[part] for part in re.findall(r"c\d+|I\d|B", lua))


def headers() -> dict[str, tuple[str, str]]:
    """Operation code → (format in the header, the script's source)."""
    found = {}
    for script in library.SCRIPTS.glob("*.lua"):
        text = script.read_text()
        for letter, lua in re.findall(r"^-- record +(\w) (<\S+) ", text, re.MULTILINE):
            found[letter] = (lua, text)
    return found


def test_every_operation_is_packed_as_its_header_says() -> None:
    assert {code: struct.calcsize(python_format(lua)) for code, (lua, _) in headers().items()} == {
        code: len(record) - 1 for code, record in RECORDS.items()
    }


def test_every_operation_is_packed_under_its_own_code() -> None:
    assert all(record[:1] == code.encode() for code, record in RECORDS.items())


@pytest.mark.parametrize("code", sorted(RECORDS))
def test_the_body_unpacks_the_format_of_its_header(code: str) -> None:
    lua, text = headers()[code]
    assert f"ops.{code} = function" in text
    if code in UNPACKED_ELSEWHERE:
        assert "group_of(record)" in text
        text = (library.SCRIPTS / "begin.lua").read_text()
    assert f"unpack('{lua}', record, 2)" in text


def test_members_and_the_courses_of_a_group_are_unpacked_as_stated() -> None:
    (member,) = re.findall(r"^-- format member +(<\S+) ", library.source(), re.MULTILINE)
    assert f"unpack('{member}', record, at)" in library.source().replace("\n      ", " ").replace("  ", " ")
    assert python_format(member) == codec.MEMBER.format
    assert f"member.at, at = at, at + {codec.WISH.size} * member.wishes" in library.source()


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_records_have_the_format_that_the_layout_states(name: str) -> None:
    (lua,) = re.findall(rf"^-- format {name} +(<\S+) ", library.source(), re.MULTILINE)
    assert LAYOUTS[name].format == python_format(lua)
    assert f"pack('{lua}'" in library.source() or name in {"wish", "entry", "session", "group", "member"}


def test_the_event_that_scripts_pack_is_the_one_stated() -> None:
    (lua,) = re.findall(r"^-- format event +(<\S+) ", library.source(), re.MULTILINE)
    assert f"pack('{lua}', EVENT_VERSION" in library.source()
    assert f"local EVENT_VERSION = {codec.EVENT_VERSION}\n" in library.source()


@pytest.mark.parametrize(
    "bound", [f"MEMORIES_MAX = {codec.MEMORIES_MAX}", f"CHANGES_MAX = {codec.CHANGES_MAX}"]
)
def test_scripts_and_codec_remember_as_much(bound: str) -> None:
    assert f"local {bound}\n" in library.source()


def test_what_may_run_at_the_memory_limit_is_the_same_on_both_sides() -> None:
    (lua,) = re.findall(r"^local DRAINS = \{(.*?)\}$", library.source(), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"(\w) = true", lua)) == {chr(code) for code in DRAINS}
    assert not {chr(code) for code in DRAINS} & set("ctbovwa")


# Events ----------------------------------------------------------------------------------------------------


def test_an_event_of_another_version_is_not_guessed_at() -> None:
    packed = codec.EVENT.pack(codec.EVENT_VERSION + 1, b"b", 1, b"p" * 16, 1, 1, 1, OP.id, 0)
    with pytest.raises(ValueError, match="version 3 is not known"):
        codec.event(packed)


@pytest.mark.parametrize("tail", [(0, 0, 0), (99, 0, 0), (0, 3, 800), (2**40, 3, 800)])
@pytest.mark.parametrize("count", range(4))
def test_an_event_survives_the_way(tail: tuple[int, int, int], count: int) -> None:
    entries = tuple(
        codec.Entry(verb, Appointment(dose, 70_000 + dose, 300, 500, 2, 255 if verb in b"+-" else 7))
        for dose, verb in enumerate((codec.TAKEN, codec.JOINED, codec.RELEASED)[:count])
    )
    event = codec.Event(b"v", 10**14, COURSE, 2, OP.id, entries, *tail)
    assert codec.event(codec.pack_event(event)) == event
    for verb in (codec.TAKEN, codec.JOINED, codec.RELEASED, codec.LEFT):
        assert event.seats(verb) == tuple(e.appointment for e in entries if e.verb == verb)


@pytest.mark.parametrize("cut", [1, 5, 12, 13])
def test_a_torn_event_is_no_event(cut: int) -> None:
    entries = (codec.Entry(codec.TAKEN, AWAY),)
    packed = codec.pack_event(codec.Event(b"b", 1, COURSE, 1, OP.id, entries, 99))
    for torn in (packed[:-cut], packed + bytes(cut)):
        with pytest.raises(ValueError, match="no event"):
            codec.event(torn)


@pytest.mark.parametrize(("kind", "verb", "revision"), [(b"b", codec.TAKEN, 1), (b"x", codec.RELEASED, 2)])
@pytest.mark.parametrize("doses", [0, 1, 2])
def test_an_event_of_version_1_is_read(kind: bytes, verb: bytes, revision: int, doses: int) -> None:
    head = struct.pack("<BcQ16sBI16sB", 1, kind, 77, COURSE.person, COURSE.kind, 7, OP.id, doses)
    had = [(dose, 70_000 + dose, 300 + dose, 500 + dose) for dose in range(1, doses + 1)]
    packed = head + b"".join(struct.pack("<BIHH", *one) for one in had)
    entries = tuple(codec.Entry(verb, Appointment(*one)) for one in had)
    assert codec.event(packed) == codec.Event(kind, 77, COURSE, revision, OP.id, entries)
    with pytest.raises(ValueError, match="no event"):
        codec.event(packed[:-1])


def test_the_person_of_an_event_is_found_without_unpacking_it() -> None:
    packed = codec.pack_event(codec.Event(b"x", 1, COURSE, 1, OP.id, ()))
    assert codec.person_of(packed) == COURSE.person


# Records ---------------------------------------------------------------------------------------------------


def test_wishes_and_appointments_survive_the_way() -> None:
    had = (Appointment(1, 70_011, 300, 500), AWAY)
    assert codec.appointments(codec.pack_appointments(had)) == had
    record = codec.aside(codec.Aside(COURSE, 1, OP, 5, 99, WISHES))
    assert tuple(codec.iter_wishes(record[1 + codec.ASIDE.size :])) == WISHES


def test_a_group_is_packed_member_by_member() -> None:
    first = codec.Member(b"p" * 16, 1, 70_001, WISHES, (AWAY,), 3, 800)
    second = codec.Member(b"q" * 16, 2, 70_002, WISHES[:1])
    record = codec.take(codec.Group(OP, 99, (first, second), 1_000, OFFER))
    assert codec.GROUP.unpack_from(record, 1) == (OP.id, 99, 1_000, OFFER.person, 3, 5, 2)
    at = 1 + codec.GROUP.size
    assert codec.MEMBER.unpack_from(record, at) == (b"p" * 16, 1, 70_001, 3, 800, 2, 1)
    at += codec.MEMBER.size + 2 * codec.WISH.size
    assert codec.appointments(record[at : at + codec.APPOINTMENT.size]) == (AWAY,)
    at += codec.APPOINTMENT.size
    assert codec.MEMBER.unpack_from(record, at) == (b"q" * 16, 2, 70_002, 0, 0, 1, 0)
    assert len(record) == at + codec.MEMBER.size + codec.WISH.size


def test_the_doses_that_end_are_bits() -> None:
    record = codec.move(codec.Move(COURSE, OP, 3, 99, frozenset({1, 3, 16})))
    assert codec.MOVE.unpack_from(record, 1)[6] == 0b1000_0000_0000_0101


@pytest.mark.parametrize("state", [b"b", b"h", b"x", b"t"])
@pytest.mark.parametrize("doses", [0, 1, 2])
def test_a_course_survives_the_way(state: bytes, doses: int) -> None:
    held = tuple(Appointment(dose, 70_000 + dose, 300 + dose, 500 + dose, dose, 7) for dose in range(doses))
    changes = (codec.Change(b"c" * 16, b"v", 3, held), codec.Change(b"e" * 16, b"w", 2))
    course = codec.CourseRecord(state, OP.id, held, 4, 3, 800, changes[:doses])
    assert codec.course(codec.pack_course(course)) == course


@pytest.mark.parametrize("state", [b"f", b"c", b"j", b"b"])
@pytest.mark.parametrize("memories", range(codec.MEMORIES_MAX + 1))
def test_a_guard_survives_the_way(state: bytes, memories: int) -> None:
    remembered = tuple(codec.Memory(b"%d" % number * 16, 70_000, 80_000) for number in range(memories))
    guard = codec.Guard(state, 70_001, 80_001, OP.id, remembered)
    assert codec.guard(codec.pack_guard(guard)) == guard


@pytest.mark.parametrize("state", [b"s", b"b", b"x"])
def test_a_part_survives_the_way(state: bytes) -> None:
    part = codec.Part(state, 7, OP.id, 70_001, 300, 500)
    assert codec.part(codec.pack_part(part)) == part


def test_fields_of_a_bucket_are_told_apart() -> None:
    fields = {
        "guard": codec.PERSON_KIND.pack(COURSE.person, COURSE.kind),
        "course": codec.COURSE.pack(COURSE.person, COURSE.kind, COURSE.generation),
        "part": codec.part_field(PART),
    }
    for name, field in fields.items():
        told = {"guard": codec.is_guard, "course": codec.is_course, "part": codec.is_part}
        assert [kind for kind, is_one in told.items() if is_one(field)] == [name]
    assert codec.guard_field(fields["guard"]) == (COURSE.person, COURSE.kind)
    assert codec.course_field(fields["course"]) == COURSE
    assert codec.part_id(fields["part"]) == PART
