"""Divides the targets into groups, whose gradients are summed, and into shards, which are computed by workers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import groupby
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from zigong.errors import DataError

GroupKey = tuple[date, int, int, str]
# Targets of one shard at most. With scope user most targets are a group, and a shard has one sum per group.
SHARD_TARGETS: Mapping[str, int] = {"population": 256, "user": 32}


@dataclass(frozen=True, kw_only=True)
class TargetGroup:
    """Targets whose gradients are summed: of one date, one label and one of two halves by the hash of sample_id.

    With ``scope: user`` also of one user; otherwise ``user_id`` is None.
    """

    observation_date: date
    observation_at: datetime
    label: int
    half: int
    count: int
    user_id: str | None = None


def group_keys(targets: pa.Table, scope: str) -> list[GroupKey]:
    """The group of each target: date, label, half and, with ``scope: user``, user (else an empty text).

    Args:
        targets: sample_id, user_id, observation_date and label of the targets.
        scope: as in the recipe's section ``influence``.
    """
    keys = targets["sample_id"].to_pylist()
    halves = [hashlib.sha256(key.encode()).digest()[0] % 2 for key in keys]
    users = targets["user_id"].to_pylist() if scope == "user" else [""] * len(keys)
    return list(zip(targets["observation_date"].to_pylist(), targets["label"].to_pylist(), halves, users, strict=True))


def group_name(key: GroupKey) -> str:
    """The key as text, by which a shard names its sums."""
    return "|".join((key[0].isoformat(), *map(str, key[1:])))


def target_groups(targets: pa.Table, scope: str, *, business_timezone: str) -> dict[str, TargetGroup]:
    """The groups by name, in the order of their keys.

    Args:
        targets: as for :func:`group_keys`.
        scope: as in the recipe's section ``influence``.
        business_timezone: T of a date is midnight in this zone; determines which targets are later than a maturity.

    Raises:
        DataError: there is no target.
    """
    if not len(targets):
        raise DataError("there are no target samples to score against", action="check the split: target is empty")
    zone, counts = ZoneInfo(business_timezone), Counter(group_keys(targets, scope))
    return {
        group_name((day, label, half, user_id)): TargetGroup(
            observation_date=day,
            observation_at=datetime.combine(day, time(), zone).astimezone(UTC),
            label=label,
            half=half,
            count=counts[day, label, half, user_id],
            user_id=user_id or None,
        )
        for day, label, half, user_id in sorted(counts)
    }


def target_shards(targets: pa.Table, scope: str, checkpoints: int) -> list[dict[str, Any]]:
    """The shards: at most ``SHARD_TARGETS`` targets of one date, at one checkpoint.

    The division depends on the targets and the scope alone, never on workers: so neither do the sums of a shard. The
    targets of a date are taken in the order of their partitions, so that a shard reads few of them.

    Args:
        targets: sample_id, user_id, user_bucket and observation_date of the targets, in any order.
        scope: as in the recipe's section ``influence``.
        checkpoints: number of checkpoints of the agent.

    Returns:
        Per shard its ``checkpoint`` and, under ``only``, the keys of its targets; all checkpoints of the same targets
        are next to each other.
    """
    columns = (targets[name].to_pylist() for name in ("observation_date", "user_bucket", "user_id", "sample_id"))
    parts, most = list[list[str]](), SHARD_TARGETS[scope]
    for _, of_date in groupby(sorted(zip(*columns, strict=True)), key=itemgetter(0)):
        keys = [row[-1] for row in of_date]
        size = -(-len(keys) // -(-len(keys) // most))
        parts += [keys[start : start + size] for start in range(0, len(keys), size)]
    return [
        {
            "shard": f"targets_{number:05d}_checkpoint_{checkpoint:03d}",
            "checkpoint": checkpoint,
            "only": part,
            "rows": len(part),
        }
        for number, part in enumerate(parts)
        for checkpoint in range(checkpoints)
    ]
