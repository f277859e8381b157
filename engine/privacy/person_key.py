"""The person key: the keyed pseudonym that stands for a person everywhere outside the table of persons.

It is HMAC-SHA256 under the deployment's pepper, cut to 16 bytes, over the normalised identity. Two ways of
writing the same person give one key:

- Unicode NFKD without accents, case folded; œ, æ, ø, ł, đ as oe, ae, o, l, d, and a dotless i as i.
- Apostrophes vanish ("O'Brien" is "OBrien"); every other run of characters that are neither letters nor
  digits (spaces, hyphens, dots) separates words.
- Particles (de, la, le, van, mc, ...) go in front, as they are written ("Le Goff" is "Legoff" is "Goff Le").
- The other words are sorted, then written together: their order, and how they are separated, do not
  matter. Two words written together *out of* that order make another name ("Mariejean" is not "Jean Marie").
- The disambiguator is normalised in the same way, and is empty for nearly everyone.

Family and given names stay apart, because "Martin Thomas" and "Thomas Martin" are two people. Two people of
the same names and birth date share a key until one is registered with a disambiguator.
"""

import hmac
import unicodedata
from datetime import date

import msgspec

from engine.domain.course import PERSON_KEY_BYTES

_VERSION = "1"
_SEPARATOR = "\x1f"
_LETTERS = str.maketrans({"œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "\u0131": "i"})
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʼ`´ʹ′＇"))  # noqa: RUF001  (the very characters that are meant)
_PARTICLES = frozenset(
    (
        *("al", "ben", "bin", "d", "da", "de", "del", "della", "den", "der", "des", "di", "dos", "du", "el"),
        *("ibn", "l", "la", "las", "le", "les", "los", "mac", "mc", "o", "st", "te", "ten", "ter", "van"),
        *("von", "zu", "zur"),
    )
)


class NamelessError(ValueError):
    """A family name or the given names hold no letter; the message says which, never what was written."""


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a person is, as written. ``disambiguator`` tells apart people who share everything else."""

    family_name: str
    given_names: str
    birth_date: date
    disambiguator: str = ""


def person_key(identity: Identity, pepper: bytes) -> bytes:
    """The 16-byte key. Raises ``NamelessError`` where a name has no letter."""
    family, given = normalised(identity.family_name), normalised(identity.given_names)
    if not family:
        raise NamelessError("family_name has no letter")
    if not given:
        raise NamelessError("given_names has no letter")
    parts = (_VERSION, family, given, identity.birth_date.isoformat(), normalised(identity.disambiguator))
    message = _SEPARATOR.join(parts).encode()
    return hmac.digest(pepper, message, "sha256")[:PERSON_KEY_BYTES]


def normalised(name: str) -> str:
    """The one form of a name that all its spellings share; empty where nothing of it is a letter or digit."""
    bare = name.translate(_APOSTROPHES).casefold().translate(_LETTERS)
    plain = "".join(c for c in unicodedata.normalize("NFKD", bare) if not unicodedata.combining(c))
    plain = plain.casefold().translate(_LETTERS)
    words = "".join(c if _is_of_a_word(c) else " " for c in plain).split()
    particles = [word for word in words if word in _PARTICLES]
    return "".join(particles + sorted(word for word in words if word not in _PARTICLES))


def _is_of_a_word(character: str) -> bool:
    """Letters, digits, and the vowel signs that some scripts write beside their letters."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
