"""Ends what a dead supervisor left behind. A script of its own, in its own session, reading a pipe.

The supervisor writes `+ PID SIGNAL` for a child (leader of its process group) and `- PID` when it is gone.
The pipe closes when the supervisor ends, however it ends. What is still listed then is asked to stop,
given a grace, and what is left of its group is killed; then the given directories are removed. The leash (the
parent-death signal) acts first on Linux; this process sees to grandchildren, to a child that does not
listen, and to systems without a leash.

usage: watchdog.py GRACE_S [DIRECTORY_TO_REMOVE ...]
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable

POLL_S = 0.02


def listed(lines: list[str], children: dict[int, int]) -> None:
    """Apply the supervisor's lines to the list of children."""
    for line in lines:
        mark, pid, *rest = line.split()
        if mark == "+":
            children[int(pid)] = int(rest[0])
        else:
            children.pop(int(pid), None)


def send(call: Callable[[int, int], None], pid: int, signum: int) -> bool:
    """Signal a process or group; False if there is none."""
    try:
        call(pid, signum)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_all(children: dict[int, int], grace_s: float) -> None:
    """Ask all to stop; kill the rest of a group as soon as its leader is gone, or when the grace is over."""
    for pid, signum in reversed(children.items()):
        send(os.kill, pid, signum)
    deadline = time.monotonic() + grace_s
    left = set(children)
    while left:
        over = time.monotonic() > deadline
        ended = {pid for pid in left if over or not send(os.kill, pid, 0)}
        for pid in ended:
            send(os.killpg, pid, signal.SIGKILL)
        left -= ended
        time.sleep(POLL_S)


def main() -> None:
    """Listen until the pipe closes, then end what is listed."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    grace_s, directories = float(sys.argv[1]), sys.argv[2:]
    children: dict[int, int] = {}
    for line in sys.stdin:
        listed([line], children)
    end_all(children, grace_s)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
