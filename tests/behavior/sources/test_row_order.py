"""A value that depends on the order in which rows are read is warned of, unless the data show that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.keyed_rows import mapping_with, write_rows
from zigong.behavior.sources.query import queried_rows
from zigong.behavior.sources.raw import read_raw
from zigong.behavior.sources.row_order import order_findings

LISTED = "(SELECT collect_list(client)[0] AS c, id, day FROM rows GROUP BY id, day)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    write_rows(folder, ["c1", "c2", "c1", "c3"])
    return folder


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"event": "concat('r', row_number() OVER (ORDER BY day))"},
            "row_number() depends on the order of the rows: 4 ",
        ),
        ({"rows": "(SELECT * FROM rows ORDER BY day LIMIT 2)"}, "LIMIT depends on the order of the rows where two tie"),
        ({"rows": "(SELECT * FROM rows LIMIT 2)"}, "LIMIT depends on the order of the rows: no ORDER BY"),
        ({"rows": "(SELECT * FROM rows ORDER BY day OFFSET 1)"}, "OFFSET depends on the order of the rows where two"),
        ({"rows": "(SELECT client, first(id) AS id, max(day) AS day FROM rows GROUP BY client)"}, "first() depends on"),
        ({"user": "c", "rows": LISTED}, "collect_list() depends on the order of the rows"),
        ({"rows": "rows TABLESAMPLE (50 PERCENT) REPEATABLE (1)"}, "TABLESAMPLE depends on the order of the rows"),
        ({"event": "concat(id, sum(1) OVER (ORDER BY day ROWS UNBOUNDED PRECEDING))"}, "a frame of ROWS depends on"),
        ({"rows": "(SELECT any_value(client) AS client, id, day FROM rows GROUP BY id, day)"}, None),
        ({"event": "concat('r', row_number() OVER (PARTITION BY client ORDER BY id))"}, None),
        ({"rows": "(SELECT * FROM rows ORDER BY id LIMIT 2)"}, None),
        ({"user": "c", "rows": LISTED.replace("collect_list(client)", "array_sort(collect_list(client))")}, None),
        ({"event": "concat(id, rank() OVER (ORDER BY day))"}, None),
        ({"event": "concat(id, sum(1) OVER (PARTITION BY client))"}, None),
    ],
)
def test_only_values_that_another_order_of_the_rows_would_change_are_warned_of(
    spark: SparkSession, folder: Path, changed: dict[str, str], told: str | None
) -> None:
    mapping = mapping_with(**changed)
    rows = queried_rows(spark, read_raw(spark, mapping, str(folder)), mapping, "events", "UTC")
    findings = order_findings(rows, "events")
    assert not any(item.blocking for item in findings)
    assert [item.problem.startswith(told or "-") for item in findings] == ([True] if told else [])
