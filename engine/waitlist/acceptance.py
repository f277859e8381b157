"""How often an offer is taken, and how many are therefore made at once. Pure.

In 2021 one in eighteen of those contacted for leftover doses took one; with that the measure begins. Each
decided offer weighs one; what was decided before it fades, so that some ``MEMORY`` offers count. An offer
whose seats went to another had only a part of its time: it weighs that part. Leaving it out would count the
offers that were quickest to be taken against those that nobody took, and overrate acceptance by a third.
"""

from datetime import datetime
from math import ceil

import msgspec

from engine import limits

PRIOR_TAKEN, PRIOR_DECIDED = 2.0, 36.0
MEMORY = 500.0


class Acceptance(msgspec.Struct, frozen=True):
    """``taken`` of ``decided`` offers, both fading."""

    taken: float = PRIOR_TAKEN
    decided: float = PRIOR_DECIDED

    @property
    def share(self) -> float:
        """The share of offers that are taken."""
        return self.taken / self.decided

    def after(self, taken: int, missed: float) -> "Acceptance":
        """With so many offers more, taken and not; ``missed`` counts parts of them."""
        kept = (1 - 1 / MEMORY) ** (taken + missed)
        return Acceptance(self.taken * kept + taken, self.decided * kept + taken + missed)

    def parallel(self) -> int:
        """How many are offered the same seats, so that one of them may be expected to take them."""
        if self.share * limits.OFFERS_PARALLEL_MAX <= 1:
            return limits.OFFERS_PARALLEL_MAX
        # Rounded: a hundredth of an offer more is none.
        return min(limits.OFFERS_PARALLEL_MAX, max(1, ceil(round(1 / self.share, 2))))


def part_had(opened_at: datetime, now: datetime, deadline: datetime) -> float:
    """The part of its time that an offer had by now, 0 to 1; 1 where the clock says nothing sensible."""
    whole = (deadline - opened_at).total_seconds()
    if whole <= 0:
        return 1.0
    return min(1.0, max(0.0, (now - opened_at).total_seconds() / whole))
