"""The launcher at the root, without its network: a `uv` of our own stands in for the real one.

The stand-in makes a folder that looks like an environment and notes each call, so that what is tested is
the launcher's own part: once, whole or not at all, one at a time, one line when it cannot.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.processes import wait_until

LAUNCHER = Path(__file__).parents[2] / "dosebook"

# `uv venv ... DIR` makes DIR with a Python that prints what it was given; `uv pip ...` installs nothing.
STAND_IN = """\
#!/bin/sh
echo "$1" >> "$CALLS"
for last; do :; done
case $1 in
  venv)
    mkdir -p "$last/bin"
    touch "$last/pyvenv.cfg"
    printf '#!/bin/sh\\necho "ran in $PYTHONPATH: $*"\\n' > "$last/bin/python"
    chmod +x "$last/bin/python" ;;
  pip) sleep "${SLOW:-0}"; exit "${PIP_STATUS:-0}" ;;
esac
"""


class Checkout:
    """A copy of the launcher with a small lock, and the stand-in on PATH."""

    def __init__(self, place: Path) -> None:
        self.root = place / "checkout"
        self.root.mkdir()
        shutil.copy(LAUNCHER, self.root / "dosebook")
        self.lock = self.root / "requirements.lock"
        self.lock.write_text("nothing==1.0\n")
        self.calls = place / "calls"
        self.calls.touch()
        self.bin = place / "bin"
        self.bin.mkdir()
        (self.bin / "uv").write_text(STAND_IN)
        (self.bin / "uv").chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{self.bin}:/usr/bin:/bin"
        return {"PATH": path, "CALLS": str(self.calls), "HOME": str(self.root), **more}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "dosebook"), *arguments],
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        with self.start(*arguments, **more) as process:
            out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def times_built(self) -> int:
        return self.calls.read_text().split().count("venv")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_set_up_once_then_run(checkout: Checkout) -> None:
    status, out, err = checkout.run("run", "--exit")
    assert (status, out) == (0, f"ran in {checkout.root}: -P -m engine.cli run --exit\n")
    assert "first set-up" in err
    assert checkout.run()[1:] == (f"ran in {checkout.root}: -P -m engine.cli\n", "")
    assert checkout.times_built() == 1


def test_changed_lock_is_built_again(checkout: Checkout) -> None:
    checkout.run()
    checkout.lock.write_text("nothing==2.0\n")
    checkout.run()
    assert checkout.times_built() == 2


def test_failed_install_is_one_line_and_is_built_again(checkout: Checkout) -> None:
    status, _, err = checkout.run(PIP_STATUS="1")
    assert status == 1
    assert err.splitlines()[-1].startswith("dosebook: installing the locked packages failed")
    assert checkout.run()[0] == 0
    assert checkout.times_built() == 2


def test_killed_set_up_is_built_again(checkout: Checkout) -> None:
    with checkout.start(SLOW="0.5") as process:
        wait_until(lambda: "pip" in checkout.calls.read_text(), "the installer runs")
        process.kill()
    status, _, err = checkout.run()
    assert status == 0
    assert "waiting for it" in err, "the installer of the killed start still runs"
    assert checkout.times_built() == 2


def test_broken_interpreter_is_built_again(checkout: Checkout) -> None:
    checkout.run()
    (checkout.root / ".venv" / "bin" / "python").unlink()
    assert checkout.run()[0] == 0
    assert checkout.times_built() == 2


def test_moved_checkout_is_built_again(checkout: Checkout) -> None:
    checkout.run()
    checkout.root = checkout.root.rename(checkout.root.with_name("elsewhere"))
    assert checkout.run()[1].startswith(f"ran in {checkout.root}")
    assert checkout.times_built() == 2


def test_two_first_starts_build_once(checkout: Checkout) -> None:
    with checkout.start(SLOW="0.5") as first, checkout.start(SLOW="0.5") as second:
        said = [process.communicate(timeout=30) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert checkout.times_built() == 1
    assert "waiting for it" in said[0][1] + said[1][1]


def test_other_place(checkout: Checkout, tmp_path: Path) -> None:
    place = tmp_path / "other"
    assert checkout.run(DOSEBOOK_VENV=str(place))[0] == 0
    assert (place / "pyvenv.cfg").exists()
    assert not (checkout.root / ".venv").exists()


def test_folder_that_is_no_environment_is_left_alone(checkout: Checkout, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letter").write_text("dear")
    status, _, err = checkout.run(DOSEBOOK_VENV=str(precious))
    assert status == 1
    assert "is not a Python environment" in err.splitlines()[-1]
    assert (precious / "letter").read_text() == "dear"


def test_place_that_cannot_be_written_is_one_line(checkout: Checkout) -> None:
    status, _, err = checkout.run(DOSEBOOK_VENV="/proc/nowhere")
    assert status == 1
    (line,) = err.splitlines()
    assert line.startswith("dosebook: cannot write beside /proc/nowhere")
    assert "DOSEBOOK_VENV" in line


def test_python_without_venv_and_pip_is_one_line(checkout: Checkout) -> None:
    (checkout.bin / "uv").unlink()
    status, _, err = checkout.run(PATH=str(checkout.bin), PYTHONPATH=str(no_venv(checkout.root)))
    assert status == 1
    (line,) = err.splitlines()
    assert line.endswith("sudo apt-get install python3-venv")


def no_venv(place: Path) -> Path:
    """A folder that hides the modules which can make an environment."""
    hidden = place / "hidden"
    hidden.mkdir()
    for module in ("ensurepip", "pip", "virtualenv"):
        (hidden / f"{module}.py").write_text("raise ImportError")
    return hidden
