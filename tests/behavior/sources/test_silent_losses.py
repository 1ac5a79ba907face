"""What a mapping's SQL loses, moves or drops is a finding with its rows, and above a bound the run refuses it too."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from typer.testing import CliRunner

from schemas.mappings import SourceMapping
from tests.support.toy_source import checked, found, mapping_of, of_the_columns, of_the_sql, raw_of, text_of, write
from zigong.behavior.sources.ingest import Versions, deduplicated, rejected_rows, stated_events
from zigong.behavior.sources.repeats import require_few_repeated
from zigong.behavior.sources.row_findings import unfit_values
from zigong.behavior.sources.sql_findings import conversion_findings, require_few_emptied
from zigong.behavior.sources.stated import UNFIT
from zigong.cli import app
from zigong.errors import DataError

KEY = b"a-key-for-these-tests-only"
HINT = "try_cast(replace(amount, ',', '.') AS DECIMAL(18,2))"
BETTER = "try_cast(replace(replace(amount, '.', ''), ',', '.') AS DECIMAL(18,2))"
GUARD = "CASE WHEN amount RLIKE '^[0-9]+,[0-9]{2}$' THEN CAST(replace(amount, ',', '.') AS DECIMAL(18,2)) END"
EITHER = f"coalesce(try_cast(amount AS DECIMAL(18,2)), {BETTER})"
GERMAN = ["2.345,67", "49,90", "31.000,00", "8,50", "1'500,00"]


def versions_of(spark: SparkSession, folder: Path, mapping: SourceMapping, zone: str = "UTC") -> Versions:
    raw = raw_of(spark, folder, mapping)
    return deduplicated(stated_events(spark, raw, mapping, key=KEY, buckets=4, timezone=zone))


def reasons(rows: DataFrame, column: str) -> list[str]:
    return sorted(reason for row in rows.select(column).collect() for reason in row[0])


DAYS = [f"2023-03-0{day} 10:00:00" for day in range(1, 6)]


OTHER_FORMS = [pytest.param(sql, marks=pytest.mark.soak) for sql in (GUARD, f"coalesce({HINT}, 0)")]


@pytest.mark.parametrize("sql", [HINT, *OTHER_FORMS, f"abs({HINT})"])
def test_a_text_that_the_sql_makes_null_is_counted_and_refused(spark: SparkSession, tmp_path: Path, sql: str) -> None:
    write(tmp_path, DAYS, GERMAN)
    mapping = mapping_of(AMOUNT_TYPE="string", SQL_AMOUNT=sql, SQL_CURRENCY="'EUR'")
    finding = found(of_the_sql(spark, tmp_path, mapping), "amount")
    assert finding.problem.startswith("3 of 5 rows have a text and no value")
    assert (finding.rows, finding.blocking, finding.lossy) == (3, True, True)
    with pytest.raises(DataError, match="amount: 3 of 5 rows have a text and no value"):
        require_few_emptied(spark, raw_of(spark, tmp_path, mapping), mapping, "UTC")


@pytest.mark.parametrize(
    ("sql", "lost"), [pytest.param(BETTER, ["amount"], marks=pytest.mark.soak), (EITHER, ["amount"])]
)
def test_the_hint_of_the_page_reads_thousands_and_only_the_apostrophe_is_lost(
    spark: SparkSession, tmp_path: Path, sql: str, lost: list[str]
) -> None:
    write(tmp_path, DAYS, GERMAN)
    mapping = mapping_of(AMOUNT_TYPE="string", SQL_AMOUNT=sql, SQL_CURRENCY=f"if({sql} IS NULL, NULL, 'EUR')")
    finding = found(of_the_sql(spark, tmp_path, mapping), "amount")
    assert (finding.rows, [finding.column]) == (1, lost)
    amounts = {str(row["amount"]) for row in versions_of(spark, tmp_path, mapping).kept.collect()}
    assert amounts == {"2345.67", "49.90", "31000.00", "8.50", "None"}


def test_a_text_given_as_an_amount_is_held_to_the_same_form_as_a_cell(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, DAYS, GERMAN)
    mapping = mapping_of(AMOUNT_TYPE="string", SQL_AMOUNT="replace(amount, ',', '.')")
    versions = versions_of(spark, tmp_path, mapping)
    assert {str(row["amount"]) for row in versions.kept.collect()} == {"49.90", "8.50"}
    assert reasons(versions.unfit, UNFIT) == ["bad_cast:amount"] * 3
    assert found(unfit_values(versions.unfit, "events"), "amount").rows == 3


def test_an_amount_is_not_rounded_and_a_currency_is_a_code(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, DAYS, ["0.005", "12.5", "1234.567", "-0.004", "7"])
    mapping = mapping_of(AMOUNT_TYPE="double", SQL_CURRENCY="if(amount = 7, '4111111111111111 Anna', 'EUR')")
    versions = versions_of(spark, tmp_path, mapping)
    assert [row["amount"] for row in versions.kept.collect()] == [Decimal("12.50")]
    assert reasons(versions.unfit, UNFIT) == ["currency_is_a_code", *["more_digits:amount"] * 3]
    assert not any("Anna" in str(row) for row in versions.unfit.collect())
    findings = unfit_values(versions.unfit, "events")
    assert found(findings, "amount").rows == 3
    assert [item.rows for item in findings if item.problem == "currency is a code"] == [1]


ZONED = ["2023-07-01 00:30:00+02:00", "2023-07-01 00:30:00", "2023-07-02T10:00:00Z", "2023-07-02 10:00", "2023-07-03"]
TO_UTC = "to_utc_timestamp(at, :timezone)"


def test_a_cell_with_an_offset_is_refused_where_the_sql_takes_it_for_local(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, ZONED, ["1"] * 5)
    mapping = mapping_of(SQL_AT=TO_UTC)
    rejected = rejected_rows(raw_of(spark, tmp_path, mapping), mapping, KEY)
    assert reasons(rejected, "reasons") == ["unexpected_offset:at"] * 2
    kept = versions_of(spark, tmp_path, mapping, "Europe/Berlin").kept
    assert {row["event_at"] for row in kept.collect()} == {
        datetime(2023, 6, 30, 22, 30),
        datetime(2023, 7, 2, 8),
        datetime(2023, 7, 2, 22),
    }
    findings = of_the_columns(spark, tmp_path, mapping)
    assert [(item.rows, item.blocking) for item in findings if item.column == "at"] == [(2, True), (1, False)]


def test_mixed_offsets_and_texts_read_in_the_sql_are_found_too(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, ZONED[:4], ["1"] * 4)
    mixed = found(of_the_columns(spark, tmp_path, mapping_of()), "at")
    assert (mixed.problem.split(";")[0], mixed.rows, mixed.blocking) == (
        "2 of 4 cells carry an offset or a zone",
        2,
        True,
    )
    texts = mapping_of(AT_TYPE="string", SQL_AT="to_utc_timestamp(try_cast(at AS TIMESTAMP), :timezone)")
    rejected = rejected_rows(raw_of(spark, tmp_path, texts), texts, KEY)
    assert reasons(rejected, "reasons") == ["unexpected_offset:at"] * 2
    cared = mapping_of(
        AT_TYPE="string",
        SQL_AT="if(at RLIKE '(Z|[+-][0-9:]+)$', try_cast(at AS TIMESTAMP), "
        "to_utc_timestamp(try_cast(at AS TIMESTAMP), :timezone))",
    )
    assert rejected_rows(raw_of(spark, tmp_path, cared), cared, KEY).isEmpty()


def test_an_instant_of_parquet_is_not_shifted_again(spark: SparkSession, tmp_path: Path) -> None:
    at = pa.array([datetime(2023, 7, 2, 10)], pa.timestamp("us", tz="UTC"))
    cells = {name: [name] for name in ("id", "client", "kind")}
    pq.write_table(pa.table({**cells, "at": at, "amount": [1.5]}), tmp_path / "rows.parquet")
    mapping = mapping_of(PATH="rows.parquet", FORMAT="parquet", SQL_AT=TO_UTC)
    rejected = rejected_rows(raw_of(spark, tmp_path, mapping), mapping, KEY)
    assert reasons(rejected, "reasons") == ["unexpected_offset:at"]


def test_hours_that_the_clocks_show_twice_or_never_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    times = ["2023-10-29 02:10", "2023-10-29 02:05", "2023-03-26 02:30", "2023-03-26 03:30", "2023-10-29 03:00"]
    write(tmp_path, times, ["1"] * 5)
    mapping = mapping_of(SQL_AT=TO_UTC)
    finding = found(of_the_sql(spark, tmp_path, mapping, "Europe/Berlin"), "at")
    assert (finding.rows, finding.blocking, finding.lossy) == (3, False, True)
    assert of_the_sql(spark, tmp_path, mapping, "UTC") == []


TWINS = ["9;c0;2023-03-01;paid;2.50"] * 3


@pytest.mark.soak
def test_purchases_that_happened_several_times_are_not_dropped_in_silence(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, DAYS, ["1"] * 5, TWINS)
    mapping = mapping_of()
    result = checked(spark, tmp_path, mapping)
    (finding,) = [item for item in result.findings if item.section == "events"]
    assert (finding.rows, finding.blocking, result.ok, result.complete) == (2, True, False, False)
    with pytest.raises(DataError, match="2 of 8 events are exact duplicates"):
        require_few_repeated(raw_of(spark, tmp_path, mapping), mapping, events=8, repeated=2)
    counted = mapping_of(KEY="concat_ws('|', id, _line)")
    versions = versions_of(spark, tmp_path, counted)
    assert (versions.kept.count(), versions.duplicates.count()) == (8, 0)


@pytest.mark.soak
def test_a_second_delivery_of_the_same_lines_is_no_loss(spark: SparkSession, tmp_path: Path) -> None:
    for night in ("first", "second"):
        (tmp_path / night).mkdir()
        write(tmp_path / night, DAYS, ["1"] * 5)
        (tmp_path / "rows").mkdir(exist_ok=True)
        (tmp_path / night / "rows.csv").rename(tmp_path / "rows" / f"{night}.csv")
    mapping = mapping_of(PATH="rows")
    result = checked(spark, tmp_path, mapping)
    (finding,) = [item for item in result.findings if item.section == "events"]
    assert (finding.rows, finding.blocking, result.ok, result.complete) == (5, False, True, False)
    require_few_repeated(raw_of(spark, tmp_path, mapping), mapping, events=10, repeated=5)


@pytest.mark.soak
def test_years_that_only_java_holds_end_in_a_finding(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, [*DAYS[:3], "9999-12-31 12:00:00", "2093-04-01 00:00:00"], ["1"] * 5)
    late = checked(spark, tmp_path, mapping_of(SQL_AT="at + INTERVAL 1 YEAR")).findings
    assert {(item.column, item.problem, item.rows) for item in late} == {
        ("event_at", "bad cast", 1),  # the year 10000
        ("event_at", "far future", 1),
        ("known_at", "far future", 1),
    }
    versions = versions_of(spark, tmp_path, mapping_of(SQL_AT="at + INTERVAL 1 YEAR"))
    assert reasons(versions.unfit, UNFIT) == ["bad_cast:event_at", "far_future:event_at", "far_future:known_at"]


def test_numbers_that_may_be_thousands_are_shown(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, DAYS, ["3.000", "1.500", "950.00", "12.000", "7"])
    doubtful = found(of_the_columns(spark, tmp_path, mapping_of(AMOUNT_TYPE="double")), "amount")
    assert doubtful.problem.startswith("looks like thousands separators")
    assert doubtful.lossy
    write(tmp_path, DAYS, ["3.000", "1.500", "0.125", "12.000", "7"])
    others = of_the_columns(spark, tmp_path, mapping_of(AMOUNT_TYPE="double"))
    assert not any("thousands" in item.problem for item in others)
    refused = found(of_the_columns(spark, tmp_path, mapping_of()), "amount")
    assert (refused.problem, refused.rows) == ("bad cast", 4)
    assert "looks like thousands separators" in refused.action


@pytest.mark.parametrize(
    ("amounts", "sql", "rows"),
    [
        (["1,234", "12,500", "950,00", "7", "8,5"], HINT, 2),  # cents cannot hold 1.234
        (["1,234", "12,500", "950", "7", "8"], "CAST(replace(amount, ',', '.') AS DOUBLE)", 2),
        (["1,234", "12,500", "0,125", "7", "8"], "CAST(replace(amount, ',', '.') AS DOUBLE)", None),
        (["1,234", "12,500", "950", "7", "8"], "CAST(replace(amount, ',', '') AS DECIMAL(18,2))", None),
    ],
)
def test_a_text_of_thousands_that_the_sql_takes_for_a_fraction_is_shown(
    spark: SparkSession, tmp_path: Path, amounts: list[str], sql: str, rows: int | None
) -> None:
    write(tmp_path, DAYS, amounts)
    mapping = mapping_of(AMOUNT_TYPE="string", SQL_AMOUNT=sql)
    raw = raw_of(spark, tmp_path, mapping)
    found_here = [item for item in conversion_findings(spark, raw, mapping, "UTC") if "thousands" in item.problem]
    assert [item.rows for item in found_here] == ([rows] if rows else [])
    if sql == HINT:
        assert found_here[0].blocking
        with pytest.raises(DataError, match="looks like thousands separators"):
            require_few_emptied(spark, raw, mapping, "UTC")


@pytest.mark.soak
def test_the_command_never_promises_every_row_where_some_are_dropped(spark: SparkSession, tmp_path: Path) -> None:
    times = ["2023-10-29 02:10", *DAYS[1:]]
    write(tmp_path, times, ["1"] * 5)
    (tmp_path / "toy.yaml").write_text(text_of(SQL_AT=TO_UTC))
    command = ["source", "check", str(tmp_path / "toy.yaml"), "--path", str(tmp_path)]
    odd = CliRunner().invoke(app, [*command, "--timezone", "Europe/Berlin"])
    assert odd.exit_code == 0
    assert "every row" not in odd.output
    assert "every row" in CliRunner().invoke(app, command).output
