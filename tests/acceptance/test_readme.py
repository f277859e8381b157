"""The examples of the API's README run as they are written."""

import re
import subprocess

import pytest

from api import problems
from tests.campaign import ROOT, Service

README = ROOT / "api" / "README.md"
EXAMPLES = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.needs("curl")
def test_the_examples_run(service: Service) -> None:
    """Every answer is what the example is about: no problem among them."""
    (script,) = EXAMPLES.findall(README.read_text("utf-8"))
    script = script.replace("API=http://127.0.0.1:8000", f"API={service.url}")
    ran = subprocess.run(
        ["/bin/sh", "-eu"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert problems.URN not in ran.stdout, ran.stdout
    for told in ('"status":"cancelled"', "hold_until", '"status":"booked"', '"status":"left"'):
        assert told in ran.stdout


def test_the_table_of_routes_is_the_api(service: Service) -> None:
    listed = set(re.findall(r"^\| `([A-Z]+ /v1/\S+)` \|", README.read_text("utf-8"), re.MULTILINE))
    paths = service.http.get("/schema/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    shape = re.compile(r"\{\w+\}")
    known = {shape.sub("{}", route) for route in served if "/v1/" in route}
    assert {shape.sub("{}", route) for route in listed} == known
