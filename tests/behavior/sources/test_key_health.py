"""Keys that do not identify are found, quarantined, taken as null or refused; nobody's id is shown."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from schemas.mappings import SourceMapping, parse_mapping
from tests.support.keyed_rows import MAPPING, NOBODY, mapping_with, write_rows
from zigong.behavior.sources.check import check_source
from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.ingest import events_from, profiles_from, read_raw, rejected_rows
from zigong.errors import DataError

KEY = b"a-key-for-these-tests-only"


def found(spark: SparkSession, mapping: SourceMapping, folder: Path) -> list[SourceFinding]:
    return list(check_source(spark, mapping, str(folder), timezone="UTC").findings)


@pytest.mark.soak
def test_rounded_ids_and_invisible_letters_are_quarantined_by_check_and_ingest(
    spark: SparkSession, tmp_path: Path
) -> None:
    clients = ["4.51235E+15", "4,5E+12", "7.0E5", "c\u200b1", "c\u00a02", "\ufeffc3\u00a0", "7E5", "12E+3x", "\u200b"]
    write_rows(tmp_path, clients)
    findings = {(item.problem, item.rows) for item in found(spark, mapping_with(), tmp_path) if item.blocking}
    assert findings == {("scientific notation", 3), ("invisible letters", 2), ("missing", 1)}
    raw = read_raw(spark, mapping_with(), str(tmp_path))
    rows = rejected_rows(raw, mapping_with(), KEY).collect()
    assert sorted(row["reasons"] for row in rows) == sorted(
        [["scientific_notation:client"]] * 3 + [["invisible_letters:client"]] * 2 + [["missing:client"]]
    )
    assert {row["client"] for row in raw.good["rows"].collect()} == {"c3", "7E5", "12E+3x"}


@pytest.mark.soak
def test_stand_ins_and_the_share_of_one_key_are_reported_without_blocking(spark: SparkSession, tmp_path: Path) -> None:
    clients = [f"c{number}" for number in range(60)] + ["Unknown"] * 30 + ["0"] * 9 + ["-1"]
    write_rows(tmp_path, clients)
    findings = found(spark, mapping_with(), tmp_path)
    assert not any(item.blocking for item in findings)
    assert {(item.column, item.problem.partition(",")[0].partition(":")[0], item.rows) for item in findings} == {
        ("client", "holds `Unknown`", 30),
        ("client", "holds `0`", 9),
        ("user_key", "one user_key holds 30% of the rows; 2 hold more than 5% each", None),
    }


def test_keys_whose_parts_are_empty_count_as_null(spark: SparkSession, tmp_path: Path) -> None:
    write_rows(tmp_path, [f"c{number}" for number in range(6)], ["b,clerk", "a,clerk", ",", ",", ",", ","])
    mapping = mapping_with(person="to_json(struct(branch, job))")
    (finding,) = [item for item in found(spark, mapping, tmp_path) if item.column == "person_key"]
    assert finding.problem.startswith("one person_key holds 67% of the clients: it identifies nobody")
    assert not finding.blocking
    raw = read_raw(spark, mapping, str(tmp_path))
    persons = [row["person_id"] for row in profiles_from(spark, raw, mapping, key=KEY, timezone="UTC").collect()]
    assert sum(person is None for person in persons) == 4
    joined = "concat_ws('|', branch, job)"
    empty = [joined, f"sha2({joined}, 256)", "md5('{}')", """if(job = '', '{"a":null,"b":""}', ' \u00a0')"""]
    cases = " ".join(f"WHEN 'i{number}' THEN {sql}" for number, sql in enumerate(empty, start=2))
    keyless = mapping_with(user=f"CASE id {cases} ELSE client END")
    events = events_from(spark, raw, keyless, key=KEY, buckets=1, timezone="UTC").collect()
    assert sorted(row["user_id"] is None for row in events) == [False, False, True, True, True, True]


def test_an_identifier_that_a_typed_file_holds_as_double_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "client": [4.51235e15], "day": ["2023-03-01"], "branch": ["b"], "job": ["j"]})
    pq.write_table(table, tmp_path / "rows.parquet")
    text = MAPPING.replace("rows.csv", "rows.parquet").replace("format: csv", "format: parquet")
    for name, value in (("USER", "client"), ("EVENT", "id"), ("PERSON", NOBODY), ("ROWS", "rows")):
        text = text.replace(name, value)
    mapping = parse_mapping(text, origin="toy.yaml")
    with pytest.raises(DataError, match="identifier client is a double, which rounds long ids"):
        read_raw(spark, mapping, str(tmp_path))
    assert any("client is a double" in item.problem for item in found(spark, mapping, tmp_path) if item.blocking)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"user": "branch"}, "events: user_key is made of rows.branch, which is not declared identifier"),
        ({"user": "concat(client, branch)"}, "events: user_key is made of rows.branch, which is not declared"),
        ({"user": "md5(branch)"}, "events: user_key is made of rows.branch"),
        ({"event": "job"}, "events: event_key is made of rows.job"),
        ({"user": "b", "rows": "(SELECT *, lower(trim(branch)) AS b FROM rows)"}, "user_key is made of rows.branch"),
        ({"person": "branch"}, "profiles: person_key is made of rows.branch"),
        ({"event": "concat(client, '|', day)"}, None),
        ({"user": "if(branch = 'x', NULL, client)"}, None),
        ({"person": "to_json(struct(branch, job))"}, None),
    ],
)
def test_a_key_of_a_private_source_is_made_of_identifiers(
    spark: SparkSession, tmp_path: Path, keys: dict[str, str], told: str | None
) -> None:
    write_rows(tmp_path, ["c1", "c2"], ["b,j", "b,j"])
    mapping = mapping_with(data="private", **keys)
    raw = read_raw(spark, mapping, str(tmp_path))

    def ingested() -> None:
        events_from(spark, raw, mapping, key=KEY, buckets=1, timezone="UTC")
        profiles_from(spark, raw, mapping, key=KEY, timezone="UTC")

    if told is None:
        ingested()
        return
    with pytest.raises(DataError, match=told):
        ingested()
