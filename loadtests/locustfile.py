"""Locust scenario: people register, search near home and book both doses.

    ./dosebook run --no-surge --stock real
    .venv/bin/locust -f loadtests/locustfile.py --headless -u 50 -r 25 -t 30s -H http://127.0.0.1:8000

A refusal (409, or a vaccine that is not for a person) is an answer and counts as success; anything else that
is not 2xx is a failure.
"""

import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from locust import FastHttpUser, between, task

from loadtests.people import RUNS_MAX, Person, people

PEOPLE_PER_START = 200_000
RADII_KM = (20, 50, 120)
HOLD_SHARE = 0.05
NOT_FOR_ME = {"vaccine-not-admitted", "cohort-not-open"}


def _crowd() -> Iterator[Person]:
    """People that no other start has: the clock chooses the run number and the seed."""
    start = int(time.time())
    return people(PEOPLE_PER_START, start % RUNS_MAX, start, datetime.now(UTC).date())


_people = _crowd()


class Citizen(FastHttpUser):
    """One virtual user is one person after the other."""

    wait_time = between(0.1, 0.5)

    @task
    def book_both_doses(self) -> None:
        """Register, search wider and wider, book the first pair that is given."""
        person = next(islice(_people, 1))
        key = self._register(person)
        for radius_km in RADII_KM:
            pair = self._search(person.postcode, radius_km)
            if key and pair and self._book(key, pair):
                return

    def _register(self, person: Person) -> str | None:
        body = person.registration() | {"birth_date": person.birth_date.isoformat()}
        with self._post("/v1/persons", body) as response:
            return response.js["person"] if response.status_code in (200, 201) else None

    def _search(self, postcode: str, radius_km: int) -> dict[str, Any] | None:
        path = f"/v1/availability?postcode={postcode}&radius_km={radius_km}&limit=5"
        with self.rest("GET", path, name="/v1/availability") as response:
            places = response.js["places"] if response.status_code == 200 else []
        pairs = [pair for place in places for pair in place["pairs"]]
        return random.choice(pairs) if pairs else None

    def _book(self, person: str, pair: dict[str, Any]) -> bool:
        body = {"person": person} | {
            dose: {"session": pair[dose]["session"], "slot": pair[dose]["slot"]}
            for dose in ("dose1", "dose2")
            if dose in pair
        }
        hold = random.random() < HOLD_SHARE
        with self._post("/v1/bookings", body | ({"hold": True} if hold else {})) as response:
            # Taken by others, or a vaccine that is not for this person: the next radius has more.
            if response.status_code == 409 or _reason(response) in NOT_FOR_ME:
                response.success()
            if response.status_code not in (200, 201):
                return False
            at = f"/v1/bookings/{response.js['booking']}"
        return not hold or self._confirm(at)

    def _confirm(self, at: str) -> bool:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        name = "/v1/bookings/confirmation"
        with self.rest("POST", f"{at}/confirmation", name=name, headers=headers) as response:
            return bool(response.status_code == 200)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self.rest("POST", path, json=body, headers={"Idempotency-Key": str(uuid.uuid4())})


def _reason(response: Any) -> str:
    """The problem's name; empty where it is none."""
    problem = response.js if response.status_code == 422 else None
    return str(problem.get("type", "")).rpartition(":")[2] if isinstance(problem, dict) else ""
