"""Whether the attempt that staged rows can still commit them, by the lease of its run."""

from __future__ import annotations

from pathlib import Path

from zigong.lakehouse.maintain import long_ago
from zigong.lakehouse.staging import Leftover
from zigong.runs.lease import holder_of


def attempt_has_ended(runs: Path, leftover: Leftover) -> bool:
    """Whether a later attempt has taken over, or the lease has ended; without a lease only time tells.

    Args:
        runs: the folder of the runs of the lakehouse.
        leftover: what the attempt has staged.
    """
    holder = holder_of(runs / leftover.run_id)
    if holder is None:
        return long_ago(leftover)
    return 0 < leftover.token < holder.token or holder.released or holder.is_gone
