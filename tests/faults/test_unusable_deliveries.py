"""A delivery that cannot be read is refused with a named error; published tables remain readable."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pytest

from tests.support.shop import GOOD, HEADER, PARQUET, Files, Shop, accounted, parquet, with_column


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _torn(content: bytes) -> bytes:
    """A Parquet file with a valid footer and a damaged first column."""
    return content[:4] + b"\0" * 60 + content[64:]


ZIPPED = gzip.compress(HEADER + b"".join(b"r%d,c,1,2023-03-25,order,1,%d\n" % (n, n * n) for n in range(20_000)))
NUMBERS_AS_TEXT = with_column(PARQUET, "NUMBER", pa.array(["1", "x"]))
REFUSED: dict[str, tuple[Files, str, str, tuple[str, ...]]] = {
    "no file": ({"other.csv": b""}, "rows.csv", "source.path", ("rows.csv does not exist",)),
    "an empty folder": ({"rows_csv/.keep": b""}, "rows_csv", "deliver", ("rows_csv holds no file",)),
    "an empty csv": ({"rows.csv": b""}, "rows.csv", "columns", ("rows.csv", "ROW, CLIENT", "the file is empty")),
    "only a header": ({"rows.csv": HEADER}, "rows.csv", "fix", ("behavior_events", "audit blocked 0 rows")),
    "an empty json": ({"rows.json": b""}, "rows.json", "fix", ("behavior_events", "audit blocked 0 rows")),
    "a missing column": (
        {"rows.csv": GOOD.replace(b"AMOUNT", b"SUM")}, "rows.csv", "columns", ("AMOUNT is missing", "SUM, RATE"),
    ),
    "a column twice": (
        {"rows.csv": GOOD.replace(b"RATE", b"AMOUNT")}, "rows.csv", "columns", ("rows.csv", "AMOUNT occurs twice"),
    ),
    "UTF-16": ({"rows.csv": GOOD.decode().encode("utf-16")}, "rows.csv", "encoding: utf-16", ("rows.csv", "in UTF-16")),
    "no header": (
        {"rows.csv": GOOD.split(b"\n", 1)[1]}, "rows.csv", "header: false",
        ("AMOUNT, RATE is missing", "found a9, aaaa, 9, ", "line 1"),
    ),
    "a column that the second file lacks": (
        {"csv/a.csv": GOOD, "csv/b.csv": b"CLIENT,ROW,NUMBER,DAY,KIND,RATE\nx,y,1,2023-03-25,order,1\n"},
        "csv", "same columns", ("column AMOUNT is missing in csv/b.csv",),
    ),
    "a truncated gzip": ({"rows.csv.gz": _half(ZIPPED)}, "rows.csv.gz", "again", ("rows.csv.gz", "end-of-stream")),
    "no gzip": ({"rows.csv.gz": GOOD}, "rows.csv.gz", "again", ("rows.csv.gz", "not a gzip file")),
    "a truncated parquet": (
        {"rows.parquet": _half(parquet(PARQUET))}, "rows.parquet", "again", ("rows.parquet", "not a Parquet file"),
    ),
    "an empty parquet": ({"rows.parquet": b""}, "rows.parquet", "again", ("rows.parquet", "length is too low")),
    "a parquet with a torn column": (
        {"rows.parquet": _torn(parquet(PARQUET))}, "rows.parquet", "again", ("rows.parquet", "cannot be read"),
    ),
    "one broken parquet of two": (
        {"parquet/a.parquet": parquet(PARQUET), "parquet/b.parquet": _half(parquet(PARQUET))},
        "parquet", "again", ("parquet/b.parquet", "not a Parquet file"),
    ),
    "one parquet of two with other types": (
        {"parquet/a.parquet": parquet(PARQUET), "parquet/b.parquet": parquet(NUMBERS_AS_TEXT)},
        "parquet", "again", ("parquet/b.parquet", "column [NUMBER] holds BINARY", "int"),
    ),
    "a parquet type that cannot be a date": (
        {"rows.parquet": parquet(with_column(PARQUET, "DAY", pa.array([1, 2])))},
        "rows.parquet", "type", ("raw file rows", "column DAY holds bigint, which cannot become date"),
    ),
    "a torn Delta log": (
        {"delta/_delta_log/00000000000000000000.json": b"{"}, "delta", "again", ("00000000000000000000.json",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("delivery", REFUSED)
def test_an_unusable_delivery_is_named_with_the_next_action_and_changes_nothing(shop: Shop, delivery: str) -> None:
    files, path, action, fragments = REFUSED[delivery]
    before = shop.published()

    outcome = shop.ingest(files, path)

    assert (outcome.kind, outcome.code, outcome.retryable) == ("data", 3, False), outcome.message
    assert all(words in outcome.message for words in fragments), outcome.message
    assert action in outcome.action
    assert accounted(outcome)
    assert shop.published() == before


def test_a_value_that_the_sql_cannot_compute_with_names_the_sql_and_hides_the_value(shop: Shop) -> None:
    before = shop.published()
    outcome = shop.ingest({"rows.csv": GOOD}, "rows.csv", amount="CAST(concat(KIND, '7') AS INT)")
    assert (outcome.kind, outcome.code) == ("data", 3)
    assert "CAST_INVALID_INPUT in CAST(concat(KIND, '7') AS INT)" in outcome.message
    assert "order7" not in outcome.message + outcome.action
    assert shop.published() == before
