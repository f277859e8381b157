"""The person key: what makes two spellings one person, and what keeps two people apart."""

import multiprocessing
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.privacy.person_key import Identity, NamelessError, normalised, person_key
from engine.privacy.secrets import PEPPER_FILE, SecretError, Secrets, open_secrets

PEPPER = b"pepper of the tests, 32 bytes..."
BORN = date(1950, 1, 31)


def key(family: str, given_names: str = "Ana", born: date = BORN, disambiguator: str = "") -> bytes:
    return person_key(Identity(family, given_names, born, disambiguator), PEPPER)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller", "MULLER"),
        ("Mu\u0308ller", "Müller"),
        ("Lefèvre-Dupont", "lefevre dupont"),
        ("Lefèvre  Dupont", "Dupont Lefèvre"),
        ("O'Brien", "OBrien"),
        ("D’Angelo", "d'angelo"),
        ("Le Goff", "LEGOFF"),
        ("Le Goff", "Goff Le"),
        ("De La Tour", "Delatour"),
        ("Cœur", "COEUR"),
        ("Straße", "STRASSE"),
        ("Łukasz", "lukasz"),
        ("Ｍａｒｔｉｎ", "Martin"),  # noqa: RUF001  (full width, as an input method may write it)
    ],
)
def test_one_person_however_written(one: str, other: str) -> None:
    assert key(one) == key(other)
    assert key("Martin", one) == key("Martin", other)


@pytest.mark.parametrize(
    "other",
    [
        Identity("Martine", "Thomas", BORN),
        Identity("Thomas", "Martin", BORN),
        Identity("Martin", "Thomas", date(1950, 1, 30)),
        Identity("Martin", "Thomas", BORN, "2"),
        Identity("Mar", "tin Thomas", BORN),
    ],
)
def test_two_people_stay_two(other: Identity) -> None:
    assert person_key(other, PEPPER) != person_key(Identity("Martin", "Thomas", BORN), PEPPER)


def test_anagrams_stay_two_people() -> None:
    assert key("Martin", "Alice") != key("Martin", "Célia")


def test_the_key_needs_the_pepper_and_is_16_bytes() -> None:
    identity = Identity("Martin", "Ana", BORN)
    assert len(person_key(identity, PEPPER)) == 16
    assert person_key(identity, PEPPER) != person_key(identity, PEPPER[::-1])


@pytest.mark.parametrize("name", ["", " ", "-", "'’", "\u0301", "…"])
def test_a_name_without_a_letter_is_refused(name: str) -> None:
    with pytest.raises(NamelessError, match="family_name"):
        key(name)
    with pytest.raises(NamelessError, match="given_names"):
        key("Martin", name)


@given(st.text(max_size=40))
def test_normalising_is_stable_and_knows_no_case(name: str) -> None:
    plain = normalised(name)
    assert normalised(plain) == plain
    assert normalised(name.upper()) == normalised(name.upper().lower())


@given(st.lists(st.text("abcéèüABC", min_size=1, max_size=6), min_size=1, max_size=4), st.randoms())
def test_order_and_separators_do_not_matter(words: list[str], random: object) -> None:
    shuffled = list(words)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert normalised("-".join(words)) == normalised("  ".join(shuffled))


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    made = open_secrets(tmp_path / "secrets")
    assert open_secrets(tmp_path / "secrets") == made
    assert (len(made.pepper), len(made.reference_key)) == (32, 32)
    assert made.pepper != made.reference_key
    for path in (tmp_path / "secrets").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert made.pepper.hex() not in repr(made)


def test_two_processes_at_once_read_the_same_secrets(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        found = pool.map(open_secrets, [tmp_path / "secrets"] * 8)
    assert found == [found[0]] * 8
    assert len(list((tmp_path / "secrets").iterdir())) == 3


def test_a_secret_that_others_can_read_or_that_is_cut_is_refused(tmp_path: Path) -> None:
    secrets: Secrets = open_secrets(tmp_path)
    pepper = tmp_path / PEPPER_FILE
    pepper.chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        open_secrets(tmp_path)
    pepper.chmod(0o600)
    pepper.write_bytes(secrets.pepper[:-1])
    with pytest.raises(SecretError, match="31 bytes"):
        open_secrets(tmp_path)
