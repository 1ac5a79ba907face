"""The columns that a mapping's SQL yields, in the types of their table; a value that does not fit is a reason."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.behavior.sources.casts import TEXTS, castable, strict
from zigong.errors import DataError

UNFIT = "_unfit"  # array<string>: why a row cannot be published, empty for a row that fits
CURRENCY = "currency_is_a_code"
_TYPES = {
    "amount": "decimal(18,2)",
    "days_past_due": "int",
    "event_at": "timestamp",
    "known_at": "timestamp",
    "valid_from": "timestamp",
}
_CODE = r"\A[A-Z]{3}\z"


def in_types(rows: DataFrame, *, section: str, origin: str) -> DataFrame:
    """The rows with numbers and times in the types of their table, and ``_unfit``, their reasons.

    A value that does not fit becomes null: ``bad_cast:COL`` for a text that is no number or time, ``more_digits:COL``
    for a number with more digits than its column keeps, ``currency_is_a_code`` for a currency that is no such code.

    Args:
        rows: as the SQL yields them.
        section: events or profiles.
        origin: the mapping, for errors.

    Raises:
        DataError: a column has a type that cannot become that of its table.
    """
    kinds = dict(rows.dtypes)
    typed: dict[str, Column] = {}
    reasons: list[Column] = []
    for name, wanted in _TYPES.items():
        if name not in kinds:
            continue
        _require_castable(name, kinds[name], wanted, section, origin)
        cell = F.trim(name) if kinds[name] == "string" else F.col(name)
        cell = F.when(cell != "", cell) if kinds[name] == "string" else cell
        typed[name] = strict(cell, kinds[name], wanted)
        near = F.lit(kinds[name] not in TEXTS) & cell.try_cast(wanted).isNotNull() & F.lit(wanted != "timestamp")
        reason = F.when(near, F.lit(f"more_digits:{name}")).otherwise(F.lit(f"bad_cast:{name}"))
        reasons.append(F.when(cell.isNotNull() & typed[name].isNull(), reason))
    if "currency" in kinds:
        text = F.col("currency").cast("string")
        typed["currency"] = F.when(text.rlike(_CODE), text)
        reasons.append(F.when(~text.rlike(_CODE), F.lit(CURRENCY)))
    unfit = F.array_compact(F.array(*reasons)).alias(UNFIT)
    return rows.select(*(typed.get(name, F.col(name)).alias(name) for name in rows.columns), unfit)


def with_unknowable(rows: DataFrame, *, happened: str) -> DataFrame:
    """Adds ``far_future:COL`` to the reasons of rows that nobody can know yet: a wrong century, or a text for never.

    An event itself may lie far ahead, such as a due date, but not the time at which it became known.

    Args:
        rows: with ``known_at`` and ``_unfit``.
        happened: the other time of the table, event_at or valid_from.
    """
    unknowable = far_future(F.col("known_at"))
    ahead = F.when(unknowable & far_future(F.col(happened)), F.lit(f"far_future:{happened}"))
    known = F.when(unknowable, F.lit("far_future:known_at"))
    return rows.withColumn(UNFIT, F.concat(UNFIT, F.array_compact(F.array(ahead, known))))


def far_future(time: Column) -> Column:
    """Whether a time lies more than a year ahead."""
    return time > F.current_timestamp() + F.expr("INTERVAL 1 YEAR")


def outside_every_range(known_date: Column) -> Column:
    """Whether a row does not fit and has no date that an ingest of some dates would ever reach."""
    never = F.array_contains(UNFIT, "far_future:known_at")
    return (F.size(UNFIT) > 0) & (known_date.isNull() | never)


def unfit_payload(rows: DataFrame, table: str, options: dict[str, str]) -> DataFrame:
    """Rows that do not fit, for quarantine: ``reasons`` and ``payload``, the columns of the table as JSON."""
    names = table_contract(table).column_names
    return rows.select(F.col(UNFIT).alias("reasons"), F.to_json(F.struct(*names), options).alias("payload"))


def _require_castable(name: str, found: str, wanted: str, section: str, origin: str) -> None:
    if not castable(found, wanted):
        raise DataError(
            f"source mapping {origin}: {name} of {section} is {found}, which cannot become {wanted}",
            action=f"let the SQL yield {wanted}, such as with timestamp_seconds or timestamp_millis for a count of time"
            if wanted == "timestamp"
            else f"let the SQL yield {wanted}",
        )
