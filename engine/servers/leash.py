"""Runs one command on a leash: the kernel signals it when the process that started it dies.

A script of its own, run by path, because it works between fork and exec: it drops to another account,
asks for the parent-death signal *after* that (changing account clears it) and becomes the command, under
the same process id. Doing this in Python's `preexec_fn` instead is unsafe in a program with threads.
The kernel counts the *thread* that started the process as its parent: start from one that stays.
On systems without the signal (macOS) the command runs all the same, and the watchdog alone ends it.

usage: leash.py PARENT_PID SIGNAL UID:GID|- COMMAND [ARGUMENT ...]
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
COULD_NOT_RUN = 127


def signal_at_death_of_parent(libc: object, parent: int, signum: int) -> None:
    """Ask the kernel for the signal; leave if the parent died before the kernel was asked."""
    libc.prctl(PR_SET_PDEATHSIG, signum)  # type: ignore[attr-defined]
    if os.getppid() != parent:
        sys.exit(COULD_NOT_RUN)


def load_libc() -> object | None:
    """The C library where the signal exists. Loaded before the account changes: later it may be closed."""
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None)


def drop_to(account: str) -> None:
    """Become the account `UID:GID`, with none of the groups of the old one; `-` stays as it is."""
    if account == "-":
        return
    uid, gid = account.split(":")
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))


def main() -> None:
    """Drop, ask for the signal, become the command."""
    parent, signum, account, *command = sys.argv[1:]
    libc = load_libc()
    drop_to(account)
    if libc is not None:
        signal_at_death_of_parent(libc, int(parent), int(signum))
    # Python ignores these two, and what is ignored stays so in the command.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606  the command is ours, there is no shell
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(COULD_NOT_RUN)


if __name__ == "__main__":
    main()
