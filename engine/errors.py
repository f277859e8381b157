"""The faults of the engine. A refusal ("the slot is full") is a value, never one of these."""


class EngineFault(Exception):
    """A broken machine or a broken invariant."""


class OutcomeUnknown(EngineFault):
    """The call was sent and no answer came: it may have happened or not. Ask again with the same op."""


class PartitionClosed(EngineFault):
    """The epoch is another than the caller's, or this Redis process is not certified. Nothing was done."""


class QueueFull(EngineFault):
    """Too many operations wait for Redis in this process. Nothing was sent; come back in a second."""


class Backlogged(EngineFault):
    """The stores are near what they can hold (``engine/booking/pressure.py``). Nothing was done."""


class StoreFull(EngineFault):
    """Redis is at its memory limit. Nothing was done; what gives something back still passes."""


class StepFailed(EngineFault):
    """A script met something that its invariants exclude, and left that item undone."""


class PersisterReplaced(EngineFault):
    """Another persister moved the watermark or holds the lock: this one must stop writing."""


class OutboxGap(EngineFault):
    """The outbox does not continue where Postgres ends: events are missing, or Redis is older."""


class PartitionLost(EngineFault):
    """Postgres knows a partition that Redis does not have, or has under another epoch. It stays closed."""


class RebuildFailed(EngineFault):
    """A rebuild could not be brought to its end. What it wrote sells nothing; run it again."""


class DeploymentMismatch(EngineFault):
    """The database belongs to a deployment with another number of partitions."""


class StorageAway(EngineFault):
    """Postgres does not answer; what was asked may have been written. Ask again with the same key."""
