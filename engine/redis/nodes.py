"""The Redis servers of a deployment, and which of them has which partition.

``redis://`` and ``unix://`` name one server, which has them all. ``redis+cluster://host:port,host:port``
names some nodes of a cluster; which master has which partition is asked of them by ``refresh``, since a
failover changes it. Nothing is redirected or sent twice here: a master that a partition has left refuses the
call (MOVED) without having done it, and whoever sent it is told that the partition is closed.

A server that does not answer fails the commands for its own partitions only. On a cluster, one that has
kept ``refresh`` waiting is sent nothing until it answers that: whoever waited for it would wait for nothing
else meanwhile.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as NoAnswer

from engine import limits
from engine.errors import PartitionClosed
from engine.redis.connection import connect
from engine.redis.keyspace import Keyspace

CLUSTER = "redis+cluster"
TOUCH = "dosebook_touch"
FAULTS = (RedisError, OSError, TimeoutError, PartitionClosed)
# Replies of a server that does not have the partition, or not as its master: nothing was done.
ELSEWHERE = (AskError, TryAgainError, ClusterDownError, ReadOnlyError)

Command = tuple[Any, ...]


class Node:
    """One server: ``client`` for what is answered at once, ``waiting`` for one call that waits over there.

    ``replicas`` is how many the cluster says it has, 0 for a single server; ``memory_share`` how much of its
    maximum memory it used when it was asked last, 0 without a maximum. ``is_silent``: it neither answered
    nor refused when a cluster's nodes were asked last.
    """

    __slots__ = ("address", "client", "is_silent", "memory_share", "replicas", "waiting")

    def __init__(self, address: str, connections: int, timeout_s: float) -> None:
        self.address = address
        self.client: Any = connect(address, connections=connections, timeout_s=timeout_s)
        self.waiting: Any = connect(address, connections=1, timeout_s=timeout_s + limits.PERSIST_IDLE_S)
        self.is_silent = False
        self.replicas = 0
        self.memory_share = 0.0

    async def aclose(self) -> None:
        """Close the connections."""
        await self.waiting.aclose()
        await self.client.aclose()


class Nodes:
    """The servers, reached through ``connections`` each. On a cluster nothing is known before ``refresh``."""

    def __init__(
        self,
        url: str,
        keyspace: Keyspace,
        *,
        connections: int = limits.REDIS_CONNECTIONS_MAX,
        timeout_s: float = limits.REPLY_S_MAX,
    ) -> None:
        self.keyspace = keyspace
        self.is_cluster = url.startswith(f"{CLUSTER}://")
        self._connections = connections
        self._timeout_s = timeout_s
        self._url = url
        self._known: dict[str, Node] = {}
        self._of: list[Node | None] = [None] * keyspace.partitions
        if not self.is_cluster:
            self._of = [self._node(url)] * keyspace.partitions

    def of(self, partition: int) -> Node:
        """The server that has the partition. Raises ``PartitionClosed`` where none has, or a silent one."""
        node = self._of[partition]
        if node is None:
            raise PartitionClosed(f"partition {partition} is on no server of the cluster now")
        if node.is_silent:
            raise PartitionClosed(f"partition {partition}: its server does not answer")
        return node

    def grouped(self, partitions: Iterable[int]) -> dict[Node, list[int]]:
        """The partitions by server; those that are on none, or on a silent one, are left out."""
        groups: defaultdict[Node, list[int]] = defaultdict(list)
        for partition in partitions:
            node = self._of[partition]
            if node is not None and not node.is_silent:
                groups[node].append(partition)
        return groups

    @property
    def all(self) -> list[Node]:
        """Every server that has a partition and is not silent."""
        return list(self.grouped(range(self.keyspace.partitions)))

    async def ask(self, commands: Sequence[tuple[int, Command]], *, tolerant: bool = False) -> list[Any]:
        """Each command's reply, in order: one pipeline per server, all at once.

        Raises the first fault; if ``tolerant``, a fault stands in the place of the reply.
        """
        at: defaultdict[Node, list[int]] = defaultdict(list)
        replies: list[Any] = [None] * len(commands)
        for number, (partition, _) in enumerate(commands):
            try:
                at[self.of(partition)].append(number)
            except PartitionClosed as closed:
                replies[number] = closed
        told = await asyncio.gather(
            *(_pipelined(node, [commands[number][1] for number in numbers]) for node, numbers in at.items())
        )
        for numbers, answers in zip(at.values(), told, strict=True):
            for number, answer in zip(numbers, answers, strict=True):
                replies[number] = answer
        if not tolerant:
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def one(self, partition: int, *command: Any) -> Any:
        """The reply to one command."""
        return (await self.ask([(partition, command)]))[0]

    async def run_ids(self) -> dict[int, str]:
        """By partition, the server process that has it; a partition whose server is away is left out."""
        groups = self.grouped(range(self.keyspace.partitions))
        infos = await asyncio.gather(*(_info(node) for node in groups), return_exceptions=True)
        found: dict[int, str] = {}
        for (node, partitions), info in zip(groups.items(), infos, strict=True):
            if isinstance(info, FAULTS):
                continue
            if isinstance(info, BaseException):
                raise info
            found |= dict.fromkeys(partitions, str(info["run_id"]))
            most = int(info["maxmemory"])
            node.memory_share = int(info["used_memory"]) / most if most else 0.0
        return found

    async def replicated(self, partitions: Iterable[int], replicas: int) -> set[int]:
        """Those of the partitions of which so many replicas have everything that was written until now.

        The write is this connection's own: WAIT waits for no other's.
        """
        groups = self.grouped(partitions)
        counts = await asyncio.gather(
            *(
                _pipelined(node, wait_commands(self.keyspace, some[0], max(replicas, node.replicas)))
                for node, some in groups.items()
            )
        )
        enough: set[int] = set()
        for (node, some), (touched, count) in zip(groups.items(), counts, strict=True):
            if have_all(touched, count, max(replicas, node.replicas)):
                enough |= set(some)
        return enough

    async def refresh(self) -> None:
        """Ask the cluster where the partitions are. Raises the last fault if no node answers.

        All are asked, and the one that knows of the latest election is believed, if it sees a majority: one
        that is cut off from the others would tell for ever what was once.
        """
        if not self.is_cluster:
            return
        nodes = dict.fromkeys([*filter(None, self._of), *map(self._node, self._seeds())])
        views = await asyncio.gather(*map(_view, nodes))
        told = [view for view in views if isinstance(view, _View)]
        if not told:
            raise next(
                (view for view in views if isinstance(view, Exception)),
                PartitionClosed(f"no address in {self._url}"),
            )
        self._place(max(told, key=lambda view: (view.is_ok, view.epoch)).ranges)

    async def scan(self, pattern: bytes, *, tolerant: bool = False) -> AsyncIterator[list[bytes]]:
        """The keys of all partitions that match, page by page, in any order; a key may come twice.

        If ``tolerant``, a server that does not answer is passed over.
        """
        for node in self.all:
            cursor = -1
            while cursor:
                try:
                    cursor, keys = await node.client.scan(
                        max(cursor, 0), match=pattern, count=limits.SCAN_KEYS_MAX
                    )
                except FAULTS:
                    if not tolerant:
                        raise
                    break
                yield keys

    async def aclose(self) -> None:
        """Close every connection."""
        for node in self._known.values():
            await node.aclose()

    def _place(self, ranges: Sequence[Any]) -> None:
        """CLUSTER SLOTS: first slot, last slot, the master's host and port, then its replicas."""
        for partition in range(self.keyspace.partitions):
            slot = key_slot(self.keyspace.prefix(partition))
            self._of[partition] = None
            for first, last, master, *replicas in ranges:
                if first <= slot <= last:
                    node = self._node(self._address(master[0].decode(), master[1]))
                    node.replicas = len(replicas)
                    self._of[partition] = node

    def _node(self, address: str) -> Node:
        node = self._known.get(address)
        if node is None:
            node = self._known[address] = Node(address, self._connections, self._timeout_s)
        return node

    def _seeds(self) -> list[str]:
        places = urlsplit(self._url).netloc.rpartition("@")[2].split(",")
        return [self._address(*place.rsplit(":", 1)) for place in places if ":" in place]

    def _address(self, host: str, port: object) -> str:
        user, at, _ = urlsplit(self._url).netloc.rpartition("@")
        return f"redis://{user}{at}{host}:{port}"


class _View(NamedTuple):
    """Where a node says that the slots are, whether it sees a majority, and the latest election it knows."""

    is_ok: bool
    epoch: int
    ranges: Sequence[Any]


@asynccontextmanager
async def open_nodes(url: str, keyspace: Keyspace, **options: Any) -> AsyncIterator[Nodes]:
    """Nodes that have asked where the partitions are. Raises what Redis raises if no server answers."""
    nodes = Nodes(url, keyspace, **options)
    try:
        await nodes.refresh()
        yield nodes
    finally:
        await nodes.aclose()


def partition_of(key: bytes) -> int:
    """The partition that a key belongs to: ``{p07}:`` stands before it."""
    return int(key[2:4])


def wait_commands(keyspace: Keyspace, partition: int, replicas: int) -> list[Command]:
    """A write to the partition's server, and the wait until so many replicas have it."""
    return [("FCALL", TOUCH, 1, keyspace.wait(partition)), ("WAIT", replicas, limits.WAIT_MS_MAX)]


def have_all(touched: Any, count: Any, replicas: int) -> bool:
    """What the replies to these two say. Behind a write that was refused, WAIT counts for an earlier one."""
    return touched == 1 and isinstance(count, int) and count >= replicas


async def _pipelined(node: Node, commands: Sequence[Command]) -> Sequence[Any]:
    pipeline = node.client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    try:
        replies: Sequence[Any] = await pipeline.execute(raise_on_error=False)
    except FAULTS as error:
        return [error] * len(commands)
    return replies


async def _view(node: Node) -> "_View | Exception":
    """What one node says of the cluster, and whether it says anything."""
    limit_s = limits.SILENT_AGAIN_S_MAX if node.is_silent else limits.SILENT_S_MAX
    try:
        async with asyncio.timeout(limit_s):
            info, ranges = await _pipelined(node, [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
    except TimeoutError as error:
        info = ranges = error
    node.is_silent = isinstance(info, (TimeoutError, NoAnswer))
    for reply in (info, ranges):
        if isinstance(reply, Exception):
            return reply
    fields = dict(line.split(":", 1) for line in info.decode().split() if ":" in line)
    return _View(fields["cluster_state"] == "ok", int(fields["cluster_current_epoch"]), ranges)


async def _info(node: Node) -> Any:
    return await node.client.info("server", "memory")
