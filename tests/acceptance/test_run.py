"""`dosebook run` as a person calls it: a small surge, the audit, the same data again, a sudden stop."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.runs import descendants, folder, running, surge

# The first test of the module pays for two whole runs, and its own may follow.
pytestmark = pytest.mark.timeout(300)

CITIZENS = 400
AUDITED = {"oversold", "double_booked", "half_booked", "lost", "in_doubt", "quarantined", "drift"}


def taken(result: dict[str, Any]) -> int:
    """Seats that people of a surge have at its end."""
    courses = result["booked"] - result["cancelled"]
    return int(2 * courses - result["second_doses_cancelled"])


@pytest.fixture(scope="module")
def kept() -> Iterator[tuple[dict[str, Any], dict[str, Any], Path]]:
    """The results of two runs on one data directory, and the directory."""
    with folder() as place:
        first = surge(CITIZENS, place / "data", place / "first.json")
        yield first, surge(CITIZENS, place / "data", place / "second.json"), place / "data"


def test_everyone_is_answered_and_the_audit_finds_nothing(
    kept: tuple[dict[str, Any], dict[str, Any], Path],
) -> None:
    first, _, _ = kept
    assert first["citizens"] == first["answered"] == CITIZENS
    assert first["unanswered"] == 0
    assert first["booked"] + sum(first["told"].values()) == CITIZENS
    assert set(first["audit"]) >= AUDITED
    assert set(first["audit"].values()) == {0}
    assert first["http"]["errors_5xx"] == 0


def test_postgres_has_every_acknowledged_course(kept: tuple[dict[str, Any], dict[str, Any], Path]) -> None:
    first, second, data = kept
    for result in (first, second):
        assert result["persist"]["courses"] == result["acknowledged"] == result["booked"]
    lines = [json.loads(line) for line in (data / "acknowledgements.jsonl").read_bytes().splitlines()]
    booked = [line["booking"] for line in lines if line["op"] in ("book", "hold")]
    assert len(set(booked)) == len(booked) == first["booked"] + second["booked"]


def test_seats_are_scarce_and_all_that_there_are_can_be_had(
    kept: tuple[dict[str, Any], dict[str, Any], Path],
) -> None:
    first, _, _ = kept
    assert first["locations"] == 1_575
    assert first["seats"] == 2 * round(0.65 * CITIZENS)
    # A seat that was cancelled can be had by the next. Some hold first, move, or come together.
    assert first["held"] == first["confirmed"] > 0
    assert first["moved"] + first["not_moved"] > 0
    assert first["households_asked"] > 0
    assert 0 < first["booked"] - first["cancelled"] <= round(0.65 * CITIZENS)
    assert first["told"]["nothing-near"] > 0


def test_the_second_run_finds_the_bookings_of_the_first(
    kept: tuple[dict[str, Any], dict[str, Any], Path],
) -> None:
    first, second, _ = kept
    assert second["sessions"] == first["sessions"]
    assert second["seats"] == first["seats"] - taken(first)
    assert set(second["audit"].values()) == {0}


def test_a_redis_that_lost_its_files_comes_back_from_postgres(
    kept: tuple[dict[str, Any], dict[str, Any], Path],
) -> None:
    _, second, data = kept
    shutil.rmtree(data / "redis" / "appendonlydir")
    with running("--no-surge", "--data-dir", str(data)) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "./dosebook run --rebuild" in output
    third = surge(CITIZENS, data, data.parent / "third.json", "--rebuild")
    assert third["seats"] == second["seats"] - taken(second)
    assert set(third["audit"].values()) == {0}


def test_a_cluster_holds_the_same_evening() -> None:
    with folder() as place:
        result = surge(CITIZENS, place / "data", place / "result.json", "--cluster", "--replicas", "1")
    assert result["persist"]["courses"] == result["acknowledged"] == result["booked"] > 0
    assert set(result["audit"].values()) == {0}
    assert descendants() == {}


@pytest.mark.parametrize("seconds", [0.7, 4.0, 9.0])
def test_a_stop_at_any_moment_leaves_no_process(seconds: float) -> None:
    with folder() as place, running("--citizens", "20000", "--data-dir", str(place / "data")) as process:
        # Not a wait for a condition: the moment is the point, and any is as good as another.
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    # Before there is anything to stop in order, the signal just ends it.
    assert process.returncode in {128 + signal.SIGTERM, -signal.SIGTERM}, output
    assert "Traceback" not in output
    assert descendants() == {}
