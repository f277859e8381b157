"""The table of growth fits the memory that Redis is given, and its bounds are those in force."""

import re
from pathlib import Path

import pytest

from engine import limits
from engine.servers import redis

CONFIG = redis.CONFIG_FILE.read_text()


def bytes_in(where: str) -> int:
    """What all rows of one place come to."""
    return sum(row.bytes_each * (row.maximum or 0) for row in limits.GROWTH if row.where == where)


def test_all_that_grows_in_redis_fits_below_the_bound_of_memory() -> None:
    assert bytes_in("redis") <= limits.MEMORY_SHARE_MAX * limits.REDIS_MEMORY_BYTES


def test_without_a_backlog_a_full_country_slows_nobody_down() -> None:
    backlog = next(row for row in limits.GROWTH if row.what == "event in an outbox")
    usual = bytes_in("redis") - backlog.bytes_each * limits.BACKLOG_EVENTS_MAX
    assert usual <= limits.MEMORY_SHARE_SLOW * limits.REDIS_MEMORY_BYTES


def test_every_row_has_a_name_of_its_own_and_says_what_happens() -> None:
    assert len({row.what for row in limits.GROWTH}) == len(limits.GROWTH)
    for row in limits.GROWTH:
        assert row.bytes_each > 0
        assert row.maximum is None or row.maximum > 0
        assert row.then.endswith(".")


def test_the_table_and_the_servers_mean_the_same_memory() -> None:
    assert redis.MEMORY_BYTES_MAX == limits.REDIS_MEMORY_BYTES == _configured("maxmemory")
    assert _configured("maxmemory-clients") == limits.REDIS_BUFFERS_BYTES


@pytest.mark.parametrize(
    ("container", "expected"),
    [("max\n", None), (f"{2**30}\n", 2**29), (f"{2**50}\n", None)],
    ids=["unlimited", "small", "wider-than-the-machine"],
)
def test_never_more_than_half_of_what_the_machine_has(
    container: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(redis, "CONTAINER_LIMIT", limit)
    without = redis.memory_bytes_max()
    limit.write_text(container)
    assert redis.memory_bytes_max() == (expected or without) <= redis.MEMORY_BYTES_MAX


def _configured(directive: str) -> int:
    found = re.search(rf"^{directive} (\d+)(mb|gb)$", CONFIG, re.MULTILINE)
    assert found
    return int(found[1]) * {"mb": 1024**2, "gb": 1024**3}[found[2]]
