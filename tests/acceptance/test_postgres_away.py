"""What people are told over HTTP while Postgres is away, and near the bounds of the stores."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import redis

from engine.cli import scrape
from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from tests.acceptance.rows import wait_for_rows
from tests.campaign import AMPLE, Service, open_service
from tests.servers.processes import wait_until

PERSON = {"family_name": "Marchand", "given_names": "Paule", "birth_date": "1950-01-31"}
# Above MEMORY_SHARE_MAX: bookings are refused before Redis has to do it.
USED_SHARE = 0.9


class Site:
    """A running API with stores of its own."""

    def __init__(self, service: Service, postgres: PostgresServer) -> None:
        self.service = service
        self.postgres = postgres
        self._redis = redis.Redis.from_url(service.settings.redis_url)

    def fill(self) -> None:
        """Nearly all of Redis' memory is used, and the API has seen it."""
        used = self._redis.info("memory")["used_memory"]
        self._redis.config_set("maxmemory", int(used / USED_SHARE))
        wait_until(lambda: self.pressure() >= 1, "the API sees that memory is used")

    def give_room(self) -> None:
        """No maximum, and the API has seen it."""
        self._redis.config_set("maxmemory", 0)
        wait_until(lambda: self.pressure() < 0.5, "the API sees that there is room")

    def pressure(self) -> float:
        """What the API's metrics say."""
        found = scrape.samples(f"{self.service.url}/metrics")
        assert found is not None, "the API does not answer"
        return scrape.total(found, "dosebook_pressure_ratio")

    def close(self) -> None:
        """Let go of Redis."""
        self._redis.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Three partitions, with a persister."""
    with ExitStack() as stack:
        data = stack.enter_context(DataDir.make_temporary())
        server, postgres = stack.enter_context(RedisServer(data)), stack.enter_context(PostgresServer(data))
        database = asyncio.run(postgres.create_database("away"))
        settings = Settings(server.url, database, tmp_path / "secrets", partitions=3)
        site = Site(stack.enter_context(open_service(settings, tmp_path)), postgres)
        stack.callback(site.close)
        yield site


def type_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and name of a problem."""
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_the_registered_book_and_nobody_else_registers(site: Site) -> None:
    service = site.service
    registered, wishes = service.register(), service.campaign.wishes(AMPLE)
    site.postgres.stop()
    newcomer = service.write("POST", "/v1/persons", PERSON)
    assert type_of(newcomer) == (503, "registration-away")
    assert int(newcomer.headers["retry-after"]) > 0
    booked = service.book(registered, wishes)
    assert booked.status_code == 201
    assert service.http.get("/health/ready").status_code == 200
    wait_until(lambda: site.pressure() > 0, "the backlog is seen")

    site.postgres.start()
    wait_for_rows(service, booked.json()["booking"], live=True)
    wait_until(lambda: service.write("POST", "/v1/persons", PERSON).status_code == 201, "people register")


def test_near_the_bound_bookings_are_told_when_to_come_back(site: Site) -> None:
    service, key = site.service, str(uuid.uuid4())
    early, late = service.register(), service.register()
    wishes = service.campaign.wishes(AMPLE)
    booked = service.book(early, wishes, key)
    address = f"/v1/bookings/{booked.json()['booking']}"
    site.fill()

    refused = service.book(late, wishes)
    assert type_of(refused) == (503, "backlog")
    assert int(refused.headers["retry-after"]) == 10
    assert service.book(early, wishes, key).json() == booked.json()
    assert service.http.get(address).status_code == 200
    assert service.write("DELETE", address).status_code == 200

    site.give_room()
    assert service.book(late, wishes).status_code == 201
