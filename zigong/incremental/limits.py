"""How much may change before a whole build is the shorter way."""

from __future__ import annotations

from pyspark.sql import DataFrame

USERS_AT_MOST = 100_000  # their ids, and the hashes of all their events, travel to every worker
SHARE_AT_MOST = 0.2


class TooMuchChanged(Exception):  # noqa: N818 (no failure: the answer is a whole build)
    """What changed cannot be told apart, or is too much to be worth it: build from the whole history."""


def require_few(users: DataFrame, *, of: int) -> None:
    """Stops the attempt when too many users are touched.

    Args:
        users: one row per touched user.
        of: users there are.

    Raises:
        TooMuchChanged: more than ``USERS_AT_MOST`` or than ``SHARE_AT_MOST`` of all.
    """
    found = users.count()
    if found > min(USERS_AT_MOST, max(1, SHARE_AT_MOST * of)):
        raise TooMuchChanged(f"{found:,} of {of:,} users changed")
