"""What people are told while a store is away, and that nothing of it is lost or done twice."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import redis

from engine.redis.keyspace import Keyspace
from engine.servers.ports import listen
from tests.campaign import AMPLE, Service, start_api
from tests.servers.processes import wait_until


@contextmanager
def stopped_redis(service: Service) -> Iterator[None]:
    """Redis answers nobody, as on a host that hangs."""
    with redis.Redis.from_url(service.settings.redis_url) as client:
        pid = int(client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_unanswered_booking_is_told_as_unknown_and_then_resolved(service: Service) -> None:
    person, key, wishes = service.register(), str(uuid.uuid4()), service.campaign.wishes(AMPLE, slot=6)
    with stopped_redis(service):
        accepted = service.book(person, wishes, key)
    assert accepted.status_code == 202
    assert accepted.json()["status"] == "pending"
    assert accepted.headers["retry-after"] == "1"
    operation = accepted.headers["location"]
    assert operation == f"/v1/operations/{accepted.json()['operation']}"

    answers: list[httpx.Response] = []

    def is_decided() -> bool:
        answers.append(service.http.get(operation))
        return answers[-1].status_code == 200

    wait_until(is_decided, "the operation is decided")
    # It was read by Redis after its deadline, so it was refused there.
    assert answers[-1].json()["status"] == "not-booked"
    assert {answer.status_code for answer in answers} <= {200, 202, 503}

    booked = service.book(person, wishes, key)
    assert booked.status_code == 201
    assert service.http.get(operation).json() == booked.json()


def test_a_closed_partition_refuses_and_says_when_to_come_back(service: Service) -> None:
    keyspace = Keyspace(service.settings.partitions)
    person, wishes = service.register(), service.campaign.wishes(AMPLE, slot=6)
    metas = [keyspace.meta(partition) for partition in range(keyspace.partitions)]
    with redis.Redis.from_url(service.settings.redis_url) as client:
        for meta in metas:
            client.hset(meta, "epoch", 9)
        try:
            refused = service.book(person, wishes)
            ready = service.http.get("/health/ready")
        finally:
            for meta in metas:
                client.hset(meta, "epoch", 1)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:dosebook:problem:partition-closed")
    assert int(refused.headers["retry-after"]) > 0
    assert ready.status_code == 503
    assert set(ready.json()["closed"]) == {str(partition) for partition in range(keyspace.partitions)}
    assert service.book(person, wishes).status_code == 201


def test_the_api_stops_within_five_seconds(service: Service) -> None:
    """A second process on the same address: SIGTERM ends it, and the first goes on answering."""
    listener = listen(0)
    process = start_api(service.settings, service.settings.secrets_dir.parent, listener.fd)
    with httpx.Client(base_url=listener.url, timeout=10) as http:
        wait_until(lambda: _answers(http), "the second process answers")
        began = time.monotonic()
        process.terminate()
        process.wait(10)
    listener.close()
    assert time.monotonic() - began < 6
    assert service.http.get("/health/live").status_code == 200


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False
