"""A short run of `./dosebook faults`, and what becomes of rounds that are kept."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine.settings import Acknowledge
from tests.faults import disks, table, traces
from tests.faults.campaign import Plan, Round, Struck, blame, play, resolved
from tests.faults.checker import Finding
from tests.faults.history import History, Op
from tests.faults.outage import Minute, Outage, beside
from tests.faults.strikes import CLASSES, ON_A_CLUSTER, SAFE, FaultClass
from tests.faults.system import Ground, System
from tests.faults.trouble import StuckError

ROOT = Path(__file__).parents[2]
KEPT = Round(
    "2021-07-12T20:00:00Z",
    1,
    1,
    20.0,
    {"ok": 1000},
    0,
    5,
    [Struck("kill -9 of Redis", 1.0, 200, 0.5, 0.7, {}), Struck("kill -9 of Redis", 2.0, 100, 1.5, 1.7, {})],
    {},
    {},
    [],
)


# With several partitions the audit may have to wait for two sweeps of claims that were left behind.
CLUSTER_S_MAX = 230


def run(*options: str, timeout_s: float = 110) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=timeout_s,
        capture_output=True,
        text=True,
        check=False,
    )


def faults(folder: Path, *options: str, timeout_s: float = 110) -> tuple[int, str, dict[str, Any]]:
    """Run the command; its exit status, its output, its one round."""
    written = ["--json", str(folder / "result.json"), "--history", str(folder / "faults.jsonl")]
    done = run(*options, *written, timeout_s=timeout_s)
    assert (folder / "result.json").exists(), done.stdout + done.stderr
    (one,) = json.loads((folder / "result.json").read_bytes())["rounds"]
    return done.returncode, done.stdout + done.stderr, one


ON_CLUSTER = {one.name for one in CLASSES if one.policies == ON_A_CLUSTER}
BARE = {one.name for one in CLASSES if one.lacks is None} - ON_CLUSTER
SAFE_ONLY = {one.name for one in CLASSES if one.policies == SAFE}


def names(one: dict[str, Any]) -> set[str]:
    """The classes that a round has played."""
    return {fault["name"] for fault in one["faults"]}


@pytest.mark.timeout(120)
def test_every_class_that_holds_with_one_fsync(tmp_path: Path) -> None:
    status, output, one = faults(tmp_path, "--short", "--bare", "--policy", "fsync")
    assert status == 0, output
    assert names(one) == BARE - SAFE_ONLY
    assert max(fault["unanswered"] for fault in one["faults"]) >= 100
    assert one["replies_lost"] > 0
    assert one["outcomes"]["ok"] > 1_000
    assert sum(fault["pending"] for fault in one["faults"]) > 0
    assert all(one["acts"][act] > 0 for act in table.ACTS), one["acts"]
    assert [kept.policy for kept in table.read(tmp_path / "faults.jsonl")] == [Acknowledge.FSYNC]


@pytest.mark.timeout(120)
def test_a_lost_redis_loses_nothing_once_postgres_answers_for_it(tmp_path: Path) -> None:
    only = "|".join(SAFE_ONLY)
    status, output, one = faults(tmp_path, "--short", "--bare", "--policy", "postgres", "--only", only)
    assert names(one) == SAFE_ONLY, output
    assert not one["stuck"], output
    assert status == 0, output


@pytest.mark.timeout(CLUSTER_S_MAX + 10)
def test_a_cluster_that_loses_masters_and_replicas(tmp_path: Path) -> None:
    status, output, one = faults(
        tmp_path, "--short", "--bare", "--policy", "replica", timeout_s=CLUSTER_S_MAX
    )
    assert status == 0, output
    assert names(one) == ON_CLUSTER
    assert max(fault["unanswered"] for fault in one["faults"]) >= 100
    assert (one["policy"], one["partitions"]) == ("replica", 12)


@pytest.mark.timeout(120)
def test_control_broken_promises_are_seen_on_a_cluster(tmp_path: Path) -> None:
    status, output, one = faults(tmp_path, "--control", "--policy", "replica")
    assert status == 1, output
    assert one["faults"][0]["figures"]["lost"] > 0


async def test_recovery_is_measured_where_it_was_struck() -> None:
    """An acknowledgement of what was not struck, or was sent before, says nothing."""
    history = History()
    waiting = asyncio.create_task(history.first_ok(1.0, 10.0, lambda op: op.person == "struck"))
    await asyncio.sleep(0)
    for person, sent_s in (("struck", 0.5), ("other", 1.5), ("struck", 1.5)):
        assert not waiting.done()
        op = Op("book", person, "", "", sent_s, answered_s=2.0 + sent_s, outcome="ok")
        history.sent([op])
        history.ended([op])
        await asyncio.sleep(0)
    assert await waiting == 3.5


@pytest.mark.needs("strace")
@pytest.mark.timeout(120)
@pytest.mark.skipif(bool(traces.lacks()), reason="nothing can be traced here")
def test_slow_and_failing_disks(tmp_path: Path) -> None:
    status, output, one = faults(tmp_path, "--short", "--policy", "fsync", "--only", "fdatasync")
    assert status == 0, output
    assert len(names(one)) == 4


@pytest.mark.needs("faketime")
@pytest.mark.timeout(120)
def test_a_clock_that_is_set(tmp_path: Path) -> None:
    status, output, one = faults(tmp_path, "--short", "--policy", "fsync", "--only", "clock")
    assert status == 0, output
    assert len(names(one)) == 1


@pytest.mark.needs("strace")
@pytest.mark.timeout(120)
@pytest.mark.skipif(bool(disks.lacks()), reason="no disk can be mounted here")
def test_full_disks(tmp_path: Path) -> None:
    status, output, one = faults(tmp_path, "--short", "--policy", "fsync", "--only", "full disk")
    assert status == 0, output
    assert len(names(one)) == 2


@pytest.mark.timeout(120)
def test_an_outage_of_postgres(tmp_path: Path) -> None:
    kept = tmp_path / "faults.jsonl"
    done = run("--outage", "0.1", "--history", str(kept))
    assert done.returncode == 0, done.stdout + done.stderr
    (one,) = table.read_outages(beside(kept))
    assert one.backlog > 100
    assert one.drain_s > 0


@pytest.mark.timeout(120)
def test_control_broken_promises_are_seen(tmp_path: Path) -> None:
    status, output, one = faults(tmp_path, "--control")
    assert status == 1, output
    assert one["faults"][0]["figures"]["lost"] > 0
    assert one["audit"], output
    assert (tmp_path / "faults-1-requests.jsonl").exists()
    assert not (tmp_path / "faults.jsonl").exists()


def test_rounds_are_added_up(tmp_path: Path) -> None:
    history = tmp_path / "new" / "faults.jsonl"
    table.append(history, KEPT)
    twice = [*table.read(history), KEPT]
    row, elsewhere = table.summary(twice)
    assert (row["fault"], row["count"], row["lost"], row["unanswered_median"]) == (
        "kill -9 of Redis",
        4,
        0,
        150,
    )
    assert (row["recovery_p50_s"], elsewhere["oversold"]) == (1.0, 0)


def test_a_finding_shows_in_its_row() -> None:
    struck = Struck("kill -9 of Redis", 1.0, 200, 0.5, 0.7, {"lost": 2})
    broken = Round("", 1, 1, 1.0, {}, 0, 0, [struck], {"oversold": 1}, {}, ["lost: a", "oversold: b"])
    row, elsewhere = table.summary([broken])
    assert (row["lost"], elsewhere["oversold"], broken.is_clean, KEPT.is_clean) == (2, 1, False, True)


def test_the_table_is_written_between_its_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nstale\n{table.END}\nafter\n")
    for _ in range(2):
        table.write_readme([KEPT], path=readme)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("| kill -9 of Redis | fsync | 2 |") == 1
    assert "stale" not in text


def test_rounds_of_before_there_were_policies_are_read(tmp_path: Path) -> None:
    """As they lie in histories: no policy, no lasting, no resolving."""
    history = tmp_path / "faults.jsonl"
    history.write_bytes(
        b'{"at":"","seed":501,"partitions":1,"seconds":18.0,"outcomes":{"ok":3},"exposed":0,"replies_lost":4,'
        b'"faults":[{"name":"kill -9 of Redis","at_s":2.26,"unanswered":297,"recovery_s":0.3,'
        b'"persisted_s":0.4,"figures":{}}],"unattributed":{},"audit":{},"findings":[]}\n'
    )
    table.append(history, KEPT)
    row, _ = table.summary(table.read(history))
    assert (row["policy"], row["count"], row["resolved_max_s"]) == ("fsync", 3, "")


def test_a_finding_is_put_down_to_the_fault_that_reaches_back_to_it() -> None:
    """Who was told just before Redis was emptied lost it then, not by the fault before."""
    before = Struck("kill -9 of Redis", 1.0, 200, 0.5, 0.7, {})
    emptied = Struck("Redis comes back empty", 9.0, 200, 0.5, 0.7, {}, lasted_s=2.0, from_s=7.0)
    told = [Finding("lost", "", at_s) for at_s in (6.0, 8.0, 10.0)]
    blame(told, [before, emptied])
    assert (before.figures, emptied.figures) == ({"lost": 1}, {"lost": 2})


def test_time_in_which_the_system_was_away_again_does_not_count() -> None:
    first = Struck("kill -9 of Redis", 1.0, 200, 0.5, 0.7, {})
    second = Struck("SIGSTOP of Redis", 4.0, 200, 0.5, 0.7, {}, lasted_s=2.0)
    resolved([(1.5, 3.0), (2.0, 8.0), (5.0, 7.0)], [first, second])
    assert (first.pending, first.resolved_s, second.pending, second.resolved_s) == (2, 3.5, 1, 1.0)


async def test_a_system_that_does_not_come_back_ends_its_round_alone(tmp_path: Path) -> None:
    async def fall(system: System, chance: Random, is_short: bool) -> None:
        raise StuckError("it fell")

    classes = (FaultClass("fall", fall),)
    one = await play(Plan(1, Ground(), classes, tmp_path / "requests.jsonl", True), print)
    assert (one.stuck, one.is_clean) == ("it fell", False)


def test_the_outages_have_a_table_of_their_own(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(
        f"{table.BEGIN}{table.END}\nbetween\n{table.BEGIN_OUTAGES}\nstale\n{table.END_OUTAGES}\nafter\n"
    )
    minutes = [Minute(60.0, 5.0, 6_000, 100.0, 60.0), Minute(120.0, 9.0, 12_000, 90.0, 60.0)]
    one = Outage("", 1, 1, Acknowledge.FSYNC, 2.0, minutes, 2.0, 12_000, 1.5, [], {})
    table.write_readme([KEPT], [one], readme)
    text = readme.read_text()
    assert "| fsync | 2.0 | 95 | 90 | 2.0 | 9.0 | 12,000 | 1.5 | 0 |" in text
    assert "stale" not in text
    assert text.endswith("after\n")
