"""One complete run with three horizons: each is trained, measured where it is mature, and scored in agreement."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.support.finished import FinishedRun, finish
from zigong.evaluation.horizons import implies
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import Horizon
from zigong.release.registry import champion
from zigong.release.scaling import card_scores
from zigong.release.serving import registry_of
from zigong.report.collect import write_run_report
from zigong.runs.card_values import FusedCard
from zigong.runs.handover import FinalModel, TrainingMix

pytestmark = pytest.mark.soak

MAIN = Horizon(window_months=1)
TWO, EARLY = Horizon(window_months=2), Horizon(window_months=1, dpd_threshold=10)
CHANGES = (
    "labels.horizons=[{window_months: 1}, {window_months: 2}, {window_months: 1, dpd_threshold: 10}]",
    "observations.oot={first: 2023-07-01, last: 2023-07-01}",
)


@pytest.fixture(scope="module")
def run(spark: SparkSession, local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return finish(tmp_path_factory.mktemp("horizons"), "horizons", *CHANGES)


def rows(run: FinishedRun, table: str) -> pd.DataFrame:
    found: pd.DataFrame = arrow_pinned(run.paths, table, latest_version(run.paths, table)).to_pandas()
    return found


def test_samples_of_every_horizon_are_trained_on_and_those_that_end_too_late_are_counted(run: FinishedRun) -> None:
    members, figures = rows(run, "dataset_members"), run.run.metrics()
    train = members[members["split"] == "train"]
    assert set(members["task"]) == {"classification", "behavior_card_2m30dpd", "behavior_card_1m10dpd"}
    assert set(members.loc[members["split"] != "train", "task"]) == {"classification"}
    dates = train.groupby("task")["observation_date"].agg(set)
    assert dates["behavior_card_2m30dpd"] == {date(2023, 3, 1)}
    assert dates["behavior_card_1m10dpd"] == {date(2023, 3, 1), date(2023, 4, 1)}
    april = (train["task"] == "classification") & (train["observation_date"] == date(2023, 4, 1))
    late = figures["dataset.2m30dpd.window_reaches_into_the_next_split"]
    assert 0 < late <= april.sum() + figures["dataset.indeterminate.train"]
    mix = rows(run, "training_mix")
    chosen = mix[mix["mix_id"] == run.run.take(TrainingMix).mix_id]["sample_id"]
    assert set(train.set_index("sample_id").loc[chosen, "task"]) == set(members["task"])


def test_the_language_model_answers_every_horizon_and_no_other_model_does(run: FinishedRun) -> None:
    answers = rows(run, "evaluation_answers")
    own = answers["model_id"].isin([run.run.take(FinalModel).model_id, run.run.take(FusedCard).model_id])
    assert answers.loc[~own, "horizons"].isna().all()
    for found in answers.loc[own, "horizons"]:
        assert [(one["window_months"], one["dpd_threshold"]) for one in found] == [(2, 30), (1, 10)]
        assert all(0 <= one["p_bad"] <= 1 for one in found)


def test_figures_are_measured_where_a_horizon_is_mature(run: FinishedRun) -> None:
    figures = run.run.metrics()
    assert figures["evaluation.2m30dpd.select.labelled"] > 0.9
    assert figures["evaluation.2m30dpd.oot.labelled"] == 0  # two months from July end after as_of
    assert "evaluation.2m30dpd.oot.auc" not in figures
    assert figures["evaluation.1m10dpd.oot.labelled"] > 0.9
    for metric in ("auc", "brier", "log_loss", "corrected"):
        assert 0 <= figures[f"evaluation.1m10dpd.oot.{metric}"] <= 1
    card = run.run.take(FusedCard).model_id
    measured = rows(run, "evaluation_metrics").set_index(["model_id", "slice", "split", "metric"])["value"]
    assert measured[card, "horizon=1m10dpd", "oot", "auc"] == figures["evaluation.1m10dpd.oot.auc"]
    assert "further horizon 1m10dpd" in write_run_report(run.run).read_text(encoding="utf-8")


def test_the_scores_of_all_horizons_agree_and_the_first_is_the_calibrated_card(run: FinishedRun) -> None:
    released = champion(registry_of(run.run.recipe))
    assert released is not None
    assert [asked.horizon for asked in released.model.further] == [TWO, EARLY]
    assert "further horizon 2m30dpd" in (released.folders.adapter.parent / "model_card.md").read_text(encoding="utf-8")
    scores = rows(run, "behavior_card_scores")
    assert (card_scores(scores["p_bad"].to_numpy(), released.model.card) == scores["score"]).all()
    for p_main, further in zip(scores["p_bad"], scores["horizons"], strict=True):
        p_bad = {
            Horizon(window_months=one["window_months"], dpd_threshold=one["dpd_threshold"]): one["p_bad"]
            for one in further
        }
        assert list(p_bad) == [TWO, EARLY]
        pairs = [(one, other) for one in (MAIN, TWO, EARLY) for other in (MAIN, TWO, EARLY) if implies(one, other)]
        found = {MAIN: p_main, **p_bad}
        assert all(found[one] <= found[other] for one, other in pairs)
