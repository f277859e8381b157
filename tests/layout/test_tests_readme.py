"""tests/README.md names every folder of tests, and only folders that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_readme_names_the_folders_that_exist() -> None:
    named = set(re.findall(r"\| `(\w+)/` \|", (TESTS / "README.md").read_text()))
    folders = {
        path.name for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))
    }
    assert named == folders
