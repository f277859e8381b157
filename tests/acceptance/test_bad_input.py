"""Bad input gets a clear 4xx as problem+json, echoes nothing, and changes nothing."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.campaign import AMPLE, Service

SECRET = "Zyxwvutsrq"
PERSON = {"family_name": SECRET, "given_names": "Ana", "birth_date": "1950-01-31"}
Body = Callable[[Service, str], dict[str, Any]]
GIVEN = {"vaccine": "pfizer", "day": "2021-06-01"}
TOMORROW = {"vaccine": "pfizer", "day": "2999-01-01"}
UNKNOWN = {"vaccine": SECRET, "day": "2021-06-01"}
NEAR = {"postcode": "75011"}


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
    "no dose": ("doses", lambda s, p: {"person": p}),
    "a booster with dose 2": (
        "doses",
        lambda s, p: {"person": p, **s.campaign.wishes(AMPLE), "kind": "booster", "given": GIVEN},
    ),
    "dose 1 after a given dose": (
        "given-already",
        lambda s, p: {"person": p, **s.campaign.wishes(AMPLE), "given": GIVEN},
    ),
    "given tomorrow": (
        "given-in-future",
        lambda s, p: {"person": p, "dose2": s.campaign.wishes(AMPLE)["dose2"], "given": TOMORROW},
    ),
    "given of an unknown vaccine": (
        "unknown-vaccine",
        lambda s, p: {"person": p, "dose2": s.campaign.wishes(AMPLE)["dose2"], "given": UNKNOWN},
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
    booked = service.book(person, service.campaign.wishes(AMPLE, slot=1))
    assert booked.status_code == 201
    service.write("DELETE", booked.headers["location"])


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


# Every new write: a body that is read, and what in it is not. ``P`` stands for a person, ``B`` for a booking.
NEW_WRITES: dict[str, dict[str, Any]] = {
    "/v1/bookings": {"person": "P", "hold": False},
    "/v1/bookings/B/moves": {"dose2": {"session": 1, "slot": 0}},
    "/v1/households": {"members": [{"person": "P"}]},
    "/v1/households/confirmation": {"bookings": ["B"]},
    "/v1/households/extension": {"bookings": ["B"]},
    "/v1/wishes": {"people": [{"person": "P"}], "near": NEAR},
    "/v1/plans": {"people": [{"person": "P"}], "near": NEAR},
    "/v1/waitlist": {"people": [{"person": "P"}], "near": NEAR},
    "/v1/helpline/persons": {"who": PERSON, "agent": "desk-7", "reason": "a reason that is long enough"},
}
CHANGED: dict[str, dict[str, list[Any]]] = {
    "/v1/bookings": {
        "hold": ["yes", 1],
        "kind": ["third", 1],
        "given": [{}, {"vaccine": "pfizer"}, {"vaccine": "pfizer", "day": SECRET}],
    },
    "/v1/bookings/B/moves": {
        "dose2": [[], {"session": "1", "slot": 0}],
        "dose3": [{"session": 1, "slot": 0}],
    },
    "/v1/households": {"members": [[], [{}], [{"person": "P"}] * 9, "P"]},
    "/v1/households/confirmation": {"bookings": [[], ["B"] * 9, [1], [SECRET * 30]]},
    "/v1/households/extension": {"bookings": [[], ["B"] * 9, [1], [SECRET * 30]]},
    "/v1/wishes": {
        "people": [[], [{"person": "P"}] * 9],
        "near": [{"postcode": SECRET}, {"lat": 91, "lon": 2}, {"radius_km": 0, **NEAR}, {"lat": 48.8}],
        "order": [SECRET],
        "dose1": [
            {"after": "25:00"},
            {"after": SECRET},
            {"weekdays": []},
            {"weekdays": [8]},
            {"from": SECRET},
        ],
        "same_time_minutes": [-1, "0"],
    },
    "/v1/plans": {"people": [[]], "near": [{}], "vaccines": [[]], "elsewhere": ["true"]},
    "/v1/waitlist": {"people": [[], [{"person": "P"}] * 9], "near": [{}], "weekdays": [[0]], "alert": [1]},
    "/v1/helpline/persons": {"agent": ["", "a b", SECRET * 10], "reason": ["short"], "who": [{}, None]},
}
CASES = [
    (path, field, value)
    for path, fields in CHANGED.items()
    for field, values in {**fields, SECRET: [1]}.items()
    for value in values
]


@pytest.fixture
def booked(service: Service) -> Iterator[tuple[str, str]]:
    """A person and their booking, which stays as it is."""
    person = service.register()
    answer = service.book(person, service.campaign.wishes(AMPLE, slot=0, days=(2, 30)))
    reference = str(answer.json()["booking"])
    yield person, reference
    assert service.http.get(f"/v1/bookings/{reference}").json() == answer.json()
    assert service.write("DELETE", f"/v1/bookings/{reference}").status_code == 200


def filled(part: Any, person: str, booking: str) -> Any:
    """A body or an address with the references in it."""
    if isinstance(part, dict):
        return {name: filled(value, person, booking) for name, value in part.items()}
    if isinstance(part, list):
        return [filled(value, person, booking) for value in part]
    return {"P": person, "B": booking}.get(part, part) if isinstance(part, str) else part


def test_new_writes_are_read_strictly(service: Service, booked: tuple[str, str]) -> None:
    """Wrong types, unknown fields, too many of anything: nothing is done, nothing is quoted."""
    before = service.rows(COUNTS)
    for path, field, value in CASES:
        address = path.replace("/B/", f"/{booked[1]}/")
        body = filled({**NEW_WRITES[path], field: value}, *booked)
        check(service.write("POST", address, body), 400, "malformed")
    for path, body in NEW_WRITES.items():
        address = path.replace("/B/", f"/{booked[1]}/")
        if path != "/v1/plans":
            check(service.http.post(address, json=filled(body, *booked)), 400, "idempotency-key")
        headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json"}
        large = service.http.post(address, content=b" " * 2**20, headers=headers)
        check(large, 413, "too-large")
    assert service.rows(COUNTS) == before


COUNTS = """
select (select count(*) from person) as people, (select count(*) from waitlist_entry) as entries,
    (select count(*) from homonym) as homonyms
"""


def test_foreign_references_are_not_there(service: Service, booked: tuple[str, str]) -> None:
    """Forged, of another kind, or of another deployment."""
    person, booking = booked
    slot = service.campaign.wishes(AMPLE)["dose2"]
    before = service.rows(COUNTS)
    for wrong in (f"bkg_{SECRET}", person, booking[:-1] + "~", booking.replace("bkg_", "opr_")):
        for method, path, body in (
            ("POST", f"/v1/bookings/{wrong}/moves", {"dose2": slot}),
            ("POST", f"/v1/bookings/{wrong}/confirmation", None),
            ("POST", f"/v1/bookings/{wrong}/extension", None),
            ("DELETE", f"/v1/bookings/{wrong}/doses/2", None),
            ("POST", "/v1/households/confirmation", {"bookings": [wrong]}),
            ("POST", "/v1/households/extension", {"bookings": [wrong]}),
            ("DELETE", f"/v1/waitlist/{wrong}", None),
            ("DELETE", f"/v1/offers/{wrong}", None),
            ("POST", f"/v1/offers/{wrong}/acceptance", None),
        ):
            check(service.write(method, path, body), 404, "not-found")
        check(service.http.get(f"/v1/waitlist/{wrong}"), 404, "not-found")
    for wrong in (f"per_{SECRET}", booking, person[:-1] + "~"):
        for path, body in (
            ("/v1/households", {"members": [{"person": wrong}]}),
            ("/v1/wishes", {"people": [{"person": wrong}], "near": NEAR}),
            ("/v1/plans", {"people": [{"person": wrong}], "near": NEAR}),
            ("/v1/waitlist", {"people": [{"person": wrong}], "near": NEAR}),
        ):
            check(service.write("POST", path, body), 422, "unknown-person")
    assert service.rows(COUNTS) == before


def test_impossible_changes(service: Service, booked: tuple[str, str]) -> None:
    """Doses and slots that are not there or past, nothing to move, bookings that are no hold."""
    at, wishes = f"/v1/bookings/{booked[1]}", service.campaign.wishes
    for method, path, body, status, name in (
        ("DELETE", f"{at}/doses/3", None, 422, "no-such-dose"),
        ("DELETE", f"{at}/doses/0", None, 422, "no-such-dose"),
        ("DELETE", f"{at}/doses/{SECRET}", None, 404, "not-found"),
        ("POST", f"{at}/moves", {}, 422, "no-such-dose"),
        ("POST", f"{at}/moves", {"dose2": {"session": 999_999, "slot": 0}}, 422, "unknown-session"),
        ("POST", f"{at}/moves", {"dose2": wishes(AMPLE, slot=8)["dose2"]}, 422, "unknown-slot"),
        ("POST", f"{at}/moves", {"dose1": wishes(AMPLE, days=(0, 31))["dose1"]}, 422, "slot-past"),
        ("POST", f"{at}/moves", {"dose2": wishes(AMPLE, days=(1, 1))["dose2"]}, 422, "doses-out-of-order"),
        ("POST", f"{at}/extension", None, 409, "hold-over"),
        ("POST", "/v1/households/confirmation", {"bookings": [booked[1]] * 2}, 422, "household-twice"),
    ):
        check(service.write(method, path, body), status, name)


def test_impossible_wishes_for_many(service: Service, booked: tuple[str, str]) -> None:
    one, near = {"person": booked[0]}, {"near": NEAR}
    wait: dict[str, Any] = {"people": [{"person": service.register()}], **near}
    for path, body, status, name in (
        ("/v1/households", {"members": [one]}, 422, "doses"),
        ("/v1/wishes", {"people": [one, one], **near}, 422, "household-twice"),
        ("/v1/wishes", {"people": [one], **near, "vaccines": [SECRET]}, 422, "unknown-vaccine"),
        ("/v1/wishes", {"people": [one], "near": {"postcode": "00000"}}, 422, "unknown-postcode"),
        ("/v1/plans", {"people": [one], **near, "vaccines": [SECRET]}, 422, "unknown-vaccine"),
        ("/v1/waitlist", {**wait, "vaccines": [SECRET]}, 422, "unknown-vaccine"),
        ("/v1/waitlist", {**wait, "people": wait["people"] * 2}, 422, "household-twice"),
        ("/v1/waitlist", {**wait, "from": "2021-01-01", "to": "2021-01-02"}, 422, "waitlist-days"),
        ("/v1/waitlist", {**wait, "from": "2999-01-01"}, 422, "waitlist-days"),
        ("/v1/waitlist", {**wait, "near": {**NEAR, "radius_km": 500}}, 422, "waitlist-area"),
        ("/v1/waitlist", {**wait, "from": "9999-12-31"}, 422, "waitlist-days"),
        ("/v1/persons", {**PERSON, "groups": [SECRET]}, 422, "unknown-group"),
    ):
        check(service.write("POST", path, body), status, name)


@pytest.mark.parametrize("kind", ["primary", "booster"])
def test_impossible_days_of_a_last_dose(service: Service, kind: str) -> None:
    """A day that no calendar arithmetic survives is refused before there is any."""
    person = service.register()
    dose = "dose1" if kind == "booster" else "dose2"
    for vaccine, day, name in (
        ("pfizer", "0001-01-01", "given-impossible"),
        ("pfizer", "9999-12-31", "given-in-future"),
        (SECRET, "2021-06-01", "unknown-vaccine"),
    ):
        people = [{"person": person, "given": {"vaccine": vaccine, "day": day}}]
        slot = {dose: service.campaign.wishes(AMPLE)[dose]}
        check(service.write("POST", "/v1/bookings", {**people[0], **slot, "kind": kind}), 422, name)
        check(
            service.write("POST", "/v1/households", {"members": [{**people[0], **slot}], "kind": kind}),
            422,
            name,
        )
        check(
            service.write("POST", "/v1/waitlist", {"people": people, "near": NEAR, "kind": kind}), 422, name
        )
        wish = service.write("POST", "/v1/wishes", {"people": people, "near": NEAR, "kind": kind})
        check(wish, *((422, name) if vaccine == "pfizer" or kind == "booster" else (409, "nothing-free")))


@pytest.mark.parametrize("edge", ["0001-01-01", "9999-12-31"])
def test_days_at_the_edge_of_the_calendar(service: Service, edge: str) -> None:
    people = [{"person": service.register()}]
    for when in ({"from": edge}, {"to": edge}, {"from": edge, "to": edge}):
        for dose in ("dose1", "dose2"):
            answer = service.write("POST", "/v1/plans", {"people": people, "near": NEAR, dose: when})
            assert answer.status_code == 200
        answer = service.write("POST", "/v1/waitlist", {"people": people, "near": NEAR, **when})
        assert answer.status_code in (201, 422)
        if answer.status_code == 201:
            service.write("DELETE", answer.headers["location"])


def test_a_reference_with_a_character_more(service: Service) -> None:
    for path, body, status, name in (
        ("/v1/bookings", {"person": service.register() + "0"}, 422, "unknown-person"),
    ):
        check(service.write("POST", path, body), status, name)


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
