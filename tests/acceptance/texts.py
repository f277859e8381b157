"""Reads answers: which problem it is, and the instants in it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx

URN = "urn:dosebook:problem:"


def kind_of(answer: httpx.Response) -> str:
    """The name of a problem; the status of anything else."""
    if answer.headers["content-type"] != "application/problem+json":
        return str(answer.status_code)
    return str(answer.json()["type"]).removeprefix(URN)


def instants(found: Any) -> Iterator[datetime]:
    """Every instant anywhere in an answer; dates are none."""
    if isinstance(found, dict):
        for value in found.values():
            yield from instants(value)
    elif isinstance(found, list):
        for value in found:
            yield from instants(value)
    elif isinstance(found, str) and "T" in found and found[:4].isdecimal():
        yield datetime.fromisoformat(found)
