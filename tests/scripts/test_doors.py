"""The functions of the library: who may enter, at what time it is, and what founds, certifies and reopens."""

import time

import pytest
from redis.exceptions import ResponseError

from engine.domain.course import Appointment, Op, Wish
from engine.inventory import codec, library
from tests.scripts.by_hand import (
    COURSE,
    GENERATION,
    KIND,
    NOW_MS,
    OP,
    OTHER,
    PERSON,
    ByHand,
    book,
    claim,
    take,
)
from tests.world import EPOCH, FAR_MS

ANOTHER_PROCESS = b"0123456789" * 4
TOKEN = b"token-of-this-rebuild"
GONE = "what was rebuilt is not there any more, or another rebuild works on it"
READ = codec.read_guard(PERSON, KIND)
DOORS = ["dosebook_step", "dosebook_drain"]


def forget(partition: ByHand) -> None:
    """Load the library anew: it has bound nothing yet and has asked for no process."""
    partition.redis.function_load(library.source(), replace=True)


def before_reopening(partition: ByHand) -> bytes:
    """Leave the partition as a rebuild does before its last step; returns the process."""
    process = partition.run_id()
    partition.redis.delete(partition.keys.meta(partition.number))
    partition.redis.set(partition.keys.rebuild(partition.number), TOKEN)
    return process


# Step and drain --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
def test_the_first_call_after_loading_is_answered(partition: ByHand, door: str) -> None:
    forget(partition)
    assert partition.call(door, EPOCH, READ)[2:] == [b"-"]
    assert partition.call(door, EPOCH, READ)[2:] == [b"-"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("loaded_anew", [False, True])
def test_a_partition_that_is_certified_for_another_process_does_nothing(
    partition: ByHand, door: str, loaded_anew: bool
) -> None:
    process = partition.run_id()
    partition.redis.hset(partition.keys.meta(partition.number), "certified", ANOTHER_PROCESS)
    if loaded_anew:
        forget(partition)
    before = partition.everything()
    words = f"this Redis process is {process.decode()}, the partition is certified for"
    with pytest.raises(ResponseError, match=f"^UNCERTIFIED {words} {ANOTHER_PROCESS.decode()}$"):
        partition.call(door, EPOCH, codec.resolve(COURSE))
    assert partition.everything() == before


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("loaded_anew", [False, True])
def test_a_partition_that_nobody_certified_does_nothing(
    partition: ByHand, door: str, loaded_anew: bool
) -> None:
    partition.redis.hdel(partition.keys.meta(partition.number), "certified")
    if loaded_anew:
        forget(partition)
    before = partition.everything()
    with pytest.raises(ResponseError, match=r"^UNCERTIFIED .* certified for none$"):
        partition.call(door, EPOCH, codec.resolve(COURSE))
    assert partition.everything() == before


@pytest.mark.parametrize("door", DOORS)
def test_the_refusal_of_another_epoch_says_which_it_is(partition: ByHand, door: str) -> None:
    with pytest.raises(
        ResponseError, match=f"^EPOCH the partition is closed or rebuilt: its epoch is {EPOCH}$"
    ):
        partition.call(door, EPOCH + 1, READ)
    partition.redis.delete(partition.keys.meta(partition.number))
    with pytest.raises(ResponseError, match=r"^EPOCH .* its epoch is none$"):
        partition.call(door, EPOCH, READ)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("record", [b"?", b"", b"\0"])
def test_an_operation_that_is_not_there_is_named_so(partition: ByHand, door: str, record: bytes) -> None:
    before = partition.everything()
    answers = partition.call(door, EPOCH, READ, record, READ)[2:]
    assert answers == [b"-", b"!no such operation here", b"-"]
    assert partition.everything() == before


def test_only_what_gives_back_or_tells_passes_the_drain(partition: ByHand) -> None:
    partition.put_session(1, 1, b"\0\x01")
    partition.put_course(b"b", (Appointment(1, 1, 0, 0),))
    partition.put_guard(b"c")
    wishes = (Wish(1, 1, 1),)
    moved = codec.Move(COURSE, OTHER, 1, FAR_MS, frozenset({1}), (Wish(2, 1, 1),))
    sold = [
        *(claim(OTHER, FAR_MS), take(wishes), book(wishes), codec.open_session(2, 1, b"\1")),
        *(codec.move(moved), codec.extend([COURSE], OTHER, 9, 9)),
        codec.aside(codec.Aside(COURSE, 1, OTHER, 1, FAR_MS, wishes)),
    ]
    before = partition.everything()
    assert partition.call("dosebook_drain", EPOCH, *sold)[2:] == [b"!no such operation here"] * 7
    assert partition.everything() == before
    dropped = codec.Move(COURSE, Op(b"key-op-3", b"digest-3"), 1, FAR_MS, frozenset({1}))
    part = codec.PartId(COURSE, 1, 1)
    passing = [
        *(READ, codec.read_course(COURSE), codec.resolve(COURSE), codec.mark(7), codec.settle(COURSE)),
        *(codec.unclaim(COURSE, buried=True), codec.free(COURSE), codec.expire(9), codec.keep(part)),
        *(codec.quit_part(part), codec.confirm([COURSE], OTHER), codec.move(dropped)),
        codec.cancel(COURSE, Op(b"key-op-4", b"digest-4")),
    ]
    answers = partition.call("dosebook_drain", EPOCH, *passing)[2:]
    assert b"".join(answer[:1] for answer in answers) == b"VVB++-+E--YNX"


# The clock -------------------------------------------------------------------------------------------------


def test_the_clock_is_the_servers_to_the_millisecond(partition: ByHand) -> None:
    for _ in range(200):
        before = time.time_ns() // 1_000_000
        now = partition.call("dosebook_step", EPOCH, READ)[0]
        assert before <= now <= time.time_ns() // 1_000_000


def test_a_clock_that_was_set_back_goes_on_from_where_it_was(partition: ByHand) -> None:
    meta = partition.keys.meta(partition.number)
    ahead = time.time_ns() // 1_000_000 + 60_000
    partition.redis.hset(meta, mapping={"clock": ahead, "host": ahead})
    before = time.time_ns() // 1_000_000
    assert partition.call("dosebook_step", EPOCH, READ)[0] == ahead
    assert before <= int(partition.meta()[b"host"]) <= time.time_ns() // 1_000_000
    assert partition.meta()[b"clock"] == b"%d" % ahead
    while (now := partition.call("dosebook_step", EPOCH, READ)[0]) < ahead + 5:
        assert now >= ahead
    assert now <= ahead + time.time_ns() // 1_000_000 - before


def test_a_clock_that_is_ahead_does_not_go_back_when_its_host_has_caught_up(partition: ByHand) -> None:
    host, ahead = time.time_ns() // 1_000_000, 20
    partition.redis.hset(partition.keys.meta(partition.number), mapping={"clock": host + ahead, "host": host})
    last = 0
    while last < host + 3 * ahead:
        before = time.time_ns() // 1_000_000
        now = partition.call("dosebook_step", EPOCH, READ)[0]
        assert now >= last
        assert before + ahead <= now <= time.time_ns() // 1_000_000 + ahead
        last = now


def test_a_clock_that_is_ahead_without_its_hosts_stands(partition: ByHand) -> None:
    partition.redis.hset(partition.keys.meta(partition.number), "clock", NOW_MS)
    assert partition.call("dosebook_step", EPOCH, READ)[0] == NOW_MS
    assert b"host" not in partition.meta()


def test_the_clock_is_stored_with_an_event_and_only_then(partition: ByHand) -> None:
    partition.put_session(1, 1, b"\x01")
    partition.redis.hset(partition.keys.meta(partition.number), "clock", 1)
    before = partition.meta()
    partition.call("dosebook_step", EPOCH, READ, claim(OTHER, FAR_MS), codec.resolve(COURSE))
    assert partition.meta() == before
    member = codec.Member(PERSON, KIND, GENERATION + 1, (Wish(1, 1, 0),))
    second = codec.take(codec.Group(OP, FAR_MS, (member,)))
    now, last, *_ = partition.call("dosebook_step", EPOCH, second)
    clock = b"%d" % now
    assert partition.meta() == {**before, b"clock": clock, b"host": clock, b"last": last}
    (told,) = partition.events()
    assert codec.event(told).at_ms == now


def test_every_answer_names_the_last_event_also_of_an_earlier_call(partition: ByHand) -> None:
    """What is told may rest on it, and waits until Postgres has it (policy `postgres`)."""
    partition.put_session(1, 1, b"\x01")
    assert partition.call("dosebook_step", EPOCH, READ)[1] == b""
    taken = partition.call("dosebook_step", EPOCH, take((Wish(1, 1, 0),), OP, FAR_MS))[1]
    assert taken == b"%d-0" % EPOCH
    assert partition.call("dosebook_step", EPOCH, READ)[1] == taken
    assert partition.call("dosebook_drain", EPOCH, READ)[1] == taken


# Another version's records ---------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [b"1", b"3", None])
def test_a_partition_in_another_layout_does_nothing(partition: ByHand, written: bytes | None) -> None:
    """What an older or newer version wrote would be misread."""
    meta = partition.keys.meta(partition.number)
    if written is None:
        partition.redis.hdel(meta, "layout")
    else:
        partition.redis.hset(meta, "layout", written)
    before = partition.everything()
    for function in ("dosebook_step", "dosebook_drain"):
        with pytest.raises(ResponseError, match=r"^EPOCH .* layout \d, not 2: let it drain, then "):
            partition.call(function, EPOCH, READ)
    assert partition.everything() == before


# Founding, certifying, reopening ---------------------------------------------------------------------------


def test_a_partition_is_founded_with_epoch_clock_and_certificate(partition: ByHand) -> None:
    process = partition.run_id()
    partition.redis.delete(partition.keys.meta(partition.number))
    forget(partition)
    before = time.time_ns() // 1_000_000
    assert partition.call("dosebook_found", EPOCH + 4) == 1
    meta = dict(partition.meta())
    assert before <= int(meta.pop(b"clock")) <= time.time_ns() // 1_000_000
    assert meta == {b"epoch": b"%d" % (EPOCH + 4), b"certified": process, b"layout": b"2"}


@pytest.mark.parametrize("there", ["meta", "outbox"])
def test_what_is_there_is_not_founded(partition: ByHand, there: str) -> None:
    if there == "outbox":
        partition.redis.delete(partition.keys.meta(partition.number))
        partition.redis.xadd(partition.keys.outbox(partition.number), {"e": "x"})
    before = partition.everything()
    assert partition.call("dosebook_found", EPOCH + 1) == 0
    assert partition.everything() == before


def test_a_certificate_opens_the_partition_and_changes_nothing_else(partition: ByHand) -> None:
    meta = partition.meta()
    process = partition.run_id()
    partition.redis.hset(partition.keys.meta(partition.number), "certified", ANOTHER_PROCESS)
    forget(partition)
    assert partition.call("dosebook_certify", EPOCH, process) == 1
    assert partition.meta() == meta
    assert partition.call("dosebook_step", EPOCH, READ)[2:] == [b"-"]


@pytest.mark.parametrize("stored", [EPOCH + 1, None])
def test_another_epoch_is_not_certified(partition: ByHand, stored: int | None) -> None:
    process, meta = partition.run_id(), partition.keys.meta(partition.number)
    if stored is None:
        partition.redis.delete(meta)
    else:
        partition.redis.hset(meta, mapping={"epoch": stored, "certified": ANOTHER_PROCESS})
    before = partition.everything()
    with pytest.raises(ResponseError, match=rf"^EPOCH .* its epoch is {stored or 'none'}$"):
        partition.call("dosebook_certify", EPOCH, process)
    assert partition.everything() == before


def test_what_was_compared_in_another_process_is_not_certified(partition: ByHand) -> None:
    before = partition.everything()
    with pytest.raises(ResponseError, match=f"^UNCERTIFIED .* certified for {ANOTHER_PROCESS.decode()}$"):
        partition.call("dosebook_certify", EPOCH, ANOTHER_PROCESS)
    assert partition.everything() == before


@pytest.mark.parametrize("clock", [0, NOW_MS])
def test_a_rebuilt_partition_sells_under_its_new_epoch(partition: ByHand, clock: int) -> None:
    process = before_reopening(partition)
    forget(partition)
    before = time.time_ns() // 1_000_000
    assert partition.call("dosebook_reopen", EPOCH + 1, process, TOKEN, clock) == 1
    meta = dict(partition.meta())
    now = int(meta.pop(b"clock"))
    assert now == clock if clock else before <= now <= time.time_ns() // 1_000_000
    assert meta == {b"epoch": b"%d" % (EPOCH + 1), b"certified": process, b"layout": b"2"}
    assert partition.redis.get(partition.keys.rebuild(partition.number)) is None
    assert partition.call("dosebook_step", EPOCH + 1, READ)[2:] == [b"-"]


def tear(partition: ByHand, how: str) -> None:
    """Do to a partition that is ready to be reopened what makes the rebuild worthless."""
    keys, number = partition.keys, partition.number
    if how == "token-gone":
        partition.redis.delete(keys.rebuild(number))
    elif how == "token-of-another":
        partition.redis.set(keys.rebuild(number), TOKEN + b"!")
    elif how == "meta-there":
        partition.redis.hset(keys.meta(number), "mark", 1)
    else:
        partition.redis.xadd(keys.outbox(number), {"e": "x"})


@pytest.mark.parametrize("torn", ["token-gone", "token-of-another", "meta-there", "outbox-there"])
def test_what_was_disturbed_is_not_reopened(partition: ByHand, torn: str) -> None:
    process = before_reopening(partition)
    tear(partition, torn)
    before = partition.everything()
    with pytest.raises(ResponseError, match=f"^UNCERTIFIED {GONE}$"):
        partition.call("dosebook_reopen", EPOCH + 1, process, TOKEN, 0)
    assert partition.everything() == before


def test_what_was_rebuilt_in_another_process_is_not_reopened(partition: ByHand) -> None:
    before_reopening(partition)
    before = partition.everything()
    with pytest.raises(ResponseError, match=f"^UNCERTIFIED .* certified for {ANOTHER_PROCESS.decode()}$"):
        partition.call("dosebook_reopen", EPOCH + 1, ANOTHER_PROCESS, TOKEN, 0)
    assert partition.everything() == before
