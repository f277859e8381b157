"""How the nodes of a cluster are struck. Which master, or which replica, is drawn."""

from random import Random

from engine.servers.cluster import ClusterNode
from tests.faults.cluster import Cluster, empty
from tests.faults.system import System

# Sometimes shorter than the others wait before they replace it, mostly longer.
SLEEP_S, SHORT_SLEEP_S = (1.0, 5.0), (3.5, 4.5)


async def kill_master(system: System, chance: Random, is_short: bool) -> None:
    """``kill -9``; it is started again at once, before anybody has missed it."""
    _, master = await _draw_master(system, chance)
    await system.kill(master.name)


async def replace_master(system: System, chance: Random, is_short: bool) -> None:
    """``kill -9``; it comes back when its replica is master."""
    cluster, master = await _draw_master(system, chance)
    await cluster.take_away(master, system.kill)
    await cluster.until_taken_over(master)
    await cluster.bring_back(master)


async def lose_master(system: System, chance: Random, is_short: bool) -> None:
    """``kill -9``, and its disk is lost; when its replica is master, a node that knows nothing is added."""
    cluster, master = await _draw_master(system, chance)
    await cluster.take_away(master, system.kill)
    empty(master)
    # An empty master that came back before that would be followed by its replica, which would be empty then.
    await cluster.until_taken_over(master)
    await cluster.bring_back(master)
    await cluster.form()


async def freeze_master(system: System, chance: Random, is_short: bool) -> None:
    """SIGSTOP; it wakes up as a master, whatever has become of its partitions."""
    _, master = await _draw_master(system, chance)
    await system.stop(master.name, chance.uniform(*(SHORT_SLEEP_S if is_short else SLEEP_S)))


async def kill_replica(system: System, chance: Random, is_short: bool) -> None:
    """``kill -9`` of one; its master has no other."""
    replica, master = chance.choice(await system.cluster.replicas())
    system.struck = await system.partitions_of(master)
    await system.kill(replica.name)


async def kill_replicas(system: System, chance: Random, is_short: bool) -> None:
    """``kill -9`` of all: nobody follows any master."""
    for replica, _ in await system.cluster.replicas():
        await system.kill(replica.name)


async def _draw_master(system: System, chance: Random) -> tuple[Cluster, ClusterNode]:
    """Its partitions are those whose recovery is measured."""
    master = chance.choice(await system.cluster.masters())
    system.struck = await system.partitions_of(master)
    return system.cluster, master
