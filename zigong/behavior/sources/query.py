"""Runs the SQL of a source mapping over the valid rows of its files."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import SourceMapping
from zigong.behavior.sources.raw import RawTables
from zigong.behavior.sources.redelivery import ARRIVED_ON
from zigong.behavior.sources.sql_rules import require_allowed, require_hidden, require_repeatable
from zigong.behavior.sources.stated import in_types
from zigong.errors import DataError

_EVENT_COLUMNS = (
    "user_key", "event_key", "loan_key", "op", "event_type", "event_at", "amount", "currency", "days_past_due",
    "attributes",
)  # fmt: skip
_PROFILE_COLUMNS = ("user_key", "valid_from", "known_at", "person_key", "attributes")


def queried_rows(spark: SparkSession, raw: RawTables, mapping: SourceMapping, section: str, timezone: str) -> DataFrame:
    """The rows of a section in the types of its table, with raw keys and ``_unfit``, see ``stated.in_types``.

    Raises:
        DataError: as ``stated_rows``.
    """
    stated = stated_rows(spark, raw, mapping, section, timezone)
    return in_types(stated, section=section, origin=mapping.origin)


def stated_rows(spark: SparkSession, raw: RawTables, mapping: SourceMapping, section: str, timezone: str) -> DataFrame:
    """The rows of a section as its SQL yields them, with raw keys.

    Files and derived views are common table expressions, so no view outlives the query. The same SQL over the same rows
    is analysed once.

    Raises:
        DataError: the SQL does not run or yields other columns, or it breaks one of the rules of ``sql_rules``.
    """
    sql = mapping.profiles_sql if section == "profiles" else mapping.events_sql
    expected = _PROFILE_COLUMNS if section == "profiles" else _EVENT_COLUMNS
    if section == "events" and mapping.known_at_lag is None:
        expected = (*expected, "known_at")
    # The author of a mapping writes SQL by design; no client data ever enters these texts.
    # A text may end in a comment, so its closing bracket is on a separate line.
    texts = [(name, _zoned(text, timezone)) for name, text in (*mapping.derived, (section, sql))]
    views = [f"{name} AS (SELECT * FROM {{{name}}})" for name in raw.good]  # noqa: S608
    views += [f"{name} AS ({_escaped(text)}\n)" for name, text in texts[:-1]]
    query = f"WITH {', '.join(views)} SELECT * FROM ({_escaped(texts[-1][1])}\n)"  # noqa: S608
    if query in raw.analysed:
        return raw.analysed[query]
    try:
        reading = require_allowed(spark, mapping, section, texts)
        found = spark.sql(query, **raw.good)
    except AnalysisException as error:
        raise DataError(
            f"source mapping {mapping.origin}: the SQL of {section} does not run: {str(error).splitlines()[0]}",
            action=f"correct {section} (or derived) of the mapping",
        ) from error
    if set(found.columns) - {ARRIVED_ON} != set(expected):
        raise DataError(
            f"source mapping {mapping.origin}: {section} must yield {', '.join(expected)}; "
            f"found {', '.join(found.columns)}",
            action=f"correct the SELECT of {section} in the mapping",
        )
    require_repeatable(found, mapping, section, reading)
    require_hidden(found, mapping, section)
    arrived_on = F.col(ARRIVED_ON) if ARRIVED_ON in found.columns else F.lit(None)
    raw.analysed[query] = found.select(*expected, arrived_on.cast("date").alias(ARRIVED_ON))
    return raw.analysed[query]


def _zoned(sql: str, timezone: str) -> str:
    """The SQL of a mapping with :timezone filled in; Spark binds no parameters inside such views."""
    return sql.replace(":timezone", f"'{ZoneInfo(timezone).key}'")


def _escaped(sql: str) -> str:
    """The SQL with its braces escaped from the placeholders of the files."""
    return sql.replace("{", "{{").replace("}", "}}")
