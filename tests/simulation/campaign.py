"""Many histories, each judged and replayed against real scripts, in as many processes as there are cores."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

import msgspec
from redis import Redis

from engine.servers.data_dir import DataDir
from engine.servers.redis import RedisServer
from tests.simulation.history import History
from tests.simulation.replay import Replayer

SHARD = 500


class Finding(msgspec.Struct, frozen=True):
    """A seed whose history breaks a rule, or whose replay differs."""

    seed: int
    kind: str
    words: str


class Shard(msgspec.Struct, frozen=True):
    """What some consecutive seeds came to; ``digest`` is over their traces' hashes in order."""

    first_seed: int
    histories: int
    operations: int
    digest: str
    findings: list[Finding]


def play(seed: int, replayer: Replayer) -> tuple[History, Finding | None]:
    """Run one history and replay it."""
    history = History.of_seed(seed)
    try:
        history.run()
    except AssertionError as broken:
        return history, Finding(seed, "violation", str(broken))
    difference = replayer.difference(history)
    return history, Finding(seed, "difference", difference) if difference else None


def play_shard(first_seed: int, count: int) -> Shard:
    """Run ``count`` histories on a Redis of their own."""
    whole, operations, findings = hashlib.sha256(), 0, []
    with (
        DataDir.make_temporary() as data,
        RedisServer(data, settings={"appendonly": "no"}) as server,
        Redis.from_url(server.url, protocol=2) as client,
    ):
        replayer = Replayer(client)
        for seed in range(first_seed, first_seed + count):
            history, finding = play(seed, replayer)
            whole.update(history.digest.encode())
            operations += len(history.trace)
            if finding is not None:
                findings.append(finding)
    return Shard(first_seed, count, operations, whole.hexdigest(), findings)


def play_all(histories: int, seed: int, processes: int) -> Iterator[Shard]:
    """Shards as they are done, in any order. Seeds go up from ``seed``."""
    with ProcessPoolExecutor(processes) as pool:
        starts = range(seed, seed + histories, SHARD)
        shards = [pool.submit(play_shard, start, min(SHARD, seed + histories - start)) for start in starts]
        for shard in as_completed(shards):
            yield shard.result()
