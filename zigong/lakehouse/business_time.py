"""Dates in the business time zone, timestamps in UTC: the only place where the two meet.

Every function takes and returns Spark columns; the session's time zone is UTC (lakehouse.session sees to it).
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F


def local_midnight(day: Column, timezone: str) -> Column:
    """The UTC timestamp of the start of a local date; where clocks skip midnight, of the moment they skip it."""
    return F.to_utc_timestamp(day.cast("timestamp"), timezone)


def local_date(instant: Column, timezone: str) -> Column:
    """The local date of a UTC timestamp."""
    return F.to_date(F.from_utc_timestamp(instant, timezone))


def month_of(day: Column) -> Column:
    """Calendar months since year 0 as an int: neighbours differ by one."""
    return (F.year(day) * 12 + F.month(day)).cast("int")
