"""A Redis Cluster on loopback: masters, and replicas for each, formed without any tool beside the servers.

    with ClusterServers(data, replicas=1) as cluster:       # or, under a supervisor:
    ...                                                     #   start each of `cluster.nodes`, then `form`

Invariants: a node keeps its identity (nodes.conf) and its ports in its directory, so that it comes back as
the same one, whether a supervisor or the next run starts it. `form` looks at what each node says of itself
and does only what is missing: a formed cluster is left as it is, one whose forming was cut short is
completed, and nodes that got other ports meet again. It returns when every node reaches all others, every
slot is served and every replica follows.

With replicas, a master that none of them follows refuses writes (`min-replicas-to-write`): after a failover
with one replica each, the new master answers reads, and writes once the old one is back. Two replicas each
write on at once. Nodes have no passwords: they listen on loopback only.
"""

import time
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Any, NamedTuple, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError
from redis.retry import Retry

from engine.servers.data_dir import DataDir
from engine.servers.errors import DataDirError, ServerFailedError
from engine.servers.ports import LOOPBACK, is_free, unused_ports
from engine.servers.redis import RedisServer

SLOTS = 16384
MASTERS = 3
NODE_TIMEOUT_MS = 2000
# Replicas report once a second; one that was silent for this long follows no more.
REPLICA_LAG_S_MAX = 3
FORM_S_MAX = 60.0
FORM_POLL_S = 0.05
ROUNDS_TO_MEET = 40
REPLY_S_MAX = 5.0
PORTS_FILE = "ports"
# Flags of a node that another one does not reach, beside a link that is down.
UNREACHED = frozenset({"fail", "fail?", "handshake", "noaddr"})


class ClusterNode(RedisServer):
    """One node. Its ports are chosen at the first start and stay, unless somebody else has them by then.

    At other ports it comes back into the cluster by itself, as long as the others are where they were.
    """

    def __init__(self, data: DataDir, name: str, settings: dict[str, str]) -> None:
        super().__init__(data, name=name)
        self.bus_port = 0
        self._settings |= {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-announce-ip": LOOPBACK,
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            # A master that is lost takes its own partitions along, not those of the others.
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync-delay": "0",
            **settings,
        }

    @property
    def address(self) -> str:
        """Host and port for clients; known once it has been started."""
        return f"{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        """Lock the data, then find the ports: without the lock, a living node's would look taken."""
        super().prepare()
        self.port, self.bus_port = self._ports()
        self._settings["cluster-port"] = str(self.bus_port)

    def client(self) -> Redis:
        """Connection to this node alone, nothing retried; answers are text."""
        return Redis(
            unix_socket_path=str(self.socket),
            socket_timeout=REPLY_S_MAX,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=True,
        )

    def _ports(self) -> tuple[int, int]:
        """Those of the last run if they are free, else new ones."""
        file = self.directory / PORTS_FILE
        kept = [int(word) for word in file.read_text("ascii").split()] if file.exists() else []
        if len(kept) == 2 and all(map(is_free, kept)):
            return kept[0], kept[1]
        port, bus_port = unused_ports(2)
        file.write_text(f"{port} {bus_port}\n", "ascii")
        return port, bus_port


class _View(NamedTuple):
    """What a node says of itself, and the ids of those that it knows and reaches, its own among them."""

    node: ClusterNode
    client: Any
    id: str
    master_id: str
    epoch: int
    slots: set[int]
    known: set[str]
    reached: set[str]
    serves_all: bool
    is_linked: bool

    def does(self, command: str, *args: object) -> None:
        """Give this node a command of the cluster."""
        self.client.execute_command("CLUSTER", command, *args)


class ClusterServers:
    """The nodes `redis-1`, `redis-2`, … on `data`: first the masters, then their replicas.

    Which of them are masters later is the cluster's affair. The slots are shared out evenly, or such that
    each master has as many of the keys `spread`. `settings` are directives that override ours.
    """

    def __init__(
        self,
        data: DataDir,
        *,
        masters: int = MASTERS,
        replicas: int = 0,
        spread: Sequence[bytes] = (),
        name: str = "redis",
        settings: dict[str, str] | None = None,
    ) -> None:
        self.masters = masters
        self.replicas = replicas
        self._shares = shares(masters, spread)
        careful = {"min-replicas-to-write": "1", "min-replicas-max-lag": str(REPLICA_LAG_S_MAX)}
        ours = {**(careful if replicas else {}), **(settings or {})}
        names = [f"{name}-{n + 1}" for n in range(masters * (1 + replicas))]
        self.nodes = [ClusterNode(data, node, ours) for node in names]
        if (data.path / f"{name}-{len(names) + 1}").exists():
            raise DataDirError(
                f"{data.path} has a cluster of more than {len(names)} Redis nodes: start as many replicas"
                " as before, or choose another --data-dir"
            )

    @property
    def url(self) -> str:
        """The masters as seeds; a client learns of all nodes from any of them. Known after the start."""
        return f"redis+cluster://{','.join(node.address for node in self.nodes[: self.masters])}"

    def start(self) -> Self:
        """Start every node and form the cluster, for programs without an event loop (tests)."""
        try:
            for node in self.nodes:
                node.start()
            self.form()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop every node, replicas first: a master that stops would wait for them."""
        for node in reversed(self.nodes):
            node.ask_to_stop()
        for node in self.nodes:
            node.stop()

    def form(self) -> None:
        """Do what is missing until the cluster serves; blocking. Raises `ServerFailedError` if it does not.

        A node may die and come back meanwhile: each round looks at everything anew.
        """
        deadline = time.monotonic() + FORM_S_MAX
        rounds = count()
        while missing := self._round(next(rounds)):
            if time.monotonic() > deadline:
                raise ServerFailedError(f"the Redis Cluster did not form in {FORM_S_MAX:.0f} s: {missing}")
            time.sleep(FORM_POLL_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _round(self, number: int) -> str:
        """Look, do what can be done now, and say what is missing; empty when nothing is."""
        clients = [node.client() for node in self.nodes]
        try:
            views = [_view(node, client) for node, client in zip(self.nodes, clients, strict=True)]
            self._give_slots(views)
            if number % ROUNDS_TO_MEET == 0:
                _introduce(views, everybody=number > 0)
            self._attach_a_replica(views)
        except RedisError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            for client in clients:
                client.close()
        return _missing(views)

    def _give_slots(self, views: list[_View]) -> None:
        """An epoch for each, then to each master what nobody holds of its share.

        This comes before all else, since a node takes an epoch only before it has met another.
        """
        for number, view in enumerate(views, 1):
            if view.epoch == 0 and view.known == {view.id}:
                view.does("SET-CONFIG-EPOCH", number)
        held = set[int]().union(*(view.slots for view in views))
        for view, share in zip(views, self._shares, strict=False):
            if free := set(share) - held:
                view.does("ADDSLOTS", *sorted(free))

    def _attach_a_replica(self, views: list[_View]) -> None:
        """One node that has nothing follows the master with the fewest; the next one in the next round."""
        masters = [view for view in views if view.slots]
        empty = [view for view in views if not view.slots and not view.master_id]
        if len(masters) < self.masters or not empty:
            return
        followed = [view.master_id for view in views]
        master = min(masters, key=lambda view: followed.count(view.id))
        if master.id in empty[0].reached:
            empty[0].does("REPLICATE", master.id)


def shares(masters: int, spread: Sequence[bytes] = ()) -> list[range]:
    """Each master's share of the slots: as many slots for each, or as many of the keys `spread`."""
    slots = sorted(key_slot(key) for key in spread) if len(spread) >= masters else range(SLOTS)
    firsts = [slots[n * len(slots) // masters] for n in range(1, masters)]
    return [range(first, end) for first, end in zip([0, *firsts], [*firsts, SLOTS], strict=True)]


def _introduce(views: list[_View], *, everybody: bool) -> None:
    """Let the first node meet those that it does not know; or everybody those that they do not reach.

    The first is enough for new nodes: they tell each other of each other. The second is for nodes that are
    known at a port that they have no more, and for those that were cut short while they met. It has to wait:
    a node that is met by one that it knows cuts their link and makes it anew.
    """
    for view in views if everybody else views[:1]:
        for other in views:
            if other.id not in (view.reached if everybody else view.known):
                view.does("MEET", LOOPBACK, other.node.port, other.node.bus_port)


def _missing(views: list[_View]) -> str:
    """The first thing that is not yet as it has to be."""
    ids = {view.id for view in views}
    for view in views:
        if ids - view.reached:
            return f"{view.node.name} does not reach all others"
        if not view.serves_all:
            return f"{view.node.name} does not see all slots served"
        if not view.is_linked or not (view.slots or view.master_id):
            return f"{view.node.name} is not linked with its master or its replicas"
    return ""


def _view(node: ClusterNode, client: Any) -> _View:
    """Ask one node. Its word counts for itself and its links only: what it says of others may be old."""
    lines = [line.split(" ") for line in str(client.execute_command("CLUSTER", "NODES")).splitlines()]
    flags = {line[0]: set(line[2].split(",")) for line in lines}
    mine = next(line for line in lines if "myself" in flags[line[0]])
    info = str(client.execute_command("CLUSTER", "INFO"))
    return _View(
        node=node,
        client=client,
        id=mine[0],
        master_id=mine[3].strip("-"),
        epoch=int(mine[6]),
        slots=set[int]().union(*(_slots(word) for word in mine[8:])),
        known=set(flags),
        reached={line[0] for line in lines if line[7] == "connected" and not flags[line[0]] & UNREACHED},
        serves_all="cluster_state:ok" in info and f"cluster_slots_ok:{SLOTS}\r" in info,
        is_linked=_is_linked(client.info("replication")),
    )


def _is_linked(replication: Any) -> bool:
    """A replica has its master's data and follows; a master that asks for a replica has one."""
    if replication["role"] == "master":
        return bool(replication.get("min_slaves_good_slaves", 1))
    return bool(replication["master_link_status"] == "up")


def _slots(word: str) -> range:
    """`5` or `0-5460`; a slot that moves (`[5-<-…]`) is another line's."""
    if word.startswith("["):
        return range(0)
    first, _, last = word.partition("-")
    return range(int(first), int(last or first) + 1)
