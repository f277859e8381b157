"""The cluster under a system: who is master now, how a node is taken away, and when all is whole again.

What a node says of itself counts, not what others say of it. After a failover with one replica each, the new
master refuses writes until the node that it replaced follows it: the cluster is whole then.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from engine.servers.cluster import PORTS_FILE, ClusterNode, ClusterServers
from engine.servers.supervisor import Supervisor

TAKEN_OVER_S_MAX, WHOLE_S_MAX = 30.0, 60.0
POLL_S = 0.05


class Role(NamedTuple):
    """What a node says it is. ``is_linked``: enough replicas follow it, or its master is reached."""

    node: ClusterNode
    is_master: bool
    master_port: int
    is_linked: bool


class Cluster:
    """The servers of one system, kept running by its supervisor."""

    def __init__(self, supervisor: Supervisor, servers: ClusterServers) -> None:
        self._supervisor = supervisor
        self._servers = servers

    @property
    def url(self) -> str:
        """Where its nodes are found."""
        return self._servers.url

    async def start(self) -> None:
        """Start the nodes and let them meet."""
        await asyncio.gather(*(self._supervisor.start(node) for node in self._servers.nodes))
        await self.form()

    async def form(self) -> None:
        """What an operator does with a node that knows nobody. Raises ``ServerFailedError``."""
        await asyncio.to_thread(self._servers.form)

    async def masters(self, but: ClusterNode | None = None) -> list[ClusterNode]:
        """Those that are master by their own word, in the order of their names; ``but`` is not asked."""
        return [role.node for role in await self._roles(but) if role.is_master]

    async def replicas(self) -> list[tuple[ClusterNode, ClusterNode]]:
        """Each replica and its master."""
        roles = await self._roles()
        by_port = {role.node.port: role.node for role in roles}
        return [(role.node, by_port[role.master_port]) for role in roles if not role.is_master]

    async def take_away(self, node: ClusterNode, kill: Callable[[str], Any]) -> None:
        """``kill -9``, and nobody starts it again."""
        await kill(node.name)
        await self._supervisor.stop(node.name)

    async def bring_back(self, node: ClusterNode) -> None:
        """Start it on what is in its directory."""
        await self._supervisor.start(node)

    async def until_taken_over(self, lost: ClusterNode) -> None:
        """Wait until there are as many masters without it. Raises ``TimeoutError``."""
        deadline = time.monotonic() + TAKEN_OVER_S_MAX
        while len(await self.masters(but=lost)) < self._servers.masters:
            if time.monotonic() > deadline:
                raise TimeoutError(f"(no replica took over from {lost.name})")
            await asyncio.sleep(POLL_S)

    async def until_whole(self) -> None:
        """Wait until each master is followed and each replica linked. Raises ``TimeoutError``."""
        deadline = time.monotonic() + WHOLE_S_MAX
        while not self._is_whole(roles := await self._roles()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"(the cluster is not whole: {_words(roles)})")
            await asyncio.sleep(POLL_S)

    def _is_whole(self, roles: Sequence[Role]) -> bool:
        masters = sum(role.is_master for role in roles)
        is_complete = len(roles) == len(self._servers.nodes) and masters == self._servers.masters
        return is_complete and all(role.is_linked for role in roles)

    async def _roles(self, but: ClusterNode | None = None) -> list[Role]:
        asked = [node for node in self._servers.nodes if node is not but]
        told = await asyncio.gather(*(asyncio.to_thread(self._role, node) for node in asked))
        return [role for role in told if role is not None]

    def _role(self, node: ClusterNode) -> Role | None:
        """None if it does not answer."""
        try:
            with node.client() as client:
                told: Any = client.info("replication")
        except (RedisError, OSError):
            return None
        if told["role"] == "master":
            return Role(node, True, 0, told.get("min_slaves_good_slaves", 0) >= self._servers.replicas)
        return Role(node, False, int(told["master_port"]), told["master_link_status"] == "up")


def empty(node: ClusterNode) -> None:
    """A new disk: nothing is left of its data or its identity. Its address is its host's, and stays."""
    for path in node.directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != Path(node.directory / PORTS_FILE):
            path.unlink()


def _words(roles: Sequence[Role]) -> str:
    return ", ".join(
        f"{role.node.name} {'master' if role.is_master else 'replica'}{'' if role.is_linked else ' unlinked'}"
        for role in roles
    )
