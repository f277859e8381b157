"""Connections to Redis. Nothing is retried here: a retry is the protocol's decision (redis-py: 10)."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from engine import limits


def connect(
    url: str, *, connections: int = limits.REDIS_CONNECTIONS_MAX, timeout_s: float = limits.REPLY_S_MAX
) -> Redis:
    """Client for ``redis://`` or ``unix://``, bytes answers. A call that times out loses its connection."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    return Redis.from_pool(pool)
