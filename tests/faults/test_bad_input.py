"""Whatever a source delivers ends in quarantine by name or in a named error; what was published stays readable."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.ingest_events import ingest_events
from tests.finished import TINY
from zigong.dates import Dates
from zigong.job import runs_folder
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.launch import run_step
from zigong.recipe import load_recipe
from zigong.run import Outcome, open_run

MAPPING = """
name: shop
data: public
title: shop
files:
  rows:
    path: PATH
    format: FORMAT
    columns:
      ROW: {type: string, required: true}
      CLIENT: {type: string, required: true, identifier: true}
      NUMBER: {type: int, required: true}
      DAY: {type: date, required: true}
      KIND: {type: string, required: true, values: [order, repayment]}
      AMOUNT: {type: "decimal(18,2)", minimum: 0}
      RATE: {type: double}
events: >
  SELECT CLIENT AS user_key, ROW AS event_key, CAST(NULL AS STRING) AS loan_key, 'upsert' AS op, KIND AS event_type,
    CAST(DAY AS TIMESTAMP) AS event_at, SQL_AMOUNT AS amount, 'EUR' AS currency, NUMBER AS days_past_due,
    CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM rows
profiles: >
  SELECT CLIENT AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    CAST(NULL AS STRING) AS person_key, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM (SELECT DISTINCT CLIENT FROM rows)
known_at: {lag: INTERVAL 30 MINUTES}
outcome_events: [repayment]
max_refused_share: 1
"""
HEADER = b"ROW,CLIENT,NUMBER,DAY,KIND,AMOUNT,RATE\n"
GOOD_ROWS = [
    b"g1,anna,1,2023-03-25,order,12.50,0.1",
    b"g2,anna,2,2023-03-25,repayment,12.50,",
    b"g3,b\xc3\xa4r,3,2023-03-26,order,0,",
]
GOOD = HEADER + b"\n".join(GOOD_ROWS) + b"\n"
PARQUET = pa.table(
    {
        "ROW": ["g1", "g2"],
        "CLIENT": ["anna", "berta"],
        "NUMBER": pa.array([1, 2], pa.int32()),
        "DAY": [date(2023, 3, 25), date(2023, 3, 26)],
        "KIND": ["order", "repayment"],
        "AMOUNT": pa.array([Decimal("12.50"), None], pa.decimal128(18, 2)),
        "RATE": [0.1, None],
    }
)
TABLES = ("behavior_events", "user_profiles")
Files = dict[str, bytes]


@dataclass(frozen=True)
class Shop:
    """A lakehouse that a small source is ingested into, once for every delivery."""

    home: Path
    root: Path
    runs: Iterator[int]

    def ingest(
        self, files: Files, path: str, *, amount: str = "AMOUNT", run_id: str | None = None, dates: Dates | None = None
    ) -> Outcome:
        """Runs the real job on the files of one delivery."""
        name = run_id or f"delivery-{next(self.runs)}"
        folder = self.home / name
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        form = next(form for form in ("parquet", "json", "delta", "csv") if form in path)
        text = MAPPING.replace("PATH", path).replace("FORMAT", form).replace("SQL_AMOUNT", amount)
        (self.home / f"{name}.yaml").write_text(text)
        overrides = [f"lakehouse.root={self.root}", f"source.path={folder}", "source.simulation=null"]
        recipe = load_recipe(TINY, [*overrides, f"source.mapping={self.home / f'{name}.yaml'}"])
        return run_step("ingest_events", ingest_events, open_run(recipe, runs_folder(recipe), name), dates)

    @property
    def paths(self) -> LakehousePaths:
        return LakehousePaths.at(str(self.root))

    def rows(self, table: str) -> list[dict[str, Any]]:
        return arrow_pinned(self.paths, table, latest_version(self.paths, table)).to_pylist()

    def published(self) -> dict[str, tuple[int, list[str]]]:
        """Version and content of the tables, as another engine reads them."""
        return {name: (latest_version(self.paths, name), sorted(map(str, self.rows(name)))) for name in TABLES}

    def quarantined(self, table: str) -> list[tuple[list[str], dict[str, Any]]]:
        """Reasons and payloads of the newest run."""
        rows = [row for row in self.rows("quarantine") if row["table_name"] == table]
        newest = max((row["quarantined_at"] for row in rows), default=None)
        return [(row["reasons"], json.loads(row["payload"])) for row in rows if row["quarantined_at"] == newest]


def accounted(outcome: Outcome) -> bool:
    return all(
        counts["rows_in"] == counts["published"] + counts["quarantined"] + sum(counts["dropped"].values())
        for counts in outcome.tables.values()
    )


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    home = tmp_path_factory.mktemp("shop")
    shop = Shop(home, home / "lake", count())
    assert shop.ingest({"rows.csv": GOOD}, "rows.csv").kind == "ok"
    assert [len(rows) for _, rows in shop.published().values()] == [3, 2]
    return shop


BAD_CSV_ROWS = {
    b"a1,anna,1,2023-02-30,order,1,": ["bad_cast:DAY"],
    b"a2,anna,1,soon,order,1,": ["bad_cast:DAY"],
    b"a3,anna,3000000000,2023-03-25,order,1,": ["bad_cast:NUMBER"],
    b"b1,anna,1,2023-03-25,order,1,NaN": ["not_finite:RATE"],
    b"b2,anna,1,2023-03-25,order,1,-Infinity": ["not_finite:RATE"],
    b"b3,anna,1,2023-03-25,order,NaN,": ["bad_cast:AMOUNT"],
    b"b4,anna,1,2023-03-25,order,1e300,": ["bad_cast:AMOUNT"],
    b"c1,anna,1,2023-03-25,order,-0.01,": ["below_minimum:AMOUNT"],
    b"c2,anna,1,2023-03-25,dance,1,": ["unknown_value:KIND"],
    b"c3,,x,2023-03-25,order,1,": ["missing:CLIENT", "bad_cast:NUMBER"],
    b"d1,anna,1,2023-03-25,order,1,,too,many": ["malformed_row"],
    b"d2,anna,1,2023-03-25": ["malformed_row"],
    b'd3,anna,1,"2023-03-25,order,1,': ["malformed_row"],
    b"e1,an\x00na,1,2023-03-25,order,1,": ["broken_text:CLIENT"],
    b"e2,b\xe4r,1,2023-03-25,order,1,": ["broken_text:CLIENT"],  # Latin-1
    b"e3," + b"x" * 10_000_000 + b",1,2023-03-25,order,1,": ["too_long:CLIENT"],
    b"e4,anna,1,2023-03-25," + b"k" * 10_000_000 + b",1,": ["unknown_value:KIND", "too_long:KIND"],
}


@pytest.mark.soak
def test_every_bad_row_of_a_csv_is_quarantined_by_name_and_the_others_are_published(shop: Shop) -> None:
    late = b"f1,anna,1,99999-01-01,order,1,"  # a date to Spark, but to no other engine
    negative = b"f2,anna,-1,2023-03-25,order,1,"
    more = [b"h%d,anna,1,2023-03-25,order,1," % number for number in range(20)]  # few enough are bad for the breaker
    content = GOOD + b"\n".join([*more, *BAD_CSV_ROWS, late, negative]) + b"\n"

    outcome = shop.ingest({"rows.csv": content}, "rows.csv")

    assert (outcome.kind, accounted(outcome)) == ("ok", True)
    raw, events = outcome.tables["raw_shop"], outcome.tables["behavior_events"]
    assert raw == {"rows_in": 42, "published": 25, "quarantined": 17, "dropped": {}, "version": None}
    assert (events["rows_in"], events["published"], events["quarantined"]) == (25, 23, 2)
    refused = shop.quarantined("raw_shop")
    # Of a malformed row only the shapes are kept: its cells may be those of other columns.
    expected = [
        ("a9" if reasons == ["malformed_row"] else row.partition(b",")[0].decode(), reasons)
        for row, reasons in BAD_CSV_ROWS.items()
    ]
    assert sorted((payload["ROW"], reasons) for reasons, payload in refused) == sorted(expected)
    assert max(len(json.dumps(payload)) for _, payload in refused) < 2_000, "a huge cell is kept by its beginning"
    assert sorted(reasons for reasons, _ in shop.quarantined("behavior_events")) == [
        ["days_past_due_not_negative"],
        ["times_within_1900_and_2200"],
    ]


@pytest.mark.soak
def test_broken_json_lines_are_quarantined_and_the_others_are_published(shop: Shop) -> None:
    row = {"ROW": "g1", "CLIENT": "anna", "NUMBER": 1, "DAY": "2023-03-25", "KIND": "order", "AMOUNT": 1.5, "MORE": 1}
    changed: list[dict[str, Any]] = [
        {"AMOUNT": -1},
        {"RATE": float("inf")},
        {"NUMBER": {"x": 1}, "DAY": [1]},
        {"CLIENT": "a\0"},
    ]
    lines = [json.dumps({**row, "ROW": f"b{number}", **change}) for number, change in enumerate(changed)]
    broken = ['{"ROW": "x", "CLIENT', "null", '"text"', "[1, 2]", "{}"]

    outcome = shop.ingest({"rows.json": "\n".join([json.dumps(row), *lines, *broken]).encode()}, "rows.json")

    assert (outcome.kind, accounted(outcome)) == ("ok", True)
    assert outcome.tables["behavior_events"]["published"] == 1
    required = [f"missing:{name}" for name in ("ROW", "CLIENT", "NUMBER", "DAY", "KIND")]
    assert sorted(reasons for reasons, _ in shop.quarantined("raw_shop")) == sorted(
        [["below_minimum:AMOUNT"], ["not_finite:RATE"], ["bad_cast:NUMBER", "bad_cast:DAY"], ["broken_text:CLIENT"]]
        + [["malformed_row"]] * 4
        + [required]
    )


@pytest.mark.soak
def test_numbers_that_are_none_and_broken_text_of_parquet_are_quarantined(shop: Shop) -> None:
    rows = pa.concat_tables([PARQUET] * 3).combine_chunks()
    rows = _with(rows, "RATE", pa.array([float("nan"), float("-inf"), 0.0, 0.0, 0.0, None]))
    rows = _with(rows, "AMOUNT", pa.array([Decimal(1)] * 2 + [Decimal(-1)] + [Decimal(1)] * 3, pa.decimal128(18, 2)))
    rows = _with(rows, "CLIENT", pa.array([b"a", b"b", b"c", b"\xff\xfe", b"e", b"f"]).view(pa.string()))
    rows = _with(rows, "ROW", pa.array(list("abcdef")))

    outcome = shop.ingest({"rows.parquet": _parquet(rows)}, "rows.parquet")

    assert (outcome.kind, accounted(outcome)) == ("ok", True)
    assert {payload["ROW"]: reasons for reasons, payload in shop.quarantined("raw_shop")} == {
        "a": ["not_finite:RATE"],
        "b": ["not_finite:RATE"],
        "c": ["below_minimum:AMOUNT"],
        "d": ["broken_text:CLIENT"],
    }
    assert outcome.tables["behavior_events"]["published"] == 2


def _with(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, values)


def _parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    return sink.getvalue().to_pybytes()


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _torn(content: bytes) -> bytes:
    """A file whose footer is whole and whose first column is not."""
    return content[:4] + b"\0" * 60 + content[64:]


ZIPPED = gzip.compress(HEADER + b"".join(b"r%d,c,1,2023-03-25,order,1,%d\n" % (n, n * n) for n in range(20_000)))
NUMBERS_AS_TEXT = _with(PARQUET, "NUMBER", pa.array(["1", "x"]))
REFUSED: dict[str, tuple[Files, str, str, tuple[str, ...]]] = {
    "no file": ({"other.csv": b""}, "rows.csv", "source.path", ("rows.csv does not exist",)),
    "an empty folder": ({"rows_csv/.keep": b""}, "rows_csv", "deliver", ("rows_csv holds no file",)),
    "an empty csv": ({"rows.csv": b""}, "rows.csv", "columns", ("rows.csv", "ROW, CLIENT", "the file is empty")),
    "only a header": ({"rows.csv": HEADER}, "rows.csv", "mend", ("behavior_events", "audit blocked 0 rows")),
    "an empty json": ({"rows.json": b""}, "rows.json", "mend", ("behavior_events", "audit blocked 0 rows")),
    "a missing column": (
        {"rows.csv": GOOD.replace(b"AMOUNT", b"SUM")}, "rows.csv", "columns", ("AMOUNT is missing", "SUM, RATE"),
    ),
    "a column twice": (
        {"rows.csv": GOOD.replace(b"RATE", b"AMOUNT")}, "rows.csv", "columns", ("rows.csv", "AMOUNT stands twice"),
    ),
    "UTF-16": ({"rows.csv": GOOD.decode().encode("utf-16")}, "rows.csv", "UTF-8", ("is missing", "?C?L?I?E")),
    "another order in the second file": (
        {"csv/a.csv": GOOD, "csv/b.csv": b"CLIENT,ROW,NUMBER,DAY,KIND,AMOUNT,RATE\nx,y,1,2023-03-25,order,1,\n"},
        "csv", "again", ("csv/b.csv", "header does not conform", "CLIENT, ROW"),
    ),
    "a truncated gzip": ({"rows.csv.gz": _half(ZIPPED)}, "rows.csv.gz", "again", ("rows.csv.gz", "Unexpected end")),
    "no gzip": ({"rows.csv.gz": GOOD}, "rows.csv.gz", "again", ("rows.csv.gz", "not a gzip file")),
    "a truncated parquet": (
        {"rows.parquet": _half(_parquet(PARQUET))}, "rows.parquet", "again", ("rows.parquet", "not a Parquet file"),
    ),
    "an empty parquet": ({"rows.parquet": b""}, "rows.parquet", "again", ("rows.parquet", "length is too low")),
    "a parquet with a torn column": (
        {"rows.parquet": _torn(_parquet(PARQUET))}, "rows.parquet", "again", ("rows.parquet", "cannot be read"),
    ),
    "one broken parquet of two": (
        {"parquet/a.parquet": _parquet(PARQUET), "parquet/b.parquet": _half(_parquet(PARQUET))},
        "parquet", "again", ("parquet/b.parquet", "not a Parquet file"),
    ),
    "one parquet of two with other types": (
        {"parquet/a.parquet": _parquet(PARQUET), "parquet/b.parquet": _parquet(NUMBERS_AS_TEXT)},
        "parquet", "again", ("parquet/b.parquet", "column [NUMBER] holds BINARY", "int"),
    ),
    "a parquet type that cannot be a date": (
        {"rows.parquet": _parquet(_with(PARQUET, "DAY", pa.array([1, 2])))},
        "rows.parquet", "type", ("raw file rows", "column DAY holds bigint, which cannot become date"),
    ),
    "a torn Delta log": (
        {"delta/_delta_log/00000000000000000000.json": b"{"}, "delta", "again", ("00000000000000000000.json",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("delivery", REFUSED)
def test_an_unusable_delivery_is_named_with_the_next_action_and_changes_nothing(shop: Shop, delivery: str) -> None:
    files, path, action, said = REFUSED[delivery]
    before = shop.published()

    outcome = shop.ingest(files, path)

    assert (outcome.kind, outcome.code, outcome.retryable) == ("data", 3, False)
    assert all(words in outcome.message for words in said), outcome.message
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


@pytest.mark.soak
def test_a_night_without_events_empties_nothing_else_and_extra_columns_are_told(shop: Shop) -> None:
    assert shop.ingest({"rows.csv": GOOD}, "rows.csv").kind == "ok"
    events = shop.published()["behavior_events"][1]
    wider = GOOD.replace(b"RATE\n", b"RATE,NOTE\n").replace(b"0.1\n", b"0.1,hello\n").replace(b",\n", b",,\n")

    night = Dates(first=date(2023, 4, 1), end=date(2023, 4, 2))
    outcome = shop.ingest({"rows.csv": wider}, "rows.csv", run_id="wide", dates=night)

    assert (outcome.kind, accounted(outcome)) == ("ok", True)
    assert outcome.tables["raw_shop"]["quarantined"] == 0
    assert outcome.tables["behavior_events"]["rows_in"] == 0
    assert shop.published()["behavior_events"][1] == events
    manifest = json.loads((shop.root / "_runs" / "wide" / "manifest.json").read_text())
    assert manifest["facts"]["unread_columns"] == "rows: NOTE"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a table may still be held open


@pytest.mark.soak
def test_a_full_disk_ends_as_an_infra_error_and_the_same_run_goes_on_once_there_is_space(
    spark: SparkSession, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 48):
        shop = Shop(tmp_path, tmp_path / "disk" / "lake", count())
        assert shop.ingest({"rows.csv": GOOD}, "rows.csv").kind == "ok"
        before, filler = shop.published(), tmp_path / "disk" / "filler"
        larger = HEADER + b"".join(b"r%d,c%d,1,2023-03-25,order,%d,\n" % (n, n, n * n % 9973) for n in range(20_000))

        fill(filler, spare=400_000)
        outcome = shop.ingest({"rows.csv": larger}, "rows.csv", run_id="full")

        assert (outcome.kind, outcome.code, outcome.retryable) == ("infra", 5, True), outcome.message
        assert "No space left on device" in outcome.message
        assert "same run id" in outcome.action
        assert shop.published() == before
        assert not list((shop.root / "_staging").rglob("*.parquet"))
        recorded = shop.root / "_runs" / "full" / "outcome.json"  # may be missing where not even it found space
        assert not recorded.exists() or json.loads(recorded.read_text())["kind"] == "infra"
        assert not list(recorded.parent.rglob("*.part"))

        filler.unlink()
        again = shop.ingest({"rows.csv": larger}, "rows.csv", run_id="full")
        assert (again.kind, accounted(again)) == ("ok", True), again.message
        assert json.loads(recorded.read_text())["kind"] == "ok"
        assert len(shop.published()["behavior_events"][1]) == 20_000


def fill(file: Path, *, spare: int) -> None:
    """Takes all of a disk but ``spare`` bytes."""
    free = os.statvfs(file.parent)
    with file.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize - spare)
