"""The formats in the scripts' headers, in their bodies and in the codec are the same."""

import re
import struct

import pytest

from engine.domain.course import Appointment, CourseId, Op, Wish
from engine.inventory import codec, library
from engine.redis.batch import DRAINS

OP = Op(b"k" * 8, b"d" * 8)
COURSE = CourseId(b"p" * 16, 1, 7)
WISHES = (Wish(1, 11, 3), Wish(2, 12, 4))

RECORDS = {
    "c": codec.claim(b"p" * 16, 1, OP, 5, 99),
    "t": codec.take(COURSE, OP, 99, ()),
    "b": codec.book(b"p" * 16, 1, OP, 5, 99, ()),
    "u": codec.unclaim(COURSE, buried=True),
    "s": codec.settle(COURSE),
    "f": codec.free(COURSE),
    "r": codec.resolve(COURSE),
    "x": codec.cancel(COURSE, OP, guard_here=True),
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
    "event": codec.EVENT,
    "session": codec.SESSION,
}


def python_format(lua: str) -> str:
    """Python's spelling of a format of Lua's struct library."""
    letters = {"c1": "c", "c16": "16s", "B": "B", "I2": "H", "I4": "I", "I8": "Q"}
    return "<" + "".join(letters[part] for part in re.findall(r"c\d+|I\d|B", lua))


def headers() -> dict[str, tuple[str, str]]:
    """Operation code → (format in the header, the script's source)."""
    found = {}
    for script in library.SCRIPTS.glob("*.lua"):
        text = script.read_text()
        for code, lua in re.findall(r"^-- record +(\w) (<\S+) ", text, re.MULTILINE):
            found[code] = (lua, text)
    return found


def test_every_operation_is_packed_as_its_header_says() -> None:
    assert {code: struct.calcsize(python_format(lua)) for code, (lua, _) in headers().items()} == {
        code: len(record) - 1 for code, record in RECORDS.items()
    }


@pytest.mark.parametrize("code", sorted(RECORDS))
def test_the_body_unpacks_the_format_of_its_header(code: str) -> None:
    lua, text = headers()[code]
    assert f"ops.{code} = function" in text
    assert f"unpack('{lua}', record, 2)" in text


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_records_have_the_format_that_the_layout_states(name: str) -> None:
    (lua,) = re.findall(rf"^-- format {name} +(<\S+) ", library.source(), re.MULTILINE)
    assert LAYOUTS[name].format == python_format(lua)


def test_the_event_that_scripts_pack_is_the_one_stated() -> None:
    (lua,) = re.findall(r"^-- format event +(<\S+) ", library.source(), re.MULTILINE)
    assert f"pack('{lua}', EVENT_VERSION" in library.source()


def test_what_may_run_at_the_memory_limit_is_the_same_on_both_sides() -> None:
    (lua,) = re.findall(r"^local DRAINS = \{(.*)\}$", library.source(), re.MULTILINE)
    assert set(re.findall(r"(\w) = true", lua)) == {chr(code) for code in DRAINS}
    assert not {chr(code) for code in DRAINS} & set("ctbo")


def test_an_event_of_another_version_is_not_guessed_at() -> None:
    packed = codec.EVENT.pack(codec.EVENT_VERSION + 1, b"b", 1, b"p" * 16, 1, 1, OP.id, 0)
    with pytest.raises(ValueError, match="version 2 is not known"):
        codec.event(packed)


def test_wishes_and_appointments_survive_the_way() -> None:
    packed = b"".join(codec.APPOINTMENT.pack(w.dose, w.session, w.slot, 2) for w in WISHES)
    assert codec.appointments(packed) == tuple(Appointment(w.dose, w.session, w.slot, 2) for w in WISHES)
    record = codec.take(COURSE, OP, 99, WISHES)
    assert tuple(codec.iter_wishes(record[1 + codec.TAKE.size :])) == WISHES


@pytest.mark.parametrize("state", [b"b", b"x", b"t"])
@pytest.mark.parametrize("doses", [0, 1, 2])
def test_a_course_survives_the_way(state: bytes, doses: int) -> None:
    cancelled_by = b"c" * 16 if state == b"x" else b""
    held = tuple(Appointment(dose, 70_000 + dose, 300 + dose, 500 + dose) for dose in range(doses))
    course = codec.CourseRecord(state, OP.id, held, cancelled_by)
    assert codec.course(codec.pack_course(course)) == course


@pytest.mark.parametrize("state", [b"f", b"c", b"j", b"b"])
@pytest.mark.parametrize("memories", range(codec.MEMORIES_MAX + 1))
def test_a_guard_survives_the_way(state: bytes, memories: int) -> None:
    remembered = tuple(codec.Memory(b"%d" % number * 16, 70_000, 80_000) for number in range(memories))
    guard = codec.Guard(state, 70_001, 80_001, OP.id, remembered)
    assert codec.guard(codec.pack_guard(guard)) == guard
