"""Points without a usable label: who and when they are, what they tell, and what a dataset without them is."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import date
from typing import Any

import pytest
from pyspark.sql import DataFrame

from schemas.contracts import table_contract
from tests.support.finished import FinishedRun
from zigong.dataset.audit import broken_counts, joined_view
from zigong.dataset.members import BuiltDataset, build_members, window_closes_before
from zigong.errors import ConfigError
from zigong.instructions.tasks import load_tasks, main_task
from zigong.recipe import Recipe, load_recipe
from zigong.runs.handover import Dataset
from zigong.runs.job import Job

ONE_DATE = "observations.train={first: 2023-03-01, last: 2023-03-01}"  # leaves April between train and validation
UNLABELLED = "finetune.distil={weight: 0.5, unlabelled: true}"
MARCH, APRIL, MAY = (date(2023, month, 1) for month in (3, 4, 5))


def tables(tiny_run: FinishedRun) -> tuple[DataFrame, DataFrame]:
    job = Job(step="test", run=tiny_run.run, paths=tiny_run.paths)
    return job.read("instruction_samples"), job.read("performance_labels")


def built(tiny_run: FinishedRun, *changes: str) -> tuple[Recipe, BuiltDataset]:
    recipe = load_recipe(tiny_run.recipe_file, changes)
    choices = load_tasks(recipe.instructions).choices
    completion_ids = {answer: [number + 3] for number, answer in enumerate(choices)}
    return recipe, build_members(*tables(tiny_run), recipe, completion_ids)


def is_held_out(recipe: Recipe, unit: str) -> bool:
    digest = hashlib.sha256(f"test|{recipe.split.seed}|{unit}".encode()).hexdigest()
    return int(digest[:8], 16) / 2**32 < recipe.split.test_share


def rows_of(dataset: BuiltDataset) -> list[dict[str, Any]]:
    return [row.asDict() for row in dataset.members.collect()]


def test_only_train_persons_before_validation_are_unlabelled_and_show_no_outcome(tiny_run: FinishedRun) -> None:
    recipe, dataset = built(tiny_run, ONE_DATE, UNLABELLED)
    _, without = built(tiny_run, ONE_DATE)
    rows = rows_of(dataset)
    unlabelled = [row for row in rows if row["split"] == "unlabelled"]
    labelled = [row for row in rows if row["split"] != "unlabelled"]
    assert len(unlabelled) == dataset.unlabelled > 0

    def key(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["sample_id"], row["split"], row["completion"]

    assert sorted(map(key, labelled)) == sorted(map(key, rows_of(without)))
    answers = ("label", "completion", "completion_ids")
    assert all(row[name] is None for row in unlabelled for name in answers)
    assert all(row[name] is not None for row in labelled for name in answers)
    assert {row["observation_date"] for row in unlabelled} <= {MARCH, APRIL}
    unit = recipe.split.unit
    held_out = {row[unit] for row in labelled if row["split"] == "test"}
    assert held_out
    assert not held_out & {row[unit] for row in unlabelled}

    samples, _ = tables(tiny_run)
    asked = samples.where(samples.task == main_task(recipe)).select("sample_id", "observation_date", "user_id")
    expected = {
        row["sample_id"]
        for row in asked.collect()
        if row["observation_date"] in {MARCH, APRIL} and not is_held_out(recipe, row["user_id"])
    }
    assert {row["sample_id"] for row in unlabelled} == expected - {row["sample_id"] for row in labelled}
    lost = Counter(without.dropped) - Counter(dataset.dropped)
    assert lost.total() == len(unlabelled)

    view = joined_view(dataset.members, samples, recipe, window_closes_before(recipe))
    assert set(broken_counts(view, table_contract("dataset_members").dataset_rules).values()) == {0}
    late = dataset.members.selectExpr("* EXCEPT (observation_date)", f"DATE'{MAY}' AS observation_date")
    found = broken_counts(
        joined_view(late, samples, recipe, window_closes_before(recipe)),
        table_contract("dataset_members").dataset_rules,
    )
    assert found["unlabelled_before_next_split"] == len(unlabelled)


def test_a_recipe_without_them_builds_the_dataset_it_did(tiny_run: FinishedRun) -> None:
    recipe, dataset = built(tiny_run)
    assert dataset.dataset_id == tiny_run.run.take(Dataset).dataset_id
    assert dataset.unlabelled == 0
    assert recipe.observation_dates() == recipe.observations.dates()
    assert recipe.digest() == load_recipe(tiny_run.recipe_file, ["finetune.distil.unlabelled=false"]).digest()


def test_a_hash_split_has_its_one_date_and_no_teacher_is_refused(tiny_run: FinishedRun) -> None:
    by_hash = ["split.by=user_hash", "observations.validation=null", "observations.oot=null", "influence.pairs=all"]
    recipe = load_recipe(tiny_run.recipe_file, [*by_hash, ONE_DATE, "split.validation_share=0.2", UNLABELLED])
    assert recipe.unlabelled_dates() == (MARCH,)
    with pytest.raises(ConfigError, match="unlabelled needs weight above 0"):
        load_recipe(tiny_run.recipe_file, ["finetune.distil={unlabelled: true}"])
