"""`kill -9` of persister, API and Redis in the middle of a surge; each comes back, and nothing is lost."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.runs import folder, running
from tests.servers.processes import family, wait_until

CITIZENS = 3_000
BOOKINGS_BETWEEN = 150
VICTIMS = {
    "persister": "engine.cli persister",
    "API": "api.serve",
    "Redis": "valkey-server",
}


def acknowledged(log: Path) -> int:
    """Lines of the acknowledgement log so far."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


def pid_of(words: str, run: int) -> int:
    """The process of this run whose command line has these words."""
    found = [pid for pid in family(run) if words in command_of(pid)]
    assert len(found) == 1, f"{len(found)} processes run {words}"
    return found[0]


def command_of(pid: int) -> str:
    """Command line, empty for a process that has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def wait_for_bookings(log: Path, count: int) -> int:
    """Wait until so many were acknowledged; how many there are then."""
    wait_until(lambda: acknowledged(log) >= count, f"{count} bookings", 90)
    return acknowledged(log)


@pytest.mark.timeout(240)
def test_everything_that_was_promised_is_there_after_three_kills() -> None:
    with folder() as place:
        log, result = place / "data" / "acknowledgements.jsonl", place / "result.json"
        options = ["--exit", "--citizens", str(CITIZENS), "--data-dir", str(place / "data")]
        with running(*options, "--json", str(result)) as process:
            seen = 0
            for words in VICTIMS.values():
                seen = wait_for_bookings(log, seen + BOOKINGS_BETWEEN)
                os.kill(pid_of(words, process.pid), signal.SIGKILL)
            output, _ = process.communicate(timeout=150)
        assert process.returncode == 0, output
        figures = json.loads(result.read_bytes())
    assert figures["restarts"] >= len(VICTIMS)
    assert figures["answered"] == CITIZENS
    assert set(figures["audit"].values()) == {0}
    assert figures["persist"]["courses"] >= figures["acknowledged"] > seen
