"""The campaign of France with holds of seconds, so that a test sees them end."""

import re
from pathlib import Path

from engine.settings import FRANCE_DIR

TTL = re.compile(r"^ttl_seconds = \d+$", re.MULTILINE)


def france_with_holds(folder: Path, seconds: int) -> Path:
    """A directory for ``Settings.france_dir``: links to the files, and a campaign of its own."""
    folder.mkdir()
    for file in FRANCE_DIR.iterdir():
        (folder / file.name).symlink_to(file)
    campaign = folder / "campaign.toml"
    text, count = TTL.subn(f"ttl_seconds = {seconds}", campaign.read_text())
    assert count == 1
    campaign.unlink()
    campaign.write_text(text)
    return folder
