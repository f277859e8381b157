"""What the persister tells Prometheus, in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LAG_BUCKETS_S = (
    0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75,
    1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0,
)  # fmt: skip


class Metrics:
    """The persister's figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lag = Histogram(
            "dosebook_persist_lag_seconds",
            "From an event to its commit in Postgres",
            buckets=LAG_BUCKETS_S,
            registry=self.registry,
        )
        self.persisted = Counter(
            "dosebook_persisted_events", "Events committed in Postgres", registry=self.registry
        )
        self.quarantined = Counter(
            "dosebook_quarantined", "Events that broke a proof", registry=self.registry
        )
        self.rounds = Counter("dosebook_persist_rounds", "Batches committed", registry=self.registry)
        self.backlog = Gauge(
            "dosebook_outbox_backlog_events",
            "Events of the outbox that Postgres does not have yet",
            ["partition"],
            registry=self.registry,
        )
        self.halted = Gauge(
            "dosebook_partition_halted",
            "1 while the partition's outbox does not continue where Postgres ends",
            ["partition"],
            registry=self.registry,
        )
