"""What ends a round before its verdict."""


class StuckError(Exception):
    """The system did not come back, or did what needs no checker to be wrong; the message says what."""


class StoppedError(Exception):
    """A signal ended the run: its last round says nothing."""
