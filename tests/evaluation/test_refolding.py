"""Published sequences under another history policy equal the sequences that Spark builds with that policy."""

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
from zigong.evaluation.refolding import HistoryPolicy, refolded
from zigong.incremental.sequences import history_policy
from zigong.runs.job import Job

COLUMNS = ["sequence_id", "user_id", "loan_id", "observation_at", "counts", "events", "event_loans"]
PUBLISHED = HistoryPolicy(max_events=30, timezone="Asia/Shanghai")


@pytest.fixture(scope="module")
def published(tiny_run: FinishedRun) -> pa.Table:
    job = Job(step="test", run=tiny_run.run, paths=tiny_run.paths)
    return job.arrow("user_sequences", COLUMNS).sort_by([("user_id", "ascending"), ("observation_at", "ascending")])


def built(tiny_run: FinishedRun, kept: HistoryPolicy) -> list[dict[str, object]]:
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
    [
        pytest.param(PUBLISHED, marks=pytest.mark.soak),
        pytest.param(HistoryPolicy(max_events=11, timezone="Asia/Shanghai"), marks=pytest.mark.soak),
        HistoryPolicy(max_events=3, timezone="Asia/Shanghai"),
    ],
    ids=str,
)
def test_a_shorter_history_equals_the_one_that_spark_builds(
    tiny_run: FinishedRun, spark: SparkSession, published: pa.Table, wanted: HistoryPolicy
) -> None:
    found = refolded(published, PUBLISHED, wanted).to_pylist()
    assert found == built(tiny_run, wanted)
    if wanted != PUBLISHED:
        assert any(row["counts"]["folded"] for row in found)


def test_a_model_that_reads_more_events_than_were_kept_is_rejected_with_the_required_number(
    tiny_run: FinishedRun, spark: SparkSession
) -> None:
    kept = HistoryPolicy(max_events=11, timezone="Asia/Shanghai")
    short = pa.Table.from_pylist(built(tiny_run, kept))
    with pytest.raises(DataError, match=r"keeps 11 events .* the model reads 30 .* were folded") as error:
        refolded(short, kept, PUBLISHED)
    assert "instructions.max_events 30 or more" in error.value.action


def test_sequences_built_with_another_policy_are_rejected(
    tiny_run: FinishedRun, spark: SparkSession, published: pa.Table
) -> None:
    with pytest.raises(DataError, match="expected the history policy newest-31-whole-months"):
        refolded(published, replace(PUBLISHED, max_events=31), PUBLISHED)


def test_a_longer_history_changes_only_ids_if_nothing_was_folded(
    tiny_run: FinishedRun, spark: SparkSession, published: pa.Table
) -> None:
    unfolded = published.filter(pc.equal(pc.struct_field(published["counts"], "folded"), 0))
    longer = HistoryPolicy(max_events=500, timezone="Europe/Berlin")
    found = refolded(unfolded, PUBLISHED, longer)
    assert found.drop_columns("sequence_id").to_pylist() == unfolded.drop_columns("sequence_id").to_pylist()
    assert set(found["sequence_id"].to_pylist()).isdisjoint(unfolded["sequence_id"].to_pylist())
