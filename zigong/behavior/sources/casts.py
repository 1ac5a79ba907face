"""Strict casts: a cell has a value only where it is written in the form of its type and nothing of it is lost.

Spark's own casts are lenient: they round `0.005` to 0.01, take `2023-03` for the first of March and `12:30` for today,
and ignore what follows a date. Everything here is a native expression of Spark, so that it costs a scan little.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

TEXTS, TIMES = ("string", "binary"), ("date", "timestamp", "timestamp_ntz")
_WHOLE = r"(?:0|[1-9][0-9]*)"
_DAY = r"(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6}0*)?)?"
_ZONE = r"(?:Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?|[A-Z][A-Za-z]+(?:/[A-Za-z0-9_+-]+)+)"
DATE = rf"\A{_DAY}\z"
TIMESTAMP = rf"\A{_DAY}(?:[ T]{_CLOCK}(?: ?{_ZONE})?)?\z"
INTEGER = rf"\A[+-]?{_WHOLE}\z"
NOT_FINITE = r"(?i:nan|[+-]?inf(?:inity)?)"
DOUBLE = rf"\A(?:[+-]?(?:{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,3}})?|{NOT_FINITE})\z"
ZONED = rf"[0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:[.,][0-9]+)?)?\s?{_ZONE}\s*\z"  # any text that ends in time and zone
_EXACT_DIGITS = 15  # a double keeps every decimal number of so many digits
_NOISE = 1e-14  # relative error of double arithmetic, such as 0.1 + 0.2: no digit of the source
_CENT = 0.005


def decimal_pattern(kind: str) -> str:
    """The form of the texts of a ``decimal(p,s)``: a point, at most s digits behind it, no exponent."""
    scale = int(kind.rstrip(")").rpartition(",")[2])
    if scale == 0:
        return INTEGER
    return rf"\A[+-]?(?:{_WHOLE}(?:\.[0-9]{{1,{scale}}})?|\.[0-9]{{1,{scale}}})\z"


def castable(found: str, wanted: str) -> bool:
    """Whether values of a type can become the wanted one at all: a number is no time, since it states no unit."""
    number = found not in (*TEXTS, *TIMES, "void")
    return not (number and wanted in TIMES) and not (found in TIMES and wanted not in (*TIMES, "string"))


def strict(cell: Column, found: str, wanted: str) -> Column:
    """The cell in the wanted type; null where it is empty, in another form, or would lose anything.

    Args:
        cell: the cell; a text without surrounding blanks.
        found: its type, as in ``DataFrame.dtypes``.
        wanted: type of a mapping: string, int, bigint, double, decimal(p,s), date or timestamp.
    """
    if found == wanted:
        return F.when(outside_java(cell), cell) if wanted in TIMES else cell
    if found == "void":
        return cell.cast(wanted)
    if wanted == "string":
        return cell.try_cast("string")
    if found in TEXTS:
        return _from_text(cell.cast("string"), wanted)
    return _from_value(cell, found, wanted)


def outside_java(time: Column) -> Column:
    """Whether a date or time exists outside Java too: it lies in the years 1 to 9999."""
    return F.year(time).between(1, 9999)


def _from_text(text: Column, wanted: str) -> Column:
    value = text.try_cast(wanted)
    if wanted == "double":
        return F.when(text.rlike(DOUBLE) & _keeps_digits(text, value), value)
    known = {"date": DATE, "timestamp": TIMESTAMP, "int": INTEGER, "bigint": INTEGER}
    fits = text.rlike(known[wanted] if wanted in known else decimal_pattern(wanted))
    return F.when(fits & outside_java(value) if wanted in TIMES else fits, value)


def _keeps_digits(text: Column, value: Column) -> Column:
    """Whether a double is the number of its text: to the last digit, or, with more than 15 digits, to the cent."""
    off = text.try_cast("decimal(38,12)") - value.try_cast("string").try_cast("decimal(38,12)")
    same = _digits(text) == _digits(value.try_cast("string"))
    return (F.length(_digits(text)) <= _EXACT_DIGITS) | same | F.coalesce(F.abs(off) < _CENT, F.lit(False))


def _digits(number: Column) -> Column:
    """The significant digits of a number: without sign, point, exponent and the zeros on both sides."""
    plain = F.regexp_replace(number, r"[eE].*\z|[+\-.]", "")
    return F.regexp_replace(plain, r"\A0+|0+\z", "")


def _from_value(cell: Column, found: str, wanted: str) -> Column:
    """A typed cell whose value comes back unchanged from the wanted type."""
    source = cell.try_cast("string") if found == "float" and wanted != "int" else cell
    value = source.try_cast(wanted)
    back = value.try_cast(found)
    if found in ("float", "double") and wanted.startswith("decimal"):
        same = F.abs(back - cell) <= F.abs(cell) * _NOISE
    else:
        same = back == cell
    return F.when(same & outside_java(value) if wanted in TIMES else same, value)
