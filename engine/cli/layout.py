"""How a run lays its stores out: one Redis or a cluster, partitions, and when a booking is told."""

import argparse
import os
from collections.abc import Mapping

import msgspec

from engine.limits import PARTITIONS_MAX
from engine.settings import REPLICAS_MAX, Acknowledge, SettingError

CLUSTER_MASTERS = 3
CLUSTER_PARTITIONS = 12


class Layout(msgspec.Struct, frozen=True):
    """One Redis, or a cluster of several masters with so many replicas of each."""

    partitions: int = 1
    masters: int = 1
    replicas: int = 0
    acknowledge: Acknowledge = Acknowledge.FSYNC

    def __str__(self) -> str:
        masters = f"{self.masters} Redis masters" if self.masters > 1 else "one Redis"
        replicas = f" with {self.replicas} replica{'s' * (self.replicas > 1)} each" if self.replicas else ""
        noun = "partition" if self.partitions == 1 else "partitions"
        return f"{masters}{replicas}, {self.partitions} {noun}, policy {self.acknowledge}"


def add_layout_arguments(parser: argparse.ArgumentParser) -> None:
    """``--cluster``, ``--replicas``, ``--partitions``, ``--acknowledge``."""
    add = parser.add_argument
    add("--cluster", action="store_true", help=f"a Redis Cluster of {CLUSTER_MASTERS} masters, not one Redis")
    add("--replicas", type=_replicas, metavar="N", help="of each master of the cluster (0)")
    partitions = f"partitions of the inventory (1; {CLUSTER_PARTITIONS} on a cluster)"
    add("--partitions", type=_partitions, metavar="N", help=partitions)
    policies = [policy.value for policy in Acknowledge]
    policy = "when a booking is told, see above (fsync; replica where there are replicas)"
    add("--acknowledge", choices=policies, metavar="POLICY", help=policy)


def layout_of(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Layout:
    """What the options ask for. Raises ``SettingError`` where one contradicts another."""
    if args.cluster and environment.get("REDIS_URL"):
        raise SettingError("REDIS_URL names servers of your own: unset it, or leave out --cluster")
    if args.replicas and not args.cluster:
        raise SettingError("--replicas are replicas of a cluster's masters: add --cluster")
    replicas = args.replicas or 0
    usual = Acknowledge.REPLICA if replicas else Acknowledge.FSYNC
    acknowledge = Acknowledge(args.acknowledge) if args.acknowledge else usual
    if acknowledge is Acknowledge.REPLICA and not replicas:
        raise SettingError("--acknowledge replica waits for replicas: add --cluster --replicas 1")
    return Layout(
        partitions=args.partitions or (CLUSTER_PARTITIONS if args.cluster else 1),
        masters=CLUSTER_MASTERS if args.cluster else 1,
        replicas=replicas,
        acknowledge=acknowledge,
    )


def _replicas(text: str) -> int:
    return _number(text, 0, REPLICAS_MAX)


def _partitions(text: str) -> int:
    return _number(text, 1, PARTITIONS_MAX)


def _number(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return int(text)
