"""When an answer may be told: the acknowledgement policies (PROTOCOL.md, "What a 201 promises").

Every answer obeys, a repeated one and a reading too: what it tells may rest on an event that another call
emitted a moment ago.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import asyncio

# (id of the partition's last event) -> None if Postgres has it; else a future that ends when it has, or with
# OutcomeUnknown.
Wait = Callable[[bytes], "asyncio.Future[None] | None"]
# (partition) -> what waits for the answer of a call that is sent to it now.
Committed = Callable[[int], Wait]


class Acknowledgement(msgspec.Struct, frozen=True):
    """What an answer waits for.

    ``replicas``: so many have everything that its Redis had written. ``committed``: Postgres has the last
    event that its partition had emitted. Neither: the reply of Redis, which has it on disk.
    """

    replicas: int = 0
    committed: Committed | None = None


ON_DISK = Acknowledgement()
