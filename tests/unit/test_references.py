"""Sealed references: one spelling each, and nothing but our own decodes."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import app
from engine.privacy.references import BookingRef, OperationRef, PersonRef, References

OURS = References(b"k" * 32)
PERSON = bytes(range(16))
BOOKING = BookingRef(PERSON, 1, 7, 1575)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_they_come_back(person: bytes, kind: int, number: int) -> None:
    booking = BookingRef(person, kind, number, number)
    operation = OperationRef(person, kind, person, number * 1000)
    assert OURS.person(OURS.of_person(PersonRef(person))) == PersonRef(person)
    assert OURS.booking(OURS.of_booking(booking)) == booking
    assert OURS.operation(OURS.of_operation(operation)) == operation


def test_they_are_fit_for_a_url() -> None:
    for text in (OURS.of_person(PersonRef(PERSON)), OURS.of_booking(BOOKING)):
        assert set(text) <= set(string.ascii_lowercase + string.digits + "_")


def test_every_changed_character_is_found() -> None:
    text = OURS.of_booking(BOOKING)
    for at, character in enumerate(text):
        for other in "0va_V=\u0660 ":
            if other != character:
                assert OURS.booking(text[:at] + other + text[at + 1 :]) is None


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t[:-1], lambda t: t + "0", lambda t: " " + t, lambda _: ""]
)
def test_another_spelling_is_none_of_ours(change: object) -> None:
    assert OURS.booking(change(OURS.of_booking(BOOKING))) is None  # type: ignore[operator]


@given(st.text(max_size=60))
def test_noise_is_none_of_ours(noise: str) -> None:
    assert OURS.booking("bkg_" + noise) is None
    assert OURS.person(noise) is None


def test_kinds_and_keys_are_apart() -> None:
    text = OURS.of_booking(BOOKING)
    assert OURS.person(text.replace("bkg_", "per_")) is None
    assert OURS.operation(text) is None
    assert References(b"o" * 32).booking(text) is None


def test_the_no_op_of_the_benchmark_answers_with_as_many_bytes() -> None:
    reference = References(bytes(32)).of_booking(BookingRef(bytes(16), 1, 1, 1, 0, 0))
    assert len(app.REFERENCE) == len(reference)
