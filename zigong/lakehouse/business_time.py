"""Conversions between dates in the business time zone and timestamps in UTC; the only module that does them.

Every function takes and returns Spark columns; the time zone of the session is UTC (set in lakehouse.session).
"""

from __future__ import annotations

import re

from pyspark.sql import Column
from pyspark.sql import functions as F


def local_midnight(day: Column, timezone: str) -> Column:
    """The UTC timestamp at which a local date starts; where clocks skip midnight, the moment of the skip."""
    return F.to_utc_timestamp(day.cast("timestamp"), timezone)


def local_date(instant: Column, timezone: str) -> Column:
    """The local date of a UTC timestamp."""
    return F.to_date(F.from_utc_timestamp(instant, timezone))


def later_by(instant: Column, lag: str, timezone: str) -> Column:
    """A UTC timestamp plus a lag; a lag in days is calendar days, of 23 or 25 hours where the clocks change.

    Args:
        lag: upper-case interval in one unit, such as ``INTERVAL 1 DAY`` or ``INTERVAL 30 MINUTES``.
        timezone: business time zone.
    """
    if not re.fullmatch(r"INTERVAL 0*[1-9]\d* DAYS?", lag):
        return instant + F.expr(lag)
    return F.to_utc_timestamp(F.from_utc_timestamp(instant, timezone) + F.expr(lag), timezone)


def month_of(day: Column) -> Column:
    """Calendar months since year 0 as an int: consecutive months differ by one."""
    return (F.year(day) * 12 + F.month(day)).cast("int")
