"""A cell is taken only in the exact form of its type; what Spark would round, complete or ignore is refused."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from zigong.behavior.sources.casts import castable, strict
from zigong.behavior.sources.causes import HINTS, likely_cause

D = Decimal
TAKEN: dict[str, dict[str, Any]] = {
    "decimal(18,2)": {
        "12.5": D("12.50"),
        "-0.04": D("-0.04"),
        "+7": D(7),
        ".5": D("0.50"),
        "9999999999999999.99": D("9999999999999999.99"),
    },
    "int": {"0": 0, "-12": -12, "2147483647": 2147483647},
    "bigint": {"9007199254740993": 9007199254740993},
    "double": {
        "1.5": 1.5,
        "2.00E+05": 200000.0,
        "1e-07": 1e-07,
        "0.30000000000000004": 0.1 + 0.2,
        "0.10000000000000001": 0.1,  # as %.17g writes it
        "3.000": 3.0,
        "Infinity": float("inf"),
    },
    "date": {"2024-02-29": date(2024, 2, 29), "9999-12-31": date(9999, 12, 31)},
    "timestamp": {
        "2023-03-05": datetime(2023, 3, 5),
        "2023-03-05 10:00": datetime(2023, 3, 5, 10),
        "2023-03-05T10:00:00.1234560": datetime(2023, 3, 5, 10, 0, 0, 123456),
        "2023-07-01 00:30:00+02:00": datetime(2023, 6, 30, 22, 30),
        "2023-07-02T10:00:00Z": datetime(2023, 7, 2, 10),
        "2023-07-02 10:00:00 Europe/Berlin": datetime(2023, 7, 2, 8),
    },
}
REFUSED: dict[str, dict[str, str | None]] = {
    "decimal(18,2)": {
        "3.000": "looks like thousands separators",
        "12.000": "looks like thousands separators",
        "1.234,56": "looks like thousands separators",
        "1,234": "looks like thousands separators",
        "1'000,00": "looks like thousands separators",
        "59,90": "decimal comma",
        "0.005": "more digits than its type keeps",
        "1234.567": "more digits than its type keeps",
        "-0.004": "more digits than its type keeps",
        "1.2E+05": "scientific notation",
        "007.50": "leading zero",
        "5.00-": "minus behind, or brackets",
        "12.50 EUR": "unit or letter",
        "12345678901234567.89": "more digits than its type keeps",
        "5\n": None,
        "٣": None,
    },
    "int": {
        "1.0": "whole numbers written with .0",
        "1.5": "more digits than its type keeps",
        "007": "leading zero",
        "3000000000": "too large",
        "1e3": "scientific notation",
        "true": "unit or letter",
    },
    "bigint": {"9223372036854775808": "too large", "1,234": "looks like thousands separators"},
    "double": {
        "1.5d": "unit or letter",
        "2F": "unit or letter",
        "0x1p3": "unit or letter",
        "12345678901234567.89": "more digits than its type keeps",
        "9007199254740993": "too large",
        "1.234.567": "looks like thousands separators",
    },
    "date": {
        "2023-03": "partial date",
        "2022": "partial date",
        "03/2023": "partial date",
        "2023-3-7": "one-digit month or day",
        "2023-03-09T23:59:00": "time of day",
        "2023-03-09 00:00:00": "time of day",
        "2023-03-05 garbage": "more behind it",
        "+2023-03-11": None,
        "2023-02-29": "no such day",
        "01.04.23": "two-digit year",
        "230401": "two-digit year",
        "20230401": "no dashes",
        "01.04.2023": "another order",
        "10000-01-01": "year beyond 9999",
        "0000-01-01": "year beyond 9999",
    },
    "timestamp": {
        "12:30:00": "time without a date",
        "T07:15": "time without a date",
        "2022": "partial date",
        "2023-03": "partial date",
        "2023-03-05 10:00:00 CST": "more behind it",
        "2023-03-05 10:00:00.1234567": "more behind it",
        "2023-03-05 24:00:00": "more behind it",
        "99999-01-01 00:00:00": "year beyond 9999",
    },
}
F32, US = pa.float32(), pa.timestamp("us", tz="UTC")
# type of a Parquet column, declared type, cells, values, causes of the cells without one
TYPED: list[tuple[Any, str, list[Any], list[Any], list[str]]] = [
    (pa.float64(), "decimal(18,2)", [0.005, 12.34, 0.1 + 0.2], [None, D("12.34"), D("0.30")], ["more digits"]),
    (F32, "decimal(18,2)", [12.34, 0.125], [D("12.34"), None], ["more digits"]),
    (F32, "double", [12.34], [12.34], []),
    (pa.decimal128(18, 3), "decimal(18,2)", [D("1.234"), D("1.230")], [None, D("1.23")], ["more digits"]),
    (pa.int64(), "double", [9007199254740993, 7], [None, 7.0], ["more digits"]),
    (pa.int64(), "int", [3_000_000_000, 7], [None, 7], ["too large"]),
    (pa.float64(), "int", [1.0, 1.5, None], [1, None, None], ["more digits"]),
    (US, "date", [datetime(2023, 3, 9, 23, 59), datetime(2023, 3, 9)], [None, date(2023, 3, 9)], ["time of day"]),
    (
        US,
        "timestamp",
        [datetime(2023, 3, 9, 23, 59), 253402300800000000],
        [datetime(2023, 3, 9, 23, 59), None],
        ["year"],
    ),
    (pa.date32(), "date", [2932897, 19000], [None, date(2022, 1, 8)], ["year"]),
]


def read(spark: SparkSession, cells: Any, found: str, wanted: str) -> list[tuple[Any, str | None]]:
    """Value and likely cause of each cell."""
    value = strict(F.col("cell"), found, wanted)
    cause = F.when(F.col("cell").isNotNull() & value.isNull(), likely_cause(F.col("cell"), found, wanted))
    return [(row[0], row[1]) for row in cells.select(value, cause).collect()]


@pytest.mark.parametrize("wanted", TAKEN)
def test_a_text_in_the_form_of_its_type_keeps_its_value(spark: SparkSession, wanted: str) -> None:
    cells = spark.createDataFrame([(text,) for text in TAKEN[wanted]], "cell string").coalesce(1)
    assert read(spark, cells, "string", wanted) == [(value, None) for value in TAKEN[wanted].values()]


@pytest.mark.parametrize("wanted", REFUSED)
def test_a_text_in_another_form_is_refused_with_its_likely_cause(spark: SparkSession, wanted: str) -> None:
    cells = spark.createDataFrame([(text,) for text in REFUSED[wanted]], "cell string").coalesce(1)
    assert read(spark, cells, "string", wanted) == [(None, cause) for cause in REFUSED[wanted].values()]


def test_a_typed_cell_is_taken_only_where_its_value_comes_back(spark: SparkSession, tmp_path: Path) -> None:
    for number, (kind, wanted, cells, values, causes) in enumerate(TYPED):
        file = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"cell": pa.array(cells, kind)}), file)
        frame = spark.read.parquet(str(file))
        found = read(spark, frame, dict(frame.dtypes)["cell"], wanted)
        assert [value for value, _ in found] == values, (kind, wanted)
        shown = [cause for _, cause in found if cause is not None]
        assert [cause[: len(start)] for cause, start in zip(shown, causes, strict=True)] == causes, (kind, wanted)


def test_a_number_is_no_time_and_a_time_no_number() -> None:
    assert not any(castable(number, "timestamp") for number in ("int", "bigint", "double", "decimal(18,2)"))
    assert not castable("timestamp", "bigint")
    assert castable("date", "timestamp")
    assert castable("timestamp", "string")


def test_every_cause_has_a_hint() -> None:
    assert {cause for causes in REFUSED.values() for cause in causes.values() if cause} == set(HINTS)
