"""The one author of key names, and of who lives in which partition.

Every key of a partition carries its hash tag, so that one script reaches them all, on one server or on a
cluster. The scripts build the same names from the prefix (``engine/inventory/scripts/layout.lua``).
"""

import msgspec


class Keyspace(msgspec.Struct, frozen=True):
    """The key names of a deployment with ``partitions`` partitions (1 to 100)."""

    partitions: int = 1

    def prefix(self, partition: int) -> bytes:
        """``{p07}:``, before every key of the partition."""
        return b"{p%02d}:" % partition

    def outbox(self, partition: int) -> bytes:
        """Stream of the partition's events."""
        return self.prefix(partition) + b"outbox"

    def meta(self, partition: int) -> bytes:
        """Hash with the partition's epoch, clock and certified process."""
        return self.prefix(partition) + b"meta"

    def rebuild(self, partition: int) -> bytes:
        """Token of the rebuild under way; absent otherwise."""
        return self.prefix(partition) + b"rebuild"

    def holds(self, partition: int) -> bytes:
        """Sorted set of the holds that run, by the time at which they end."""
        return self.prefix(partition) + b"holds"

    def wait(self, partition: int) -> bytes:
        """What is written before a WAIT for replicas; says nothing."""
        return self.prefix(partition) + b"wait"

    def session(self, partition: int, session: int) -> bytes:
        """Stock of one session: state, width, seat mask."""
        return self.prefix(partition) + b"session:%d" % session

    def bucket(self, partition: int, person: bytes) -> bytes:
        """Hash of the guards and courses of persons whose keys begin alike."""
        return self.prefix(partition) + b"person:" + person[:2]

    def people(self, partition: int) -> bytes:
        """Pattern of the buckets of guards and courses, for SCAN."""
        return self.prefix(partition) + b"person:*"

    @property
    def all_people(self) -> bytes:
        """The same for every partition."""
        return b"{p[0-9][0-9]}:person:*"

    def of_person(self, person: bytes) -> int:
        """Partition of a person's guards."""
        return int.from_bytes(person[-4:], "little") % self.partitions

    def of_location(self, location: int) -> int:
        """Partition of a location's sessions, and of the courses booked there."""
        return location % self.partitions
