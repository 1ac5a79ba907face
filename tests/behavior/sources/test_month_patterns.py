"""A pattern of a time without a day would date a month to its first day, before anything in it is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from schemas.mappings import parse_mapping
from tests.support.keyed_rows import MAPPING
from zigong.behavior.sources.months import month_findings
from zigong.behavior.sources.query import queried_rows
from zigong.behavior.sources.raw import read_raw

KEYS = (("USER", "client"), ("EVENT", "id"), ("PERSON", "CAST(NULL AS STRING)"), ("ROWS", "rows"))


@pytest.mark.parametrize(
    ("sql", "pattern"),
    [
        ("try_to_timestamp(day, 'yyyy-MM')", "yyyy-MM"),
        ("CAST(to_date(day, 'yyyy-MM') AS TIMESTAMP)", "yyyy-MM"),
        ("timestamp_seconds(unix_timestamp(day, 'yyyy-MM'))", "yyyy-MM"),
        ("coalesce(try_to_timestamp(day, 'MMM-yyyy'), try_to_timestamp(day, \"yyyy'd'MM\"))", "MMM-yyyy"),
        ("CAST(last_day(to_date(day, 'yyyy-MM')) AS TIMESTAMP) + INTERVAL 1 DAY", None),
        ("CAST(to_date(day, 'yyyy-MM') + INTERVAL 1 MONTH AS TIMESTAMP)", None),
        ("try_to_timestamp(concat(day, '-28'), 'yyyy-MM-dd')", None),
    ],
)
def test_a_pattern_without_a_day_is_a_finding_unless_the_sql_moves_to_the_end_of_the_month(
    spark: SparkSession, tmp_path: Path, sql: str, pattern: str | None
) -> None:
    text = MAPPING.replace("day: {type: date", "day: {type: string").replace("CAST(day AS TIMESTAMP)", sql)
    for name, value in KEYS:
        text = text.replace(name, value)
    (tmp_path / "rows.csv").write_text("id,client,day,branch,job\n1,a,2023-03,,\n2,b,2023-04,,\n")
    mapping = parse_mapping(text, origin="toy.yaml")
    found = month_findings(queried_rows(spark, read_raw(spark, mapping, str(tmp_path)), mapping, "events", "UTC"))
    assert all((item.column, item.blocking, item.lossy) == ("day", False, True) for item in found)
    problems = [item.problem.partition(" has no day")[0] for item in found]
    assert problems[:1] == ([] if pattern is None else [f"the pattern {pattern}"])
