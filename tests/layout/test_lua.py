"""The scripts, put together as Redis sees them, pass the linter."""

import subprocess

import pytest

from engine.inventory import library


@pytest.mark.needs("luacheck")
def test_the_assembled_library_has_no_warning() -> None:
    checked = subprocess.run(
        ["luacheck", "--quiet", "-"], input=library.source(), capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.needs("luacheck")
def test_the_linter_sees_a_variable_that_nobody_uses() -> None:
    planted = library.source() + "\nlocal function never_called() end\n"
    checked = subprocess.run(
        ["luacheck", "--quiet", "-"], input=planted, capture_output=True, text=True, check=False
    )
    assert "never_called" in checked.stdout
