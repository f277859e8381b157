"""People say what they would like, and get the first that suits and is free."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from tests.acceptance.rows import wait_for_state
from tests.acceptance.texts import kind_of
from tests.campaign import AMPLE, FAR, SMALL, Service
from tests.servers.processes import wait_until

PARIS = {"postcode": "75011", "radius_km": 10}
LYON = {"lat": 45.769, "lon": 4.829, "radius_km": 5}


@pytest.fixture
def booked(service: Service) -> Iterator[list[str]]:
    """References of what a test books; given back after it."""
    found: list[str] = []
    yield found
    for reference in found:
        assert service.write("DELETE", f"/v1/bookings/{reference}").status_code == 200


def test_the_earliest_within_ten_kilometres(service: Service, booked: list[str]) -> None:
    wish, key = {"people": [{"person": service.register()}], "near": PARIS}, str(uuid.uuid4())
    first = service.write("POST", "/v1/wishes", wish, key)
    assert first.status_code == 201, first.text
    (course,) = first.json()["bookings"]
    booked.append(course["booking"])
    assert course["location"]["id"] in (AMPLE, SMALL)
    sessions = {service.campaign.session(place, 1) for place in (AMPLE, SMALL)}
    assert course["appointments"][0]["session"] in sessions
    wait_for_state(service, course)

    assert service.write("POST", "/v1/wishes", wish, key).content == first.content
    other = service.write("POST", "/v1/wishes", {**wish, "order": "nearest"}, key)
    assert (other.status_code, kind_of(other)) == (422, "key-reused")


def test_what_suits_is_told_before_it_is_held(service: Service, booked: list[str]) -> None:
    """In the evening, dose 2 at the same time; then the same wish holds it."""
    wish = {
        "people": [{"person": service.register()}],
        "near": PARIS,
        "vaccines": ["pfizer"],
        "dose1": {"after": "10:00"},
        "same_time_minutes": 0,
        "elsewhere": True,
    }
    plans = service.write("POST", "/v1/plans", wish).json()["plans"]
    assert plans
    for (plan,) in plans:
        first, second = (datetime.fromisoformat(plan[dose]["starts_at"]) for dose in ("dose1", "dose2"))
        assert first.hour == 10
        assert first.time() == second.time()
    held = service.write("POST", "/v1/wishes", {**wish, "hold": True})
    assert held.status_code == 201
    (course,) = held.json()["bookings"]
    booked.append(course["booking"])
    assert course["status"] == "held"
    wait_for_state(service, course, "h")


def test_a_family_gets_neighbouring_times(service: Service, booked: list[str]) -> None:
    wish = {
        "people": [{"person": service.register()} for _ in range(4)],
        "near": {"postcode": "97400"},
        "dose1": {"from": service.campaign.today.isoformat(), "weekdays": [1, 2, 3, 4, 5, 6, 7]},
    }
    answer = service.write("POST", "/v1/wishes", wish)
    assert answer.status_code == 201, answer.text
    courses = answer.json()["bookings"]
    booked += [course["booking"] for course in courses]
    begins = [datetime.fromisoformat(course["appointments"][0]["starts_at"]) for course in courses]
    assert len(courses) == 4
    assert {course["location"]["id"] for course in courses} == {FAR}
    assert (max(begins) - min(begins)).total_seconds() <= 3600
    for course in courses:
        wait_for_state(service, course)


def test_the_next_is_tried_when_the_first_is_gone(service: Service, booked: list[str]) -> None:
    """Four ask at once for two seats that all of them see: two have them, nobody is refused too early."""
    people = [service.register() for _ in range(4)]
    keys = [str(uuid.uuid4()) for _ in people]

    def ask(number: int) -> str:
        wish = {"people": [{"person": people[number]}], "near": LYON}
        answer = service.write("POST", "/v1/wishes", wish, keys[number])
        if answer.status_code == 201:
            return str(answer.json()["bookings"][0]["booking"])
        return kind_of(answer)

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(ask, range(4)))
    assert sorted(one[:3] for one in told) == ["bkg", "bkg", "not", "not"]
    booked += [one for one in told if one.startswith("bkg_")]
    assert set(told) - set(booked) == {"nothing-free"}


def test_nothing_free_says_so(service: Service) -> None:
    wish = {"people": [{"person": service.register()}], "near": {"lat": 43.0, "lon": -2.0}}
    answer = service.write("POST", "/v1/wishes", wish)
    assert (answer.status_code, kind_of(answer)) == (409, "nothing-free")
    assert "waitlist" in answer.json()["detail"]
    wait_until(lambda: service.write("POST", "/v1/plans", wish).json()["plans"] == [], "there is none")
