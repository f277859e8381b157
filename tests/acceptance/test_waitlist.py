"""Waiting where nothing is free: the line, the offer, and whose the freed seats are."""

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.acceptance.rows import booking_ref, wait_for_state
from tests.acceptance.texts import kind_of
from tests.campaign import LONE, LONE_SLOTS, Service
from tests.servers.processes import wait_until

LYON = {"lat": 45.769, "lon": 4.829, "radius_km": 5}


class Crowd:
    """A location whose seats are all booked, and people who wait for them."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.holders = [service.register() for _ in range(LONE_SLOTS)]
        self.bookings = [
            str(self._booked(holder, slot)["booking"]) for slot, holder in enumerate(self.holders)
        ]
        self.entries: list[str] = []

    def _booked(self, person: str, slot: int) -> dict[str, Any]:
        answers = [self.service.book(person, self.service.campaign.wishes(LONE, slot))]
        wait_until(lambda: self._is_booked(answers, person, slot), "the location is fully booked")
        body: dict[str, Any] = answers[-1].json()
        return body

    def _is_booked(self, answers: list[Any], person: str, slot: int) -> bool:
        """What an earlier test gave back may have been on its way."""
        if answers[-1].status_code == 201:
            return True
        answers.append(self.service.book(person, self.service.campaign.wishes(LONE, slot)))
        return False

    def join(self, *people: str, key: str = "", **more: Any) -> str:
        """The reference of a new entry."""
        persons = [{"person": person} for person in people or (self.service.register(),)]
        answer = self.service.write("POST", "/v1/waitlist", {"people": persons, "near": LYON, **more}, key)
        assert answer.status_code == 201, answer.text
        reference = str(answer.json()["entry"])
        assert answer.headers["location"] == f"/v1/waitlist/{reference}"
        self.entries.append(reference)
        return reference

    def entry(self, reference: str) -> dict[str, Any]:
        """How it stands."""
        found: dict[str, Any] = self.service.http.get(f"/v1/waitlist/{reference}").json()
        return found

    def cancel(self, number: int) -> None:
        """A seat is given back, for each dose."""
        assert self.service.write("DELETE", f"/v1/bookings/{self.bookings.pop(number)}").status_code == 200

    def offered(self, reference: str) -> str:
        """The reference of an entry's offer, once it has one."""
        wait_until(lambda: self.entry(reference)["status"] == "offered", "the entry has an offer")
        return str(self.entry(reference)["offer"]["offer"])

    def accept(self, offer: str) -> Any:
        """The answer to an acceptance; what it books is given back after the test."""
        answer = self.service.write("POST", f"/v1/offers/{offer}/acceptance")
        if answer.status_code == 201:
            self.bookings += [one["booking"] for one in answer.json()["bookings"]]
        return answer

    def close(self) -> None:
        """Everybody leaves, everything is given back."""
        for entry in self.entries:
            self.service.write("DELETE", f"/v1/waitlist/{entry}")
        for booking in set(self.bookings):
            assert self.service.write("DELETE", f"/v1/bookings/{booking}").status_code == 200


@pytest.fixture
def crowd(service: Service) -> Iterator[Crowd]:
    """Nothing is free, and nobody waits yet."""
    crowd = Crowd(service)
    yield crowd
    crowd.close()


def test_join_offer_accept(crowd: Crowd) -> None:
    """The first in line books, down to the row; who was second is first then."""
    key = str(uuid.uuid4())
    person = crowd.service.register()
    first, second = crowd.join(person, key=key), crowd.join()
    assert crowd.join(person, key=key) == first
    assert crowd.entry(first) == {
        "status": "waiting",
        "alert": False,
        "place": {"before": 0, "or_more": False},
        "offer": None,
    }
    assert crowd.entry(second)["place"] == {"before": 1, "or_more": False}

    crowd.cancel(0)
    offer = crowd.offered(first)
    told = crowd.entry(first)["offer"]
    assert datetime.fromisoformat(told["until"]).tzinfo is not None
    (plan,) = told["plans"]
    assert plan["location"]["id"] == LONE
    assert [dose["dose"] for dose in plan["doses"]] == [1, 2]
    # What is offered is nobody else's.
    wishes = {f"dose{d['dose']}": {"session": d["session"], "slot": d["slot"]} for d in plan["doses"]}
    assert kind_of(crowd.service.book(crowd.service.register(), wishes)) == "slot-full"

    accepted = crowd.accept(offer)
    assert accepted.status_code == 201, accepted.text
    (booked,) = accepted.json()["bookings"]
    assert [{"session": a["session"], "slot": a["slot"]} for a in booked["appointments"]] == [
        wishes["dose1"],
        wishes["dose2"],
    ]
    wait_for_state(crowd.service, booked)
    assert crowd.entry(first)["status"] == "booked"
    assert crowd.accept(offer).json() == accepted.json()
    wait_until(lambda: crowd.entry(second)["status"] == "waiting", "the second waits on")
    assert crowd.entry(second)["place"] == {"before": 0, "or_more": False}


def test_of_two_who_accept_the_quicker_is_booked(crowd: Crowd) -> None:
    """Few accept, so several are offered the same seats; who is second is told so, and keeps the place."""
    first, second = crowd.join(), crowd.join()
    crowd.cancel(0)
    offers = [crowd.offered(entry) for entry in (first, second)]
    assert crowd.accept(offers[1]).status_code == 201
    late = crowd.accept(offers[0])
    assert (late.status_code, kind_of(late)) == (409, "offer-gone")
    assert "place in line is kept" in late.json()["detail"]
    assert crowd.entry(first)["status"] == "waiting"
    assert crowd.entry(first)["place"] == {"before": 0, "or_more": False}


def test_who_refuses_lets_the_next_have_it(crowd: Crowd) -> None:
    first, second = crowd.join(), crowd.join()
    crowd.cancel(0)
    offer = crowd.offered(first)
    refused = crowd.service.write("DELETE", f"/v1/offers/{offer}")
    assert refused.status_code == 200
    assert refused.json()["status"] == "waiting"
    assert kind_of(crowd.accept(offer)) == "offer-gone"
    next_offer = crowd.offered(second)
    accepted = crowd.accept(next_offer)
    assert accepted.status_code == 201
    wait_for_state(crowd.service, accepted.json()["bookings"][0])
    assert crowd.entry(first)["place"] == {"before": 0, "or_more": False}


def test_who_cancels_never_gets_the_place_back(crowd: Crowd) -> None:
    """pretix: whoever gave a ticket back and joined the waitlist was sent the voucher for it.

    The one who cancelled is first in line, and the place goes to the second.
    """
    holder = crowd.holders[0]
    ref = booking_ref(crowd.service, crowd.bookings[0])
    crowd.cancel(0)
    again = crowd.join(holder)
    other = crowd.join()
    offer = crowd.offered(other)
    assert crowd.entry(again)["offer"] is None
    assert crowd.entry(again)["status"] == "waiting"
    accepted = crowd.accept(offer)
    assert accepted.status_code == 201
    assert booking_ref(crowd.service, accepted.json()["bookings"][0]["booking"]).person != ref.person


def test_who_leaves_is_offered_nothing(crowd: Crowd) -> None:
    first, second = crowd.join(), crowd.join()
    left = crowd.service.write("DELETE", f"/v1/waitlist/{first}")
    assert (left.status_code, left.json()["status"]) == (200, "left")
    crowd.cancel(0)
    crowd.offered(second)
    assert crowd.entry(first) == {"status": "left", "alert": False, "place": None, "offer": None}
    # Leaving with an offer withdraws it, and the seats are everybody's.
    gone = crowd.service.write("DELETE", f"/v1/waitlist/{second}")
    assert gone.json()["status"] == "left"
    wishes = crowd.service.campaign.wishes(LONE, 0)
    answers: list[Any] = []
    person = crowd.service.register()

    def is_booked() -> bool:
        answers.append(crowd.service.book(person, wishes))
        return bool(answers[-1].status_code == 201)

    wait_until(is_booked, "the withdrawn seats can be booked")
    crowd.bookings.append(answers[-1].json()["booking"])


def test_a_family_waits_together(crowd: Crowd) -> None:
    family = [crowd.service.register() for _ in range(2)]
    entry = crowd.join(*family)
    alone = crowd.join()
    crowd.cancel(1)
    crowd.offered(alone)
    assert crowd.entry(entry)["status"] == "waiting"
    crowd.service.write("DELETE", f"/v1/waitlist/{alone}")
    crowd.cancel(0)
    offer = crowd.offered(entry)
    accepted = crowd.accept(offer)
    assert accepted.status_code == 201
    assert len(accepted.json()["bookings"]) == 2
    for one in accepted.json()["bookings"]:
        wait_for_state(crowd.service, one)


def test_an_alert_is_told_and_offers_nothing(crowd: Crowd) -> None:
    """Also of somebody who is booked: an alert holds no seat."""
    entry = crowd.join(crowd.holders[1], alert=True)
    assert crowd.entry(entry) == {"status": "waiting", "alert": True, "place": None, "offer": None}
    crowd.cancel(0)
    wait_until(
        lambda: bool(crowd.service.rows("select from alert_told where location = $1", LONE)),
        "the alert is told of the location",
    )
    shown = crowd.entry(entry)
    assert shown["offer"] is None
    assert [one["location"]["id"] for one in shown["told"]] == [LONE]


def test_who_is_not_admitted_does_not_wait(crowd: Crowd) -> None:
    """The refusal comes when somebody joins, with rule and day, not when a seat is there."""
    child = crowd.service.register(birth_date=crowd.service.campaign.today.isoformat())
    body = {"people": [{"person": child}], "near": LYON, "vaccines": ["pfizer"]}
    refused = crowd.service.write("POST", "/v1/waitlist", body)
    assert refused.status_code == 422
    assert kind_of(refused) == "vaccine-not-admitted"
    assert refused.json()["rule"] == "pfizer-12"
    nowhere = {"people": [{"person": crowd.service.register()}], "near": {"lat": 43.0, "lon": -2.0}}
    assert kind_of(crowd.service.write("POST", "/v1/waitlist", nowhere)) == "waitlist-area"
