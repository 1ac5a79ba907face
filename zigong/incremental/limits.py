"""Limits beyond which a full build is cheaper than an incremental one."""

from __future__ import annotations

from pyspark.sql import DataFrame

MAX_TOUCHED_USERS = 100_000  # their ids and the hashes of all their events are broadcast
MAX_TOUCHED_SHARE = 0.2


class TooMuchChanged(Exception):  # noqa: N818 (not a failure: the caller does a full build)
    """The changes cannot be determined or are too many for an incremental build: do a full build."""


def require_few(users: DataFrame, *, of: int) -> None:
    """Stops an incremental build that affects too many users.

    Args:
        users: one row per affected user.
        of: number of all users.

    Raises:
        TooMuchChanged: more than ``MAX_TOUCHED_USERS``, or than ``MAX_TOUCHED_SHARE`` of all, are affected.
    """
    found = users.count()
    if found > min(MAX_TOUCHED_USERS, max(1, MAX_TOUCHED_SHARE * of)):
        raise TooMuchChanged(f"{found:,} of {of:,} users changed")
