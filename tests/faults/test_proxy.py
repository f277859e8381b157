"""The proxy forwards; on command it eats the replies of scripts, which were executed all the same."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ConnectionLost

from engine.inventory import codec
from engine.redis.connection import connect
from engine.servers.redis import RedisServer
from tests.faults.proxy import Proxy
from tests.world import EPOCH, FAR_MS, Location, World

pytestmark = pytest.mark.anyio


async def test_what_was_lost_has_happened(redis_client: Any, redis_server: RedisServer) -> None:
    world = World(redis_client, 1, (Location(1, 2, 3),))
    request, outbox = world.request(1, 1), world.keyspace.outbox(0)
    (seeker,) = request.seekers
    member = codec.Member(seeker.person, seeker.kind, 1, seeker.wishes)
    record = codec.book(codec.Group(request.op, FAR_MS, (member,)))
    async with Proxy(redis_server.data.run_dir / "p", redis_server.socket) as proxy:
        client: Any = connect(f"unix://{proxy.path}")
        losing = asyncio.create_task(proxy.lose(30))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionLost):
            await client.fcall("dosebook_step", 1, outbox, EPOCH, record)
        losing.cancel()
        await asyncio.gather(losing, return_exceptions=True)
        assert (proxy.lost, world.free(1)) == (1, 5)
        reply = await client.fcall("dosebook_step", 1, outbox, EPOCH, record)
        assert (reply[2][:1], world.free(1)) == (b"B", 5)
        await client.aclose()


async def test_a_server_that_is_away_is_a_lost_connection(tmp_path: Path) -> None:
    async with Proxy(tmp_path / "p", tmp_path / "nobody") as proxy:
        client: Any = connect(f"unix://{proxy.path}")
        with pytest.raises(ConnectionLost):
            await client.ping()
        await client.aclose()
