"""Rules and domain import nothing but msgspec, the standard library, each other, and the list of bounds.

The bounds live together in ``engine.limits``, which imports nothing but the standard library itself.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = sys.stdlib_module_names | {"msgspec"}
CENTRE = sorted(path for room in ("domain", "rules") for path in (ROOT / "engine" / room).rglob("*.py"))
CENTRE.append(ROOT / "engine" / "limits.py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def is_allowed(module: str) -> bool:
    own = module == "engine.limits" or module.startswith(("engine.domain", "engine.rules"))
    return own or module.split(".")[0] in ALLOWED


@pytest.mark.parametrize("path", CENTRE, ids=lambda path: path.stem)
def test_centre_is_pure(path: Path) -> None:
    assert [module for module in imported(path) if not is_allowed(module)] == []
