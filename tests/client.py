"""Synchronous clients of an inventory, for tests that drive the scripts by hand."""

from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

CLUSTER = "redis+cluster://"
REPLY_S_MAX = 30.0


def client_of(url: str) -> Any:
    """One server (``unix://``, ``redis://``) or a cluster by its seeds; answers are bytes, nothing is retried."""
    never = Retry(NoBackoff(), 0)
    if not url.startswith(CLUSTER):
        return Redis.from_url(url, protocol=2, retry=never)
    seeds = [urlsplit(f"//{seed}") for seed in url.removeprefix(CLUSTER).split(",")]
    nodes = [ClusterNode(str(seed.hostname), int(seed.port or 0)) for seed in seeds]
    return RedisCluster(startup_nodes=nodes, protocol=2, retry=never, socket_timeout=REPLY_S_MAX)
