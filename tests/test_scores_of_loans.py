"""One complete run with ``observations.unit: loan``: every table has a row per loan, and the prompts say which one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from jobs.build_labels import build_labels
from jobs.build_sequences import build_sequences
from jobs.ingest_events import ingest_events
from tests.support.finished import FinishedRun, finish
from tests.support.several_loans import write_lender, write_mapping
from zigong.errors import ConfigError
from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import asked_line
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.quality.leakage import leakage_violations
from zigong.recipe import load_recipe
from zigong.recipe.source import source_names
from zigong.runs.handover import TrainedBase
from zigong.runs.job import Job, runs_folder
from zigong.runs.launch import run_step
from zigong.runs.run import open_run

pytestmark = pytest.mark.soak

POINT = ["user_id", "loan_id", "observation_date"]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A finished run that scored loans, and how to start others on its source."""

    run: FinishedRun
    changes: tuple[str, ...]

    def rows(self, table: str) -> pd.DataFrame:
        """The newest rows of a table."""
        found: pd.DataFrame = arrow_pinned(self.run.paths, table, latest_version(self.run.paths, table)).to_pandas()
        return found

    def step(self, run_id: str, body: Callable[[Job], None], *changes: str) -> None:
        """Runs one step of another run in the same lakehouse."""
        recipe = load_recipe(self.run.recipe_file, list(changes))
        outcome = run_step(body.__name__, body, open_run(recipe, runs_folder(recipe), run_id), None)
        assert outcome.code == 0, outcome.message


@pytest.fixture(scope="module")
def scored(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    root = tmp_path_factory.mktemp("loans")
    mapping = write_lender(root / "raw")
    changes = (f"source.mapping={mapping}", f"source.path={root / 'raw'}", "source.simulation=null")
    return Scored(run=finish(root, "loans", *changes, "observations.unit=loan"), changes=changes)


def test_every_observed_loan_is_a_row_of_its_own_from_the_points_to_the_scores(scored: Scored) -> None:
    points = scored.rows("observation_points")
    eligible = points[points["eligible"]]
    assert eligible.groupby(["user_id", "observation_date"])["loan_id"].nunique().max() == 3
    assert (eligible["loan_id"] != "").all()
    for table in ("performance_labels", "user_sequences", "instruction_samples"):
        rows = scored.rows(table)
        assert sorted(map(tuple, rows[POINT].to_numpy())) == sorted(map(tuple, eligible[POINT].to_numpy())), table
    day = scored.run.run.recipe.observations.score
    scores = scored.rows("behavior_card_scores")
    observed = eligible[eligible["observation_date"] == day]
    assert sorted(scores["loan_id"]) == sorted(observed["loan_id"])
    assert len(scores) > scores["user_id"].nunique()


def test_labels_of_two_loans_of_a_client_differ_and_splits_stay_by_person(scored: Scored) -> None:
    members = scored.rows("dataset_members")
    assert members.groupby(["user_id", "observation_date"])["label"].nunique().max() == 2
    held_out = {name: set(part["user_id"]) for name, part in members.groupby("split")}
    assert not held_out["train"] & held_out["test"]
    assert not held_out["target"] & held_out["select"]
    answers = scored.rows("evaluation_answers")
    loans = answers.merge(members, on="sample_id").groupby(["model_id", "user_id", "observation_date"])["loan_id"]
    assert loans.nunique().max() == 3


def test_prompts_name_the_loan_by_its_order_and_never_by_its_id_where_a_client_has_several(scored: Scored) -> None:
    samples = scored.rows("instruction_samples").merge(
        scored.rows("user_sequences")[["sequence_id", "loans", "loan"]], on="sequence_id"
    )
    one, several = samples[samples["loans"] == 1], samples[samples["loans"] == 3]
    assert len(one)
    assert not one["prompt"].str.contains("loan").any()
    for row in several.to_dict("records"):
        *_, asked, question = row["prompt"].split("\n")
        assert asked == f"asked loan_{' abc'[row['loan']]}"
        assert question.startswith("Question:")
        assert all(f" loan {letter}" in row["prompt"] for letter in "abc")
        assert row["loan_id"] not in row["prompt"]
    assert set(several["loan"]) == {1, 2, 3}
    encoder = LineEncoder.of(scored.run.run.take(TrainedBase).folder)
    assert all(encoder.knows(asked_line(number)) for number in (1, 2, 3, 26))


def test_the_audit_of_leakage_finds_nothing_in_sequences_of_loans(scored: Scored, spark: SparkSession) -> None:
    job = Job(step="audit", run=scored.run.run, paths=scored.run.paths)
    assert leakage_violations(job.read("user_sequences"), job.read("behavior_events")).count() == 0


def test_another_unit_and_another_source_keep_their_own_rows_in_the_same_lakehouse(
    scored: Scored, spark: SparkSession
) -> None:
    before = {table: scored.rows(table) for table in ("observation_points", "performance_labels")}
    scored.step("clients", build_labels, *scored.changes)
    for table, rows in before.items():
        after = scored.rows(table)
        (population,) = set(rows["population"])
        ours = after[after["population"] == population]
        assert sorted(map(str, ours.to_dict("records"))) == sorted(map(str, rows.to_dict("records")))
        theirs = after[after["population"] != population]
        assert set(theirs["loan_id"]) == {""}
        assert len(theirs)


def test_a_further_source_enters_the_histories_of_the_same_clients_but_neither_points_nor_labels(
    scored: Scored, spark: SparkSession
) -> None:
    folder = Path(scored.run.root) / "raw"
    orders = write_mapping(folder, "orders", KIND="order", OUTCOME="returned")
    mine = ("source.path=" + str(folder), "source.simulation=null")
    scored.step("orders", ingest_events, f"source.mapping={orders}", *mine)
    scored.step("alone", build_labels, *scored.changes)
    alone = scored.rows("performance_labels")
    scored.step("both", build_labels, *scored.changes, f"source.further=[{orders}]")
    scored.step("both", build_sequences, *scored.changes, f"source.further=[{orders}]")
    points, labels = scored.rows("observation_points"), scored.rows("performance_labels")
    (population,) = set(points["population"]) - set(alone["population"])
    ours, theirs = labels[labels["population"] == population], labels[labels["loan_id"] == ""]
    theirs = theirs[theirs["population"] != population]
    columns = ["user_id", "observation_date", "max_days_past_due", "outcome"]
    assert sorted(map(tuple, ours[columns].to_numpy())) == sorted(map(tuple, theirs[columns].to_numpy()))
    assert len(ours)
    sequences = scored.rows("user_sequences")
    kinds = sequences[sequences["population"] == population]["events"].map(lambda all: {e["event_type"] for e in all})
    assert all(kind == {"statement", "order"} for kind in kinds)


def test_sources_without_a_common_namespace_share_no_client(scored: Scored, spark: SparkSession) -> None:
    folder = Path(scored.run.root) / "raw"
    other = write_mapping(folder, "other", KIND="order", OUTCOME="returned", NAMESPACE="shop")
    scored.step("other", ingest_events, f"source.mapping={other}", *scored.changes[1:])
    events = scored.rows("behavior_events")
    users = {source: set(part["user_id"]) for source, part in events.groupby("source")}
    assert len(users["other"]) == len(users["several"])
    assert not users["other"] & users["several"]
    with pytest.raises(ConfigError, match="do not declare that they know clients by the same ids"):
        source_names(load_recipe(scored.run.recipe_file, [*scored.changes, f"source.further=[{other}]"]))
