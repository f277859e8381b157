import pytest

from engine.errors import DeploymentMismatch, PartitionLost
from engine.recovery import found as founding
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import open_nodes
from tests.deployment import Deployment


async def test_founding_again_changes_nothing(four_partitions: Deployment) -> None:
    await four_partitions.booked(1, 1)
    assert await four_partitions.found() == dict.fromkeys(range(4), 1)
    await four_partitions.persist()
    assert (await four_partitions.audit()).is_clean


async def test_a_crash_between_postgres_and_redis_is_completed(deployment: Deployment) -> None:
    await deployment.pool.execute("update partition set founded = false")
    await deployment.client.delete(deployment.keyspace.meta(0))
    assert await deployment.found() == {0: 1}


async def test_a_crash_after_redis_is_completed(deployment: Deployment) -> None:
    await deployment.pool.execute("update partition set founded = false")
    assert await deployment.found() == {0: 1}
    assert await deployment.rows("select founded from partition") == [(True,)]


async def test_an_emptied_redis_stays_closed(four_partitions: Deployment) -> None:
    await four_partitions.booked(1, 1)
    await four_partitions.persist()
    await four_partitions.client.delete(four_partitions.keyspace.meta(2))
    with pytest.raises(PartitionLost, match=r"partition 2 stays closed.*Redis does not have it"):
        await four_partitions.found()
    assert not await four_partitions.client.exists(four_partitions.keyspace.meta(2))


async def test_a_partition_lost_before_its_first_event_reached_postgres_stays_closed(
    deployment: Deployment,
) -> None:
    await deployment.client.flushall()
    with pytest.raises(PartitionLost, match="partition 0"):
        await deployment.found()


async def test_another_epoch_stays_closed(deployment: Deployment) -> None:
    await deployment.client.hset(deployment.keyspace.meta(0), "epoch", 7)
    with pytest.raises(PartitionLost, match="under epoch 7"):
        await deployment.found()


async def test_another_number_of_partitions_is_refused(deployment: Deployment) -> None:
    with pytest.raises(DeploymentMismatch, match="DOSEBOOK_PARTITIONS=1"):
        async with open_nodes(deployment.redis_url, Keyspace(2)) as nodes:
            await founding.found(deployment.pool, nodes)
