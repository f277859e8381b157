"""Synchronous clients of an inventory, for tests that drive the scripts by hand."""

from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.retry import Retry

CLUSTER = "redis+cluster://"
REPLY_S_MAX = 30.0


class _Cluster(RedisCluster):
    """Knows where the key of a function call stands; redis-py asks a server for it before each call."""

    def determine_slot(self, *args: Any) -> Any:
        """The slot of a command's keys."""
        if args[0] != "FCALL":
            return super().determine_slot(*args)
        key = args[3]
        return key_slot(key if isinstance(key, bytes) else key.encode())


def client_of(url: str) -> Any:
    """One server (``unix://``, ``redis://``) or a cluster by its seeds; bytes answers, nothing retried."""
    never = Retry(NoBackoff(), 0)
    if not url.startswith(CLUSTER):
        return Redis.from_url(url, protocol=2, retry=never)
    seed = urlsplit(f"//{url.removeprefix(CLUSTER).partition(',')[0]}")
    return _Cluster(
        host=seed.hostname, port=seed.port or 0, protocol=2, retry=never, socket_timeout=REPLY_S_MAX
    )
