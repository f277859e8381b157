"""A child that is a plain command: a worker of ours, or any program."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from engine.servers.child import Child, Launch
from engine.servers.data_dir import DataDir

ROOT = str(Path(__file__).resolve().parents[2])


class Command(Child):
    """Runs `argv` with our environment plus `env`; its output goes to the data directory's log.

    `fds` are handed down (a listening socket). `ready` is asked until true (within a second, never
    raising); without it the child counts as ready once it is started. `restart=False`: it may end by itself.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        data: DataDir,
        *,
        env: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
        ready: Callable[[], bool] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        restart: bool = True,
    ) -> None:
        super().__init__(name)
        self.stop_signal = stop_signal
        self.restart = restart
        self._ready = ready
        self._launch = Launch(
            argv=tuple(argv),
            log=data.log_of(name),
            env={**os.environ, **(env or {})},
            cwd=Path.cwd(),
            fds=tuple(fds),
        )

    @classmethod
    def module(
        cls,
        name: str,
        module: str,
        *args: str,
        data: DataDir,
        env: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
        ready: Callable[[], bool] | None = None,
    ) -> Self:
        """A Python module of this tree: `python -m module args`, in our interpreter, wherever we stand."""
        argv = [sys.executable, "-P", "-m", module, *args]
        return cls(name, argv, data, env={"PYTHONPATH": ROOT, **(env or {})}, fds=fds, ready=ready)

    def launch(self) -> Launch:
        """As given."""
        return self._launch

    def is_ready(self) -> bool:
        """Whether the caller's condition holds while the process runs; without one, at once."""
        return self._ready is None or (self.pid is not None and self._ready())
