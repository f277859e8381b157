"""What was found for a preference: choices that may be booked together."""

import msgspec

from engine.availability.sampling import Choice
from engine.domain.course import Wish


class Plan(msgspec.Struct, frozen=True, gc=False):
    """One or two doses of one vaccine for one person, dose 1 first.

    ``locations`` are those of the choices, one for each. ``distance_km`` is that of the farther one.
    """

    vaccine: str
    distance_km: float
    choices: tuple[Choice, ...]
    locations: tuple[int, ...]

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """What to ask Redis for."""
        return tuple(choice.wish for choice in self.choices)


Party = tuple[Plan, ...]
"""A household's plans, one for each person, in the order of time: the same sessions for all of them."""
