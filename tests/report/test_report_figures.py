"""Every figure of a finished run's report equals what its tables hold, computed here without the report's own code."""

from __future__ import annotations

import re
from html import unescape
from itertools import pairwise

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from sklearn.metrics import roc_auc_score

from tests.support.finished import FinishedRun
from zigong.dataset.members import build_members
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.lakehouse.tables import arrow_pinned, latest_version, open_pinned, published_tables
from zigong.pipeline import STEPS
from zigong.report.collect import write_run_report
from zigong.runs.card_values import FusedCard, JointModel
from zigong.runs.handover import Dataset, InfluenceScores, TrainingMix

TableText = list[list[str]]  # the cells of a table, its head first


@pytest.fixture(scope="module")
def page(tiny_run: FinishedRun) -> str:
    return write_run_report(tiny_run.run).read_text(encoding="utf-8")


def tables_of(html: str) -> list[TableText]:
    """The tables of a piece of the page, as plain text."""

    def plain(cell: str) -> str:
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split())

    return [
        [[plain(cell) for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row)] for row in table.split("<tr")[1:]]
        for table in re.findall(r"<table[^>]*>(.*?)</table>", html, re.DOTALL)
    ]


def section(page: str, name: str) -> list[TableText]:
    """The tables of a section of the page."""
    (found,) = re.findall(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)
    return tables_of(found)


def rows_of(run: FinishedRun, table: str, **equal: str) -> pd.DataFrame:
    rows: pd.DataFrame = arrow_pinned(run.paths, table, run.run.manifest()["tables"][table]).to_pandas()
    for column, value in equal.items():
        rows = rows[rows[column] == value]
    return rows


def newest_rows_of(run: FinishedRun, table: str) -> pd.DataFrame:
    """The run's rows of a table that it does not pin."""
    rows: pd.DataFrame = arrow_pinned(run.paths, table, latest_version(run.paths, table)).to_pandas()
    ours: pd.DataFrame = rows[rows["run_id"] == run.run_id]
    return ours


def members_of(run: FinishedRun) -> pd.DataFrame:
    return rows_of(run, "dataset_members", dataset_id=run.run.take(Dataset).dataset_id)


def test_no_column_of_the_report_is_empty(page: str) -> None:
    for table in tables_of(page):
        head, *rows = table
        for place, name in enumerate(head):
            assert {row[place] for row in rows if len(row) == len(head)} != {"-"}, (name, head)


def test_the_sample_counts_are_those_of_members_and_labels(tiny_run: FinishedRun, page: str) -> None:
    (shown,) = section(page, "splits")
    members, labels = members_of(tiny_run), rows_of(tiny_run, "performance_labels")
    unclear = labels[labels["outcome"] == "indeterminate"]
    at_train = unclear["observation_date"].isin(members[members["split"] == "train"]["observation_date"])
    excluded = dict(zip([row[0] for row in shown[1:]], [row[-1] for row in shown[1:]], strict=True))
    assert int(excluded["train"]) + int(excluded["test"]) == at_train.sum()
    for name, first, last, *figures in shown[1:]:
        part = members[members["split"] == name]
        assert (first, last) == (str(part["observation_date"].min()), str(part["observation_date"].max()))
        bad, persons = int(part["label"].sum()), part["user_id"].nunique()
        assert figures[:4] == [f"{len(part):,}", f"{bad:,}", f"{bad / len(part):.1%}", f"{persons:,}"]


def test_the_indeterminate_labels_are_counted_in_the_split_of_their_samples(
    tiny_run: FinishedRun, spark: SparkSession
) -> None:
    versions = tiny_run.run.manifest()["tables"]
    tables = {
        name: open_pinned(spark, tiny_run.paths, name, versions[name])
        for name in ("instruction_samples", "performance_labels")
    }
    member = members_of(tiny_run)
    few = sorted(member["user_id"].unique())[::5]
    unclear = tables["performance_labels"].withColumn(
        "outcome", F.when(F.col("user_id").isin(few), "indeterminate").otherwise(F.col("outcome"))
    )
    found = build_members(tables["instruction_samples"], unclear, tiny_run.run.recipe, {"Yes": [1], "No": [2]})
    expected = member[member["user_id"].isin(few)].groupby("split").size().to_dict()
    assert found.indeterminate == expected
    assert min(expected.values()) > 0


def test_the_model_figures_are_those_of_answers_and_evaluation_metrics(tiny_run: FinishedRun, page: str) -> None:
    card, dataset_id = tiny_run.run.take(FusedCard), tiny_run.run.take(Dataset).dataset_id
    joint = tiny_run.run.take(JointModel).model_id
    model_ids = {"zigong": card.model_id, "zigong_lm": card.language_model, "zigong_joint": joint}
    answers = rows_of(tiny_run, "evaluation_answers", dataset_id=dataset_id, split="oot")
    on_select = rows_of(tiny_run, "evaluation_answers", dataset_id=dataset_id, split="select")
    metrics = rows_of(tiny_run, "evaluation_metrics", dataset_id=dataset_id, split="oot", slice="all")
    truth = members_of(tiny_run).set_index("sample_id")["label"]
    (head, *rows), *_ = [table for table in tables_of(page) if table[0][:2] == ["model", "AUC"]]
    places = {"AUC": "auc", "KS": "ks", "MCC": "mcc", "Brier": "brier", "log-loss": "log_loss"}
    assert len(rows) == metrics["model_id"].nunique()
    for row in rows:
        model = model_ids.get(row[0], row[0])
        own = answers[answers["model_id"] == model]
        known = on_select[on_select["model_id"] == model]
        fitted = fit_calibration(known["p_bad"].to_numpy(), truth.loc[known["sample_id"]].to_numpy())
        # a model whose ranking is inverted on select is calibrated to a constant
        auc = roc_auc_score(truth.loc[own["sample_id"]], calibrated(fitted, own["p_bad"].to_numpy()))
        assert row[1].split()[0] == f"{auc:.3f}"
        stated = metrics[metrics["model_id"] == model].set_index("metric")
        for name, metric in places.items():
            digits = 4 if name in {"Brier", "log-loss"} else 3
            figure = stated.loc[metric]
            interval = [] if digits == 4 else [f"{figure['low']:.3f}", "to", f"{figure['high']:.3f}"]
            assert row[head.index(name)].split() == [f"{figure['value']:.{digits}f}", *interval]


def test_the_bands_hold_the_answers_of_their_points_and_never_divide_equal_points(
    tiny_run: FinishedRun, page: str
) -> None:
    final, truth = tiny_run.run.take(FusedCard).model_id, members_of(tiny_run).set_index("sample_id")["label"]
    own = rows_of(tiny_run, "evaluation_answers", model_id=final, split="oot")
    ((_, *rows),) = [table for table in tables_of(page) if table[0][0] == "band"]
    spans = [tuple(map(int, row[1].split(" to "))) for row in rows]
    assert all(later[0] > former[1] for former, later in pairwise(spans))
    assert sum(int(row[2]) for row in rows) == len(own)
    assert sum(int(row[3]) for row in rows) == truth.loc[own["sample_id"]].sum()


def test_the_groups_of_influence_are_those_of_scores_and_mix(tiny_run: FinishedRun, page: str) -> None:
    scorer, mix_id = tiny_run.run.take(InfluenceScores).scorer_id, tiny_run.run.take(TrainingMix).mix_id
    scores = rows_of(tiny_run, "influence_scores", scorer_id=scorer)
    mix = rows_of(tiny_run, "training_mix", mix_id=mix_id)[["sample_id", "share"]]
    train = members_of(tiny_run).query("split == 'train'")[["sample_id", "user_id", "label"]]
    pool = train.merge(scores[["sample_id", "score", "loss"]], on="sample_id").merge(mix, on="sample_id", how="left")
    (_, *rows), *_ = section(page, "influence")
    groups = {"all training samples": pool, "the mix": pool.dropna(subset=["share"])}
    groups |= {f"chosen {by}": pool[pool["share"] == by.split()[-1]] for by in ("by influence", "at random")}
    shown = {row[0]: row[1:] for row in rows}
    assert set(groups) <= set(shown)
    for name, part in groups.items():
        assert shown[name][:5] == [
            f"{len(part):,}",
            f"{part['user_id'].nunique():,}",
            f"{part['label'].mean():.1%}",
            f"{part['score'].mean():.2e}",
            f"{part['loss'].mean():.4f}",
        ]


def test_the_rows_of_the_tables_are_those_published(tiny_run: FinishedRun, page: str) -> None:
    (shown,) = section(page, "rows")
    published = {row[0]: row for row in shown[1:]}
    for table in {name for step in STEPS for name in step.writes} - {"verdicts"}:
        rows = rows_of(tiny_run, table)
        mine = rows[rows["run_id"] == tiny_run.run_id] if "run_id" in rows else rows
        assert published[table][4] == f"{len(mine):,}"
    for name, _, _, *counts, _ in shown[1:]:
        numbers = [int(cell.replace(",", "")) for cell in counts]
        assert numbers[0] == sum(numbers[1:]), name


def test_the_quality_tables_count_verdicts_and_quarantine(tiny_run: FinishedRun, page: str) -> None:
    verdicts, *more = section(page, "quality")
    recorded = newest_rows_of(tiny_run, "verdicts")
    assert {row[0] for row in verdicts[1:]} == set(recorded["table_name"])
    for name, verdict, *numbers in verdicts[1:]:
        (one,) = recorded[recorded["table_name"] == name].to_dict("records")
        assert verdict == one["verdict"]
        assert sum(map(int, numbers)) == len(one["results"])
    shown = {(row[0], row[1]): int(row[2].replace(",", "")) for row in (more[0][1:] if more else [])}
    if "quarantine" not in published_tables(tiny_run.paths):
        assert shown == {}
        return
    refused = newest_rows_of(tiny_run, "quarantine").explode("reasons")
    assert shown == refused.groupby(["table_name", "reasons"]).size().to_dict()


def test_the_steps_took_the_seconds_of_their_outcomes(tiny_run: FinishedRun, page: str) -> None:
    (shown,) = section(page, "steps")
    for name, status, seconds, _ in shown[1:]:
        outcome = tiny_run.run.outcome(name)
        assert outcome is not None
        assert status == "succeeded"
        whole = round(outcome.seconds)
        text = f"{outcome.seconds:.1f} s" if outcome.seconds < 60 else f"{whole // 60} m {whole % 60:02d} s"
        assert seconds == text


def test_the_reasons_are_those_stored_with_the_scores(tiny_run: FinishedRun, page: str) -> None:
    stored = rows_of(tiny_run, "behavior_card_scores")["reasons"].dropna()
    flat = pd.DataFrame([reason for reasons in stored for reason in reasons])
    (drawn,) = re.findall(r'id="reasons".*?</section>', page, re.DOTALL)
    for name in flat["reason"].unique():
        effects = flat.loc[flat["reason"] == name, "effect"]
        kind, word = str(name).split(":")
        words = f"profile: {word}" if kind == "profile" else word.replace("_", " ")
        share = f"{words}: {len(effects) / len(stored):.0%} of {len(stored):,}"
        assert f"{share}, adds {effects.mean():+.2f} to the log-odds" in unescape(drawn)
