"""Rules derived from the contracts: the rows they accept and the reasons they report."""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import parse_contract, table_contract, table_names
from tests.support.finished import FinishedRun
from zigong.dataset.audit import audit_dataset
from zigong.dataset.members import window_closes_before
from zigong.lakehouse.tables import open_pinned
from zigong.quality.rows import REASONS, conform
from zigong.runs.handover import Dataset

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: t
name: t
version: 2.0.0
status: active
schema:
  - name: t
    physicalType: table
    customProperties:
      - {property: person, value: nobody}
    properties:
      - name: k
        logicalType: string
        physicalType: string
        required: true
        primaryKey: true
        primaryKeyPosition: 1
        classification: none
      - name: kind
        logicalType: string
        physicalType: string
        classification: none
        quality:
          - {name: kind_is_known, type: library, metric: invalidValues, mustBe: 0, arguments: {validValues: [a, "b'c"]}}
      - {name: x, logicalType: number, physicalType: double, classification: none}
    quality:
      - {name: some, type: library, metric: rowCount, mustBeGreaterThan: 2}
      - {name: x_is_finite, type: custom, engine: spark-row, implementation: "NOT isnan(x) AND abs(x) < 1e308"}
"""


def test_a_contract_yields_its_columns_key_and_rules() -> None:
    contract = parse_contract(CONTRACT)
    assert (contract.key, contract.version) == (("k",), "2.0.0")
    assert [(rule.name, rule.low, rule.high) for rule in contract.table_rules] == [
        ("key_is_unique", None, 0),
        ("some", 3, None),
    ]
    assert [rule.name for rule in contract.row_rules] == ["k_is_present", "kind_is_known", "x_is_finite"]
    assert contract.ddl == "`k` string, `kind` string, `x` double"


def test_every_broken_rule_of_a_row_is_named_and_null_breaks_only_presence(spark: SparkSession) -> None:
    rows = [("1", "a", 1.0), ("2", "b'c", None), ("3", None, 0.0), (None, "z", float("nan")), ("5", "a", float("inf"))]
    frame = spark.createDataFrame(rows, "k string, kind string, x double")
    found = [row[REASONS] for row in conform(frame, parse_contract(CONTRACT)).collect()]
    assert found == [[], [], [], ["k_is_present", "kind_is_known", "x_is_finite"], ["x_is_finite"]]


@pytest.mark.parametrize("name", table_names())
def test_every_contract_declares_its_key_or_its_absence_and_partitions_by_its_columns(name: str) -> None:
    contract = table_contract(name)
    assert contract.key or name == "quarantine"
    assert {*contract.key, *contract.partitions} <= set(contract.column_names)
    assert contract.purpose
    assert all(column.description for column in contract.columns)


def test_a_planted_leak_of_each_kind_blocks_the_dataset(
    spark: SparkSession, tiny_run: FinishedRun, tmp_path: Path
) -> None:
    """The real dataset passes; with one row changed it fails, and the rule is named."""
    run, tables = tiny_run.run, tiny_run.run.manifest()["tables"]
    members = open_pinned(spark, tiny_run.paths, "dataset_members", tables["dataset_members"]).where(
        f"dataset_id = '{run.take(Dataset).dataset_id}'"
    )
    samples = open_pinned(spark, tiny_run.paths, "instruction_samples", tables["instruction_samples"])
    first = members.where("split = 'train'").orderBy("sample_id").limit(1)

    def failures(frame: DataFrame, name: str) -> str:
        spans = window_closes_before(run.recipe)
        folder = tmp_path / name
        return " ".join(audit_dataset(frame, samples, run.recipe, spans, run_folder=folder, run_id="r").failures)

    assert failures(members, "sound") == ""
    late = F.lit(datetime(2030, 1, 1, tzinfo=UTC))
    moved = F.lit(datetime(2023, 4, 20, tzinfo=UTC))
    plants = {
        "sample_in_one_split": first.withColumn("split", F.lit("test")),
        "unit_in_train_or_test": first.withColumns({"sample_id": F.lit("new"), "split": F.lit("test")}),
        "sample_exists": first.withColumn("sample_id", F.lit("new")),
        "answer_agrees_with_label": first.withColumn("label", 1 - F.col("label")),
        "answer_is_a_choice": first.withColumn("completion", F.lit("Perhaps")),
        "auxiliary_only_in_train": first.withColumns({"task": F.lit("sentiment"), "split": F.lit("select")}),
        "label_is_mature": first.withColumn("matured_at", late),
        "window_closes_before_next_split": first.withColumns({"observation_at": moved}),
    }
    every = failures(functools.reduce(DataFrame.unionByName, plants.values(), members), "planted")
    assert [rule for rule in plants if rule not in every] == []
    assert run.recipe.observations.train.last == date(2023, 4, 1)
