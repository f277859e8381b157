"""The campaign of France with holds of seconds, so that a test sees them end."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TTL = re.compile(r"^ttl_seconds = \d+$", re.MULTILINE)


def campaign_with_holds(folder: Path, seconds: int) -> Path:
    """A file for ``Settings.campaign``."""
    text, count = TTL.subn(
        f"ttl_seconds = {seconds}", (ROOT / "config" / "france" / "campaign.toml").read_text()
    )
    if count != 1:
        raise ValueError("the campaign does not say once how long a hold lasts")
    file = folder / "campaign.toml"
    file.write_text(text)
    return file
