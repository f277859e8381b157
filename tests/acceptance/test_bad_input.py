"""Bad input gets a clear 4xx as problem+json, echoes nothing, and changes nothing."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.campaign import AMPLE, SMALL, Service

SECRET = "Zyxwvutsrq"
PERSON = {"family_name": SECRET, "given_names": "Ana", "birth_date": "1950-01-31"}
Body = Callable[[Service, str], dict[str, Any]]


@pytest.fixture
def unchanged(service: Service) -> Iterator[None]:
    """Courses and persons are as many after the test as before it."""
    sql = "select (select count(*) from person) + (select count(*) from registration) as n"
    before = service.rows(sql)
    yield
    assert service.rows(sql) == before


def check(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """The answer is that problem, and quotes nothing."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["type"]) == (status, f"urn:dosebook:problem:{name}")
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert SECRET not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    return body


WISHES: dict[str, tuple[str, Body]] = {
    "unknown session": (
        "unknown-session",
        lambda s, p: {"person": p, **s.campaign.wishes(AMPLE), "dose2": {"session": 999_999, "slot": 0}},
    ),
    "unknown slot": ("unknown-slot", lambda s, p: {"person": p, **s.campaign.wishes(AMPLE, slot=8)}),
    "past slot": ("slot-past", lambda s, p: {"person": p, **s.campaign.wishes(AMPLE, days=(0, 30))}),
    "interval too short": ("interval", lambda s, p: {"person": p, **s.campaign.wishes(AMPLE, days=(1, 3))}),
    "same day": ("doses-out-of-order", lambda s, p: {"person": p, **s.campaign.wishes(AMPLE, days=(1, 1))}),
    "doses swapped": (
        "doses-out-of-order",
        lambda s, p: {"person": p, **s.campaign.wishes(AMPLE, days=(31, 1))},
    ),
    "two locations": (
        "two-locations",
        lambda s, p: {"person": p, **s.campaign.wishes(AMPLE), "dose2": s.campaign.wishes(SMALL)["dose2"]},
    ),
    "forged person": ("unknown-person", lambda s, p: {"person": p[:-1] + "~", **s.campaign.wishes(AMPLE)}),
    "another kind of reference": (
        "unknown-person",
        lambda s, p: {"person": p.replace("per_", "bkg_"), **s.campaign.wishes(AMPLE)},
    ),
}


@pytest.mark.parametrize("case", WISHES)
def test_impossible_wishes(service: Service, case: str) -> None:
    name, body = WISHES[case]
    person = service.register()
    check(service.write("POST", "/v1/bookings", body(service, person)), 422, name)
    assert service.book(person, service.campaign.wishes(AMPLE, slot=1)).status_code == 201


MALFORMED: dict[str, bytes] = {
    "not json": b"{",
    "empty": b"",
    "not utf-8": b'{"family_name": "\xff\xfe"}',
    "lone surrogate": b'{"family_name":"\\ud800x","given_names":"Ana","birth_date":"1950-01-31"}',
    "an array": b"[]",
    "null": b"null",
    "deep": b"[" * 5000,
    "unknown field": b'{"family_name":"A","given_names":"A","birth_date":"1950-01-31","Zyxwvutsrq":1}',
    "number as text": b'{"family_name":5,"given_names":"Ana","birth_date":"1950-01-31"}',
    "no such date": b'{"family_name":"Zyxwvutsrq","given_names":"Ana","birth_date":"1950-02-31"}',
    "missing field": b'{"family_name":"Zyxwvutsrq"}',
    "too long": b'{"family_name":"'
    + SECRET.encode() * 20
    + b'","given_names":"A","birth_date":"1950-01-31"}',
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_bodies(service: Service, case: str) -> None:
    headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json"}
    answer = service.http.post("/v1/persons", content=MALFORMED[case], headers=headers)
    check(answer, 400, "malformed")


@pytest.mark.parametrize(
    "slot",
    [
        {"session": "1", "slot": 0},
        {"session": 1.5, "slot": 0},
        {"session": -1, "slot": 0},
        {"session": 2**40, "slot": 0},
        {"session": 1, "slot": -1},
        {"session": 1, "slot": True},
        {"session": 1, "slot": None},
        {"session": 1},
        {"session": 1, "slot": 0, "seat": 4},
    ],
)
def test_slots_are_read_strictly(service: Service, slot: dict[str, Any]) -> None:
    body = {"person": service.register(), **service.campaign.wishes(AMPLE), "dose1": slot}
    check(service.write("POST", "/v1/bookings", body), 400, "malformed")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("key", [None, "", "short", "a" * 65, "with space", "tab\there", "é" * 8])
def test_every_write_needs_a_key(service: Service, key: str | None) -> None:
    headers = httpx.Headers({} if key is None else {"Idempotency-Key": key}, encoding="latin-1")
    check(service.http.post("/v1/persons", json=PERSON, headers=headers), 400, "idempotency-key")
    check(service.http.delete("/v1/bookings/bkg_x", headers=headers), 400, "idempotency-key")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "json"])
def test_another_content_type(service: Service, content_type: str | None) -> None:
    headers = {"Idempotency-Key": str(uuid.uuid4())} | (
        {"Content-Type": content_type} if content_type else {}
    )
    check(service.http.post("/v1/persons", content=b"{}", headers=headers), 415, "media-type")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_of_a_megabyte(service: Service, streamed: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1024):
            yield b" " * 1024

    headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json"}
    content = pieces() if streamed else b" " * 2**20
    check(service.http.post("/v1/persons", content=content, headers=headers), 413, "too-large")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("change", "status", "name"),
    [
        ({"family_name": "--- '"}, 422, "nameless"),
        ({"given_names": "!"}, 422, "nameless"),
        ({"birth_date": "1899-12-31"}, 422, "birth-date"),
        ({"birth_date": "2999-01-01"}, 422, "birth-date"),
        ({"email": "nobody"}, 400, "malformed"),
        ({"phone": "call me"}, 400, "malformed"),
    ],
)
def test_impossible_people(service: Service, change: dict[str, str], status: int, name: str) -> None:
    check(service.write("POST", "/v1/persons", {**PERSON, **change}), status, name)


def test_a_key_reused_for_another_person(service: Service) -> None:
    key = str(uuid.uuid4())
    first = service.write("POST", "/v1/persons", PERSON, key)
    assert first.status_code == 201
    assert service.write("POST", "/v1/persons", PERSON, key).content == first.content
    check(service.write("POST", "/v1/persons", {**PERSON, "given_names": "Eva"}, key), 422, "key-reused")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("reference", ["bkg_", "bkg_0", "bkg_" + "0" * 53, "per_x", "%00", "x" * 500, "é"])
def test_unknown_and_forged_bookings(service: Service, method: str, reference: str) -> None:
    check(service.write(method, f"/v1/bookings/{reference}"), 404, "not-found")


def test_a_forged_operation(service: Service) -> None:
    check(service.http.get("/v1/operations/opr_0"), 404, "not-found")


@pytest.mark.parametrize(
    ("query", "status", "name"),
    [
        ("", 400, "malformed"),
        ("lat=48.8", 400, "malformed"),
        ("lat=nan&lon=2", 400, "malformed"),
        ("lat=91&lon=2", 400, "malformed"),
        ("lat=x&lon=2", 400, "malformed"),
        ("postcode=7501", 400, "malformed"),
        ("postcode=00000", 422, "unknown-postcode"),
        ("postcode=75011&limit=0", 400, "malformed"),
        ("postcode=75011&limit=1000", 400, "malformed"),
        ("postcode=75011&radius_km=-1", 400, "malformed"),
        ("postcode=75011&radius_km=inf", 400, "malformed"),
        ("postcode=75011&vaccine=sputnik", 422, "unknown-vaccine"),
    ],
)
def test_searches(service: Service, query: str, status: int, name: str) -> None:
    check(service.http.get(f"/v1/availability?{query}"), status, name)


def test_unknown_address_and_wrong_method(service: Service) -> None:
    check(service.http.get("/v1/nothing"), 404, "not-found")
    wrong = service.http.put("/v1/bookings", json={})
    check(wrong, 405, "method-not-allowed")
    assert "POST" in wrong.headers["allow"]


def test_no_answer_was_a_500(service: Service) -> None:
    lines = service.http.get("/metrics").text.splitlines()
    assert [
        line for line in lines if line.startswith("dosebook_http_requests_total") and 'status="500"' in line
    ] == []
