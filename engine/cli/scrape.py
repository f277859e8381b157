"""Reads health and metrics of our own processes over loopback, with the standard library.

A process that does not answer in time is no fault here: `None`. What asks decides what that means.
"""

import http.client
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

TIMEOUT_S = 0.8
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_BOUND = re.compile(r'\ble="([^"]+)"')


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One line of the text format of Prometheus; ``labels`` as written there."""

    name: str
    labels: str
    value: float


def fetch(url: str) -> tuple[int, str] | None:
    """Status and body of a GET, or None if nothing answered within `TIMEOUT_S`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def is_ready(url: str) -> bool:
    """Whether the address answers 200."""
    answer = fetch(url)
    return answer is not None and answer[0] == http.client.OK


def samples(url: str) -> list[Sample] | None:
    """All samples of a /metrics page, or None if it does not answer."""
    answer = fetch(url)
    if answer is None or answer[0] != http.client.OK:
        return None
    matches = (_SAMPLE.fullmatch(line) for line in answer[1].splitlines() if not line.startswith("#"))
    return [Sample(match[1], match[2] or "", float(match[3])) for match in matches if match]


def total(found: Iterable[Sample], name: str) -> float:
    """Sum of a metric over its labels; 0 if there is none."""
    return sum(sample.value for sample in found if sample.name == name)


def quantile(found: Iterable[Sample], name: str, share: float) -> float | None:
    """Quantile of a histogram over all its labels, straight within a bucket; None if nothing was counted."""
    counts: dict[float, float] = {}
    for sample in found:
        bound = _BOUND.search(sample.labels)
        if sample.name == f"{name}_bucket" and bound:
            counts[float(bound[1])] = counts.get(float(bound[1]), 0) + sample.value
    buckets = sorted(counts.items())
    if not buckets or not buckets[-1][1]:
        return None
    return _within(buckets, share * buckets[-1][1])


def _within(buckets: list[tuple[float, float]], wanted: float) -> float:
    """The value below which ``wanted`` of the cumulative counts lie; the last finite bound if beyond it."""
    lower, below = 0.0, 0.0
    for upper, count in buckets:
        if count >= wanted:
            if upper == float("inf"):
                return lower
            return lower + (upper - lower) * (wanted - below) / (count - below)
        lower, below = upper, count
    return lower
