"""Published sequences as another history policy keeps them are the sequences that Spark builds with that policy."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from tests.support.finished import FinishedRun
from zigong.behavior.sequences import user_sequences
from zigong.behavior.timeline import user_timelines
from zigong.errors import DataError
from zigong.evaluation.refolding import Kept, refolded
from zigong.incremental.sequences import history_policy
from zigong.runs.job import Job

COLUMNS = ["sequence_id", "user_id", "observation_at", "counts", "events"]
PUBLISHED = Kept(max_events=30, timezone="Asia/Shanghai")


@pytest.fixture(scope="module")
def published(tiny_run: FinishedRun) -> pa.Table:
    job = Job(step="test", run=tiny_run.run, paths=tiny_run.paths)
    return job.arrow("user_sequences", COLUMNS).sort_by([("user_id", "ascending"), ("observation_at", "ascending")])


def built(tiny_run: FinishedRun, kept: Kept) -> list[dict[str, object]]:
    job = Job(step="test", run=tiny_run.run, paths=tiny_run.paths)
    sequences = user_sequences(
        user_timelines(job.read("behavior_events"), kept.timezone),
        job.read("user_profiles"),
        job.read("observation_points"),
        max_events=kept.max_events,
        policy_id=history_policy(kept.max_events),
    )
    rows: list[dict[str, object]] = sequences.orderBy("user_id", "observation_at").select(COLUMNS).toArrow().to_pylist()
    return rows


@pytest.mark.parametrize(
    "wanted",
    [PUBLISHED, Kept(max_events=11, timezone="Asia/Shanghai"), Kept(max_events=3, timezone="Asia/Shanghai")],
    ids=str,
)
def test_fewer_events_are_kept_as_spark_would_have_kept_them(
    tiny_run: FinishedRun, spark: SparkSession, published: pa.Table, wanted: Kept
) -> None:
    found = refolded(published, PUBLISHED, wanted).to_pylist()
    assert found == built(tiny_run, wanted)
    if wanted != PUBLISHED:
        assert any(row["counts"]["folded"] for row in found)


def test_a_model_that_reads_more_than_was_kept_is_refused_with_the_number_it_needs(
    tiny_run: FinishedRun, spark: SparkSession
) -> None:
    kept = Kept(max_events=11, timezone="Asia/Shanghai")
    short = pa.Table.from_pylist(built(tiny_run, kept))
    with pytest.raises(DataError, match=r"keeps 11 events .* the model reads 30 .* folded away") as error:
        refolded(short, kept, PUBLISHED)
    assert "instructions.max_events 30 or more" in error.value.action


def test_sequences_of_another_recipe_are_not_taken_for_this_ones(
    tiny_run: FinishedRun, spark: SparkSession, published: pa.Table
) -> None:
    with pytest.raises(DataError, match="expected the history policy newest-31-whole-months"):
        refolded(published, replace(PUBLISHED, max_events=31), PUBLISHED)


def test_where_nothing_was_folded_a_longer_memory_changes_names_alone(
    tiny_run: FinishedRun, spark: SparkSession, published: pa.Table
) -> None:
    whole = published.filter(pc.equal(pc.struct_field(published["counts"], "folded"), 0))
    longer = Kept(max_events=500, timezone="Europe/Berlin")
    found = refolded(whole, PUBLISHED, longer)
    assert found.drop_columns("sequence_id").to_pylist() == whole.drop_columns("sequence_id").to_pylist()
    assert set(found["sequence_id"].to_pylist()).isdisjoint(whole["sequence_id"].to_pylist())
