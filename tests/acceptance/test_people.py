"""Households, people who share a name, and whose turn it is."""

import uuid
from datetime import date, timedelta
from typing import Any

from tests.acceptance.rows import count_live, person_key_of, wait_for_state
from tests.acceptance.texts import kind_of
from tests.campaign import AMPLE, FAR, SMALL, Service
from tests.servers.processes import wait_until

NAMESAKE = {"given_names": "Ana", "birth_date": "1950-01-31"}


def household(service: Service, people: int, **more: Any) -> dict[str, Any]:
    """So many people in the first three slots of a day that has nine seats there."""
    members = [
        {"person": service.register(), **service.campaign.wishes(FAR, number % 3, days=(2, 32))}
        for number in range(people)
    ]
    return {"members": members, **more}


def test_a_household_is_booked_whole_or_not_at_all(service: Service) -> None:
    """Eight people, seats for seven: nobody is booked. Then seven are, in one step."""
    others = service.write("POST", "/v1/households", household(service, 2))
    assert others.status_code == 201
    wished = household(service, 8)
    # The two others have the slots 0 and 1: two seats are left in each, three in the last. One too many.
    wished["members"][7].update(service.campaign.wishes(FAR, 2, days=(2, 32)))
    wished["members"][6].update(service.campaign.wishes(FAR, 2, days=(2, 32)))
    refused = service.write("POST", "/v1/households", wished)
    problem = refused.json()
    assert (refused.status_code, kind_of(refused)) == (409, "slot-full")
    assert "member" in problem
    keys = [person_key_of(service, one["person"]) for one in wished["members"]]

    seven = {"members": [one for number, one in enumerate(wished["members"]) if number != 7]}
    key = str(uuid.uuid4())
    booked = service.write("POST", "/v1/households", seven, key)
    assert booked.status_code == 201, booked.text
    assert len(booked.json()["bookings"]) == 7
    assert service.write("POST", "/v1/households", seven, key).content == booked.content
    for one in booked.json()["bookings"]:
        wait_for_state(service, one)
    wait_until(lambda: count_live(service, *keys) == 14, "seven have both doses")
    for one in (*others.json()["bookings"], *booked.json()["bookings"]):
        assert service.write("DELETE", f"/v1/bookings/{one['booking']}").status_code == 200


def test_a_household_holds_prolongs_and_confirms_together(service: Service) -> None:
    held = service.write("POST", "/v1/households", household(service, 3, hold=True))
    assert [one["status"] for one in held.json()["bookings"]] == ["held"] * 3
    bookings = {"bookings": [one["booking"] for one in held.json()["bookings"]]}
    assert service.write("POST", "/v1/households/extension", bookings).status_code == 200
    confirmed = service.write("POST", "/v1/households/confirmation", bookings)
    assert confirmed.status_code == 200
    assert [one["status"] for one in confirmed.json()["bookings"]] == ["booked"] * 3
    for one in confirmed.json()["bookings"]:
        wait_for_state(service, one)
        assert service.write("DELETE", f"/v1/bookings/{one['booking']}").status_code == 200
    gone = service.write("POST", "/v1/households/confirmation", bookings)
    assert (gone.status_code, kind_of(gone)) == (409, "hold-over")


def test_what_does_not_go_together_is_refused_and_says_whose(service: Service) -> None:
    wished = household(service, 2)
    wished["members"][1].update(service.campaign.wishes(SMALL, 0, days=(2, 32)))
    refused = service.write("POST", "/v1/households", wished)
    assert (kind_of(refused), refused.json()["member"]) == ("two-locations", 1)
    far_apart = household(service, 2)
    far_apart["members"][1].update(service.campaign.wishes(FAR, 7, days=(2, 32)))
    refused = service.write("POST", "/v1/households", far_apart)
    assert (kind_of(refused), refused.json()["member"]) == ("not-neighbouring", 1)
    twice = household(service, 2)
    twice["members"][1]["person"] = twice["members"][0]["person"]
    assert kind_of(service.write("POST", "/v1/households", twice)) == "household-twice"


def test_a_refusal_names_the_rule_and_the_day(service: Service) -> None:
    """Somebody who will be twelve, and a booster three months after the last dose."""
    birthday = service.campaign.today + timedelta(days=200)
    child = service.register(birth_date=_years_before(birthday, 12).isoformat())
    refused = service.book(child, service.campaign.wishes(AMPLE, 0))
    problem = refused.json()
    assert (refused.status_code, kind_of(refused)) == (422, "vaccine-not-admitted")
    assert problem["rule"] == "pfizer-12"
    assert (problem["basis"], problem["from_day"]) == ("dose", birthday.isoformat())
    assert birthday.isoformat() in problem["detail"]

    last = service.campaign.today - timedelta(days=30)
    booster = {"dose1": service.campaign.wishes(AMPLE, 0)["dose1"], "kind": "booster"}
    refused = service.book(
        service.register(), {**booster, "given": {"vaccine": "pfizer", "day": last.isoformat()}}
    )
    problem = refused.json()
    assert (refused.status_code, kind_of(refused)) == (422, "booster-not-due")
    assert problem["rule"] == "booster-3-months"
    assert problem["from_day"] == (last + timedelta(days=90)).isoformat()


def test_the_helpline_tells_namesakes_apart(service: Service) -> None:
    """With its key only, with what tells them apart, and logged."""
    name = "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)
    first = service.register(name)
    assert service.book(first, service.campaign.wishes(AMPLE, 0, days=(3, 33))).status_code == 201
    body = {
        "who": {"family_name": name, **NAMESAKE, "disambiguator": "born in Brest"},
        "agent": "desk-7",
        "reason": "two papers were shown, born in Brest and in Nice",
    }
    refused = service.write("POST", "/v1/helpline/persons", body)
    assert (refused.status_code, kind_of(refused)) == (401, "helpline-only")
    assert refused.headers["www-authenticate"] == "Bearer"
    key = (service.settings.secrets_dir / "helpline-key").read_bytes().hex()
    headers = {"Idempotency-Key": str(uuid.uuid4()), "Authorization": f"Bearer {key}"}
    unclear = {**body, "who": {**body["who"], "disambiguator": " "}}  # type: ignore[dict-item]
    assert (
        kind_of(service.http.post("/v1/helpline/persons", json=unclear, headers=headers)) == "disambiguator"
    )
    answers = [service.http.post("/v1/helpline/persons", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    second = answers[0].json()["person"]
    assert second != first
    rows = service.rows("select agent, person_key from homonym where agent = 'desk-7' order by at")
    assert [(row["agent"], row["person_key"].bytes) for row in rows] == [
        ("desk-7", person_key_of(service, second))
    ]
    assert service.book(second, service.campaign.wishes(AMPLE, 0, days=(3, 33))).status_code == 201


def test_a_relative_who_registers_again_learns_nothing(service: Service) -> None:
    """The same reference, and of the booking only that there is one."""
    name = "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)
    booked = service.book(service.register(name), service.campaign.wishes(AMPLE, 1, days=(3, 33)))
    relative = service.register(name.upper(), email="b@example.org", phone="+33 6 00 00 00 00")
    refused = service.book(relative, service.campaign.wishes(FAR, 6))
    problem = refused.json()
    assert (refused.status_code, kind_of(refused)) == (409, "already-booked")
    assert set(problem) <= {"type", "title", "status", "detail", "alternatives"}
    assert not problem.get("alternatives")
    for told in (booked.json()["booking"], "Ample", "starts_at", "75011"):
        assert told not in refused.text


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return date(day.year - years, 3, 1)
