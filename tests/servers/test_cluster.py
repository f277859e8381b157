"""A cluster of real nodes: it forms, is completed, comes back, fails over, and leaves nothing behind."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from engine.servers import cluster as cluster_module
from engine.servers.cluster import SLOTS, ClusterServers, shares
from engine.servers.data_dir import DataDir
from engine.servers.errors import DataDirError, ServerFailedError
from engine.servers.ports import LOOPBACK
from engine.servers.supervisor import State, Supervisor
from tests.client import client_of
from tests.servers.processes import family, lives, wait_until

# A key of each third of the slots.
KEYS = ("{p11}a", "{p10}a", "{p01}a")
LIBRARY = """#!lua name=words
redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
"""
FAILOVER_S_MAX = 15.0


@pytest.fixture
def data() -> Iterator[DataDir]:
    with DataDir.make_temporary() as directory:
        yield directory


def holders(cluster: ClusterServers) -> list[str]:
    """Identity and slots of each node, as the first one tells it."""
    with cluster.nodes[0].client() as client:
        lines = str(client.execute_command("CLUSTER", "NODES")).splitlines()
    return sorted(f"{line.split()[0]} {line.split(' ', 8)[8:]}" for line in lines)


def kill_all(cluster: ClusterServers) -> None:
    """End every node as a power cut would."""
    for node in cluster.nodes:
        node.kill()
        node.stop()


def succeeds(work: Any) -> bool:
    try:
        work()
    except RedisError:
        return False
    return True


def test_takes_writes_and_functions_on_every_master(redis_cluster: ClusterServers) -> None:
    with client_of(redis_cluster.url) as client:
        client.flushall()
        client.function_load(LIBRARY, replace=True)
        for key in KEYS:
            client.fcall("put", 1, key, key)
        assert [client.get(key) for key in KEYS] == [key.encode() for key in KEYS]
        assert len({client.get_node_from_key(key).name for key in KEYS}) == 3
        for node in client.get_primaries():
            assert client.dbsize(target_nodes=node) == 1
            assert client.config_get("appendfsync", target_nodes=node) == {"appendfsync": "always"}
        client.function_delete("words")


def test_starts_again_with_data_slots_and_ports(data: DataDir) -> None:
    with ClusterServers(data) as first, client_of(first.url) as client:
        url, held = first.url, holders(first)
        for key in KEYS:
            client.set(key, "kept")
    with ClusterServers(data) as second, client_of(second.url) as client:
        assert (second.url, holders(second)) == (url, held)
        assert [client.get(key) for key in KEYS] == [b"kept"] * 3


def test_nodes_that_find_their_ports_taken_meet_again_at_others(data: DataDir) -> None:
    with ClusterServers(data) as first, client_of(first.url) as client:
        ports = [node.port for node in first.nodes]
        for key in KEYS:
            client.set(key, "kept")
    thieves = [socket.create_server((LOOPBACK, port)) for port in ports]
    try:
        with ClusterServers(data) as second, client_of(second.url) as client:
            assert not set(ports) & {node.port for node in second.nodes}
            assert [client.get(key) for key in KEYS] == [b"kept"] * 3
    finally:
        for thief in thieves:
            thief.close()


def test_a_node_whose_port_was_taken_while_it_was_down_is_found_at_another(data: DataDir) -> None:
    cluster = ClusterServers(data)
    with cluster, client_of(cluster.url) as client:
        client.set(KEYS[2], "kept")
        lost = next(n for n in cluster.nodes if n.port == client.get_node_from_key(KEYS[2]).port)
        taken = lost.port
        lost.kill()
        lost.stop()
        with socket.create_server((LOOPBACK, taken)):
            lost.start()
            assert lost.port != taken
            with client_of(cluster.url) as second:
                wait_until(lambda: succeeds(lambda: second.get(KEYS[2])), "the others tell the new port")
                assert second.get(KEYS[2]) == b"kept"


def nothing(cluster: ClusterServers) -> None:
    """The nodes run, nobody knows anybody."""


def one_share(cluster: ClusterServers) -> None:
    """The first master has its epoch and its slots."""
    with cluster.nodes[0].client() as client:
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 1)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 5460)


def all_shares_and_one_met(cluster: ClusterServers) -> None:
    """Every master has its slots, and the first has met the second."""
    for number, (node, share) in enumerate(zip(cluster.nodes, shares(3), strict=False), 1):
        with node.client() as client:
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", share[0], share[-1])
    second = cluster.nodes[1]
    with cluster.nodes[0].client() as client:
        client.execute_command("CLUSTER", "MEET", LOOPBACK, second.port, second.bus_port)
        wait_until(
            lambda: "cluster_known_nodes:2" in str(client.execute_command("CLUSTER", "INFO")), "they met"
        )


@pytest.mark.parametrize("reached", [nothing, one_share, all_shares_and_one_met])
def test_killed_while_it_forms_it_is_completed(data: DataDir, reached: Any) -> None:
    cluster = ClusterServers(data)
    for node in cluster.nodes:
        node.start()
    reached(cluster)
    kill_all(cluster)
    with ClusterServers(data) as second, client_of(second.url) as client:
        assert all(client.set(key, "here") for key in KEYS)


def test_replicas_are_added_to_a_cluster_without(data: DataDir) -> None:
    with ClusterServers(data) as first, client_of(first.url) as client:
        client.set(KEYS[0], "kept")
    with ClusterServers(data, replicas=1) as second, client_of(second.url) as client:
        assert client.get(KEYS[0]) == b"kept"
        assert [client.wait(1, 5000, target_nodes=node) for node in client.get_primaries()] == [1, 1, 1]
    with pytest.raises(DataDirError, match=r"has a cluster of more than 3 Redis nodes: [^\n]*$"):
        ClusterServers(data)


def test_a_new_master_takes_over_and_writes_when_it_is_followed(data: DataDir) -> None:
    cluster = ClusterServers(data, replicas=1)
    with cluster, client_of(cluster.url) as client:
        client.set(KEYS[0], "kept")
        client.wait(1, 5000, target_nodes=client.get_node_from_key(KEYS[0]))
        lost = cluster.nodes[0]
        assert client.get_node_from_key(KEYS[0]).port == lost.port
        lost.kill()
        wait_until(lambda: succeeds(lambda: client.get(KEYS[0])), "the replica takes over", FAILOVER_S_MAX)
        assert client.get(KEYS[0]) == b"kept"
        assert client.get_node_from_key(KEYS[0]).port != lost.port
        assert client.set(KEYS[1], "others go on")
        with pytest.raises(RedisError, match="NOREPLICAS"):
            client.set(KEYS[0], "nobody follows")
        lost.stop()
        lost.start()
        cluster.form()
        assert client.set(KEYS[0], "followed")


def test_with_two_replicas_writes_go_on_without_the_lost_master(data: DataDir) -> None:
    cluster = ClusterServers(data, replicas=2)
    with cluster, client_of(cluster.url) as client:
        cluster.nodes[0].kill()
        wait_until(
            lambda: succeeds(lambda: client.set(KEYS[0], "again")), "a replica takes over", FAILOVER_S_MAX
        )


async def test_a_supervised_node_that_is_killed_comes_back_as_itself(data: DataDir) -> None:
    cluster = ClusterServers(data)
    async with Supervisor(data) as supervisor:
        await asyncio.gather(*(supervisor.start(node) for node in cluster.nodes))
        await asyncio.to_thread(cluster.form)
        url, held = cluster.url, holders(cluster)
        with client_of(cluster.url) as client:
            client.set(KEYS[0], "kept")
            await asyncio.to_thread(kill_first_and_wait, cluster, supervisor)
            assert client.get(KEYS[0]) == b"kept"
        assert (cluster.url, holders(cluster)) == (url, held)
    assert {status.state for status in supervisor.status()} == {State.STOPPED}


def kill_first_and_wait(cluster: ClusterServers, supervisor: Supervisor) -> None:
    pid = cluster.nodes[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: [s.restarts for s in supervisor.status()] == [1, 0, 0], "it is started again")
    cluster.form()


def test_nothing_is_left_after_the_end(data: DataDir) -> None:
    with ClusterServers(data) as cluster:
        pids = set[int]().union(*(family(node.pid) for node in cluster.nodes if node.pid))
        assert len(pids) >= 3
    assert not any(lives(pid) for pid in pids)


def test_a_start_that_fails_leaves_nothing(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "FORM_S_MAX", 0.0)
    cluster = ClusterServers(data)
    with pytest.raises(ServerFailedError, match=r"^the Redis Cluster did not form in 0 s: [^\n]+$"):
        cluster.start()
    assert [node.pid for node in cluster.nodes] == [None] * 3


@pytest.mark.parametrize("spread", [[], [b"{p%02d}" % p for p in range(12)]])
def test_every_slot_is_in_one_share(spread: list[bytes]) -> None:
    assert [slot for share in shares(3, spread) for slot in share] == list(range(SLOTS))


def test_keys_to_spread_are_shared_out_evenly() -> None:
    keys = [b"{p%02d}" % p for p in range(12)]
    for share in shares(3, keys):
        assert sum(key_slot(key) in share for key in keys) == 4
