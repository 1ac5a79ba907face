"""How much may change before a whole build is the shorter way."""

from __future__ import annotations

from pyspark.sql import DataFrame

MAX_TOUCHED_USERS = 100_000  # their ids, and the hashes of all their events, travel to every worker
MAX_TOUCHED_SHARE = 0.2


class TooMuchChanged(Exception):  # noqa: N818 (no failure: the answer is a whole build)
    """What changed cannot be told apart, or is too much to be worth it: build from the whole history."""


def require_few(users: DataFrame, *, of: int) -> None:
    """Stops the attempt when too many users are touched.

    Args:
        users: one row per touched user.
        of: users there are.

    Raises:
        TooMuchChanged: more than ``MAX_TOUCHED_USERS`` or than ``MAX_TOUCHED_SHARE`` of all.
    """
    found = users.count()
    if found > min(MAX_TOUCHED_USERS, max(1, MAX_TOUCHED_SHARE * of)):
        raise TooMuchChanged(f"{found:,} of {of:,} users changed")
