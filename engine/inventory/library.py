"""Assembles ``scripts/*.lua`` into one Redis Function library and loads it.

``python -m engine.inventory.library`` prints the assembled source, for a linter or a reader.
"""

import sys
from functools import cache
from pathlib import Path

from redis import exceptions

from engine.redis.nodes import Nodes

SCRIPTS = Path(__file__).parent / "scripts"
# layout first, the operations in the order in which they use each other, the entry point last.
PARTS = (
    *("layout", "seats", "claim", "unclaim", "settle", "free", "end", "expire", "begin", "take", "book"),
    *("resolve", "cancel", "hold", "move", "part", "open", "read", "mark", "step"),
)


@cache
def source() -> str:
    """The library's Lua source."""
    return "\n".join((SCRIPTS / f"{part}.lua").read_text("utf-8") for part in PARTS)


async def load(nodes: Nodes) -> None:
    """Load the library into every server that answers, replacing an older one. Idempotent.

    Raises the last fault if none answers; one that comes back later has what it had.
    """
    loaded = 0
    fault: Exception | None = None
    for node in nodes.all:
        try:
            await node.client.function_load(source(), replace=True)
            loaded += 1
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            fault = error
    if fault is not None and not loaded:
        raise fault


if __name__ == "__main__":
    sys.stdout.write(source())
