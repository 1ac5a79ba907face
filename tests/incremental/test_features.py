"""The table behavior_features holds what the definition gives for each sequence, however it was built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from jobs.build_features import build_features
from schemas.contracts import table_contract
from tests.support.finished import TINY
from tests.support.sequence_rows import SCHEMA, Row, random_rows, sequence_table
from zigong.evaluation.published_features import PublishedFeatures
from zigong.features.baseline import baseline_features, feature_rows
from zigong.features.frame import FEATURE_COLUMNS
from zigong.features.settings import FEATURE_TABLE, FeatureSettings
from zigong.incremental import features as incremental
from zigong.incremental.features import features_lineage, plan_features
from zigong.incremental.touched import RebuildPlan
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.lineage import Lineage, changed_partitions
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.recipe.population import population_of
from zigong.runs.dates import Dates
from zigong.runs.job import Job
from zigong.runs.run import open_run

SEQUENCES, BUCKETS, CLIENTS = "user_sequences", 2, 12
MARCH, APRIL = date(2023, 3, 1), date(2023, 4, 1)  # observation dates of tests/tiny.yaml
KEYS = [("user_id", "ascending"), ("observation_date", "ascending")]


@dataclass(frozen=True, kw_only=True)
class Lake:
    """A lakehouse with sequences, and the job that computes features from them."""

    paths: LakehousePaths

    def put(self, rows: pa.Table, where: str | None = None) -> None:
        """Replaces sequences."""
        contract = table_contract(SEQUENCES)
        create_if_missing(self.paths, contract)
        write_deltalake(
            self.paths.table(SEQUENCES), rows.select(contract.column_names), mode="overwrite", predicate=where
        )

    def job(self, run_id: str, *, incremental: bool = True, max_events: int = 30) -> Job:
        settings = [
            f"lakehouse.root={self.paths.root}",
            f"engine.incremental={str(incremental).lower()}",
            f"instructions.max_events={max_events}",
        ]
        run = open_run(load_recipe(TINY, settings), Path(self.paths.local("_runs")), run_id)
        return Job(step="build_features", run=run, paths=self.paths, dates=Dates(first=MARCH, end=date(2023, 4, 2)))

    def build(self, run_id: str, **settings: Any) -> Job:
        job = self.job(run_id, **settings)
        build_features(job)
        return job

    def rows(self, table: str) -> pa.Table:
        return arrow_pinned(self.paths, table, latest_version(self.paths, table)).sort_by(KEYS)

    def expected(self) -> list[dict[str, Any]]:
        """What the definition gives for each published sequence alone."""
        settings, sequences = FeatureSettings.of(load_recipe(TINY)), self.rows(SEQUENCES)
        alone = [
            feature_rows(sequences.slice(i, 1), settings.outcome_events, settings.timezone, settings.currency)
            for i in range(len(sequences))
        ]
        found: list[dict[str, Any]] = pa.concat_tables(alone).to_pylist()
        return found

    def published(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.rows(FEATURE_TABLE).select(FEATURE_COLUMNS).to_pylist()
        return found


def sequences_of(seed: int, day: date) -> pa.Table:
    """Sequences of all clients at one date, in the columns of user_sequences."""
    contract = table_contract(SEQUENCES)
    t = datetime.combine(day, datetime.min.time(), ZoneInfo("Asia/Shanghai"))
    rows: list[Row] = []
    for at, profile, events in random_rows(seed, CLIENTS):
        moved = [
            {**event, "event_at": event["event_at"] - at + t, "known_at": event["known_at"] - at + t}
            for event in events
        ]
        rows.append((t, profile, moved))
    table = sequence_table(rows)
    users = [f"u{number:02}" for number in range(CLIENTS)]
    constant = {"population": population_of(load_recipe(TINY)), "loan_id": "", "observation_date": day}
    named = {name: pa.array([value] * CLIENTS) for name, value in constant.items()}
    named |= {
        "sequence_id": pa.array([f"{user}|{day}" for user in users]),
        "user_id": pa.array(users),
        "person_id": pa.array(users),
        "user_bucket": pa.array([number % BUCKETS for number in range(CLIENTS)], pa.int32()),
        "certificate": pa.array([{"events_used": len(e), "events_hash": "h"} for _, _, e in rows], certificate_type()),
        "counts": pa.array(
            [{"events": len(e), "kept": len(e), "folded": 0} for _, _, e in rows], SCHEMA.field("counts").type
        ),
    }
    for name, column in named.items():
        place = table.column_names.index(name) if name in table.column_names else None
        table = table.append_column(name, column) if place is None else table.set_column(place, name, column)
    return table.select(contract.column_names)


def certificate_type() -> pa.DataType:
    moments = [("max_event_at", pa.timestamp("us", tz="UTC")), ("max_known_at", pa.timestamp("us", tz="UTC"))]
    return pa.struct([*moments, ("events_used", pa.int32()), ("events_hash", pa.string())])


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[Lake]:
    made = Lake(paths=LakehousePaths.at(str(tmp_path)))
    made.put(pa.concat_tables([sequences_of(1, MARCH), sequences_of(2, APRIL)]))
    yield made


def test_every_sequence_has_the_row_that_the_definition_gives_and_models_read_its_features(lake: Lake) -> None:
    job = lake.build("first", incremental=False)
    assert lake.published() == lake.expected()
    sequences, features = lake.rows(SEQUENCES), lake.rows(FEATURE_TABLE)
    for name in (
        "population",
        "sequence_id",
        "user_id",
        "loan_id",
        "observation_at",
        "observation_date",
        "user_bucket",
    ):
        assert features[name].to_pylist() == sequences[name].to_pylist()
    counts = job.tables[FEATURE_TABLE]
    assert (counts["rows_in"], counts["published"], counts["quarantined"]) == (2 * CLIENTS, 2 * CLIENTS, 0)

    keys = sequences.take([20, 3, 11]).select(["user_id", "loan_id", "observation_date", "sequence_id"])
    read = PublishedFeatures.of(job).read(keys.rename_columns(["user_id", "loan_id", "observation_date", "sample_id"]))
    settings = FeatureSettings.of(job.recipe)
    expected = baseline_features(
        sequences.take([20, 3, 11]), settings.outcome_events, settings.timezone, settings.currency
    )
    pd.testing.assert_frame_equal(read, expected, check_exact=True)


def test_an_incremental_build_computes_only_partitions_whose_sequences_changed(lake: Lake) -> None:
    lake.build("first")
    before = latest_version(lake.paths, FEATURE_TABLE)
    assert lake.build("same").tables[FEATURE_TABLE]["rows_in"] == 0
    assert latest_version(lake.paths, FEATURE_TABLE) == before

    changed = sequences_of(3, APRIL).filter(ds.field("user_bucket") == 1)
    lake.put(changed, "observation_date = '2023-04-01' AND user_bucket = 1")
    done = lake.build("changed").tables[FEATURE_TABLE]
    assert (done["rows_in"], done["published"]) == (CLIENTS // BUCKETS, CLIENTS // BUCKETS)
    rewritten = changed_partitions(lake.paths, FEATURE_TABLE, before, latest_version(lake.paths, FEATURE_TABLE))
    assert [(place["observation_date"], place["user_bucket"]) for place in rewritten] == [("2023-04-01", "1")]
    assert lake.published() == lake.expected()

    other = lake.job("other", max_events=20)
    assert plan_features(other, features_lineage(other, other.observation_dates())).full_dates == (MARCH, APRIL)


@pytest.mark.soak
def test_rows_that_another_run_replaces_meanwhile_are_not_mixed_with_ours(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.build("first")
    lake.put(
        sequences_of(3, APRIL).filter(ds.field("user_bucket") == 1),
        "observation_date = '2023-04-01' AND user_bucket = 1",
    )
    plan, plans = plan_features, []

    def overtaken(job: Job, due: Lineage) -> RebuildPlan:
        plans.append(plan(job, due))
        if len(plans) == 1:  # others replace rows that this plan keeps
            DeltaTable(lake.paths.table(FEATURE_TABLE)).delete("observation_date = '2023-03-01' AND user_bucket = 0")
        return plans[-1]

    monkeypatch.setattr(incremental, "plan_features", overtaken)
    lake.build("ours")
    assert len(plans) == 2
    assert lake.published() == lake.expected()
