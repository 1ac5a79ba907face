"""Why a cell does not fit its type, as far as its form shows, and what to do about it."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from zigong.behavior.sources.casts import DATE, TEXTS, TIMES

THOUSANDS, COMMA, HOLE = "looks like thousands separators", "decimal comma", "whole numbers written with .0"
PARTIAL, TWO_DIGITS = "partial date", "two-digit year"
MORE_DIGITS = "more digits than its type keeps"
HINTS = {
    THOUSANDS: "declare the column string and remove the separators in the SQL: try_cast(replace(replace(x, '.', ''), "
    "',', '.') AS DECIMAL(18,2)) for 1.234,56, try_cast(replace(x, ',', '') AS DECIMAL(18,2)) for 1,234.56; three "
    "digits behind the point that are none need a decimal with three digits",
    COMMA: "declare the column string and write try_cast(replace(replace(x, '.', ''), ',', '.') AS DECIMAL(18,2))",
    HOLE: "pandas writes 1.0 where a column of whole numbers has a hole: declare decimal(18,2) or double, and CAST in "
    "the SQL",
    "scientific notation": "deliver plain numbers (a spreadsheet has cut the others), or declare double",
    "leading zero": "declare string: numbers with leading zeros are codes, and 007 is not 7",
    "minus behind, or brackets": "declare string and convert it in the SQL with CASE and try_cast",
    "unit or letter": "deliver the number alone, declare string and remove the unit in the SQL, or list the text in "
    "null_values if it means an empty cell",
    MORE_DIGITS: "declare a type that keeps every digit, and round in the SQL if that is meant",
    "too large": "declare bigint, a decimal with more digits, or string for an identifier",
    PARTIAL: "declare string and choose in the SQL when the fact was known: a month is known at its end",
    "time without a date": "deliver date and time, or declare string and join them in the SQL",
    TWO_DIGITS: "declare string and use try_to_timestamp with the right century; Spark's yy means 2000 to 2099",
    "no dashes": "declare string and use try_to_timestamp(x, 'yyyyMMdd')",
    "another order": "declare string and use try_to_timestamp(x, 'dd.MM.yyyy') or the pattern that fits",
    "one-digit month or day": "declare string and use try_to_timestamp(x, 'yyyy-M-d')",
    "time of day": "declare timestamp: the time of a date would be cut off",
    "no such day": "correct the source",
    "year beyond 9999": "correct the source; a text that means 'never' belongs into null_values",
    "more behind it": "deliver dates as 2023-04-01 and times as 2023-04-01 12:30:00, with an offset or a zone such as "
    "Europe/Berlin if any",
}  # fmt: skip
_NUMBER_FORMS = (
    (THOUSANDS, r"\A[+-]?[1-9][0-9]{0,2}(?:[.,'’ \u00a0\u202f][0-9]{3})+(?:[.,][0-9]{1,2})?-?\z"),
    ("minus behind, or brackets", r"\A(?:[0-9.,]+-|\([0-9.,]+\))\z"),
    (COMMA, r"\A[+-]?[0-9]*,[0-9]+\z"),
    ("scientific notation", r"\A[+-]?[0-9.,]+[eE][+-]?[0-9]+\z"),
    ("leading zero", r"\A[+-]?0[0-9]+(?:\.[0-9]+)?\z"),
)
_LAST_NUMBER_FORMS = (("too large", r"\A[+-]?[0-9]+\z"), ("unit or letter", r"[\p{L}\p{Sc}%]"))
_TIME_FORMS = (
    ("year beyond 9999", r"\A[+-]?[0-9]{5,}-|\A0000-"),
    (PARTIAL, r"\A[+-]?[0-9]{4}(?:-[0-9]{1,2})?\z|\A[0-9]{1,2}[./-][0-9]{4}\z"),
    ("time without a date", r"\AT?[0-9]{1,2}:[0-9]{2}"),
    (TWO_DIGITS, r"\A[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{2}(?![0-9])|\A[0-9]{6}\z"),
    ("no dashes", r"\A[0-9]{8}(?:T?[0-9]{6})?\z"),
    ("another order", r"\A[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{4}|\A[0-9]{4}[./][0-9]{1,2}[./]"),
    ("one-digit month or day", r"\A[0-9]{4}-(?:[0-9]-[0-9]{1,2}|[0-9]{2}-[0-9](?![0-9]))"),
)


def likely_cause(cell: Column, found: str, wanted: str) -> Column:
    """The likely cause, a key of ``HINTS``, of a cell that does not fit its type; null where its form shows none.

    Args:
        cell: a cell that is not empty and for which ``casts.strict`` is null.
        found: its type, as in ``DataFrame.dtypes``.
        wanted: type of the mapping.
    """
    if found in TEXTS:
        return _first_form(cell.cast("string"), _forms(wanted))
    if found in TIMES:
        far = ~F.year(cell).between(1, 9999)
        return F.when(far, "year beyond 9999").when(F.lit(wanted == "date"), "time of day")
    near = cell.try_cast(wanted)
    return F.when(near.isNull(), "too large").otherwise(MORE_DIGITS)


def _forms(wanted: str) -> tuple[tuple[str, str], ...]:
    if wanted in TIMES:
        day = DATE.removesuffix(r"\z")
        behind = ("time of day" if wanted == "date" else "more behind it", rf"{day}[ T][0-9]{{2}}:")
        return (*_TIME_FORMS, behind, ("no such day", DATE), ("more behind it", day))
    fraction = HOLE if wanted in ("int", "bigint") else None
    whole = ((fraction, r"\A[+-]?[0-9]+\.0+\z"),) if fraction else ()
    return (*whole, *_NUMBER_FORMS, (MORE_DIGITS, r"\A[+-]?[0-9]*\.[0-9]+\z"), *_LAST_NUMBER_FORMS)


def _first_form(text: Column, forms: tuple[tuple[str, str], ...]) -> Column:
    return F.coalesce(*(F.when(text.rlike(form), F.lit(cause)) for cause, form in forms))
