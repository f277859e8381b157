"""Slots to look at. A wake is a hint: whatever is lost, the tick finds again from state."""

from engine import limits
from engine.waitlist.needs import Freed


class Wakes:
    """A bounded set, in the order in which its members came."""

    def __init__(self) -> None:
        self.dropped = 0
        self._freed: dict[Freed, None] = {}

    def __len__(self) -> int:
        return len(self._freed)

    def add(self, session: int, slot: int) -> None:
        """A seat may have come free there; beyond ``WAITLIST_WAKES_MAX`` it is dropped."""
        if len(self._freed) < limits.WAITLIST_WAKES_MAX:
            self._freed[Freed(session, slot)] = None
        else:
            self.dropped += 1

    def take(self, most: int) -> list[Freed]:
        """The oldest, at most so many."""
        taken = list(self._freed)[:most]
        for freed in taken:
            del self._freed[freed]
        return taken
