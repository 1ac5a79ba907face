"""Further horizons through Spark, from sequences to members: samples of the train split with labels of their own."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from tests.support.finished import TINY
from tests.support.observed import observed_clients, of_clients
from zigong.dataset.audit import broken_counts, joined_view
from zigong.dataset.members import BuiltDataset, build_members, split_column, window_closes_before
from zigong.evaluation.horizons import further_prompts
from zigong.instructions.build import RenderPlan, instruction_samples
from zigong.instructions.corpus import encoded
from zigong.instructions.encode import LineEncoder
from zigong.instructions.prompt_spec import PromptSpec
from zigong.instructions.tasks import horizons_of_tasks
from zigong.quality.rows import REASONS, conform
from zigong.recipe import Horizon, Recipe, load_recipe
from zigong.training.tokenizer import train_tokenizer

ZONE = ZoneInfo("Asia/Shanghai")
DAYS = tuple(date(2023, month, 1) for month in (3, 4, 5, 6))
MARCH = DAYS[0]
FIRST = Horizon(window_months=1)
TWO, STRICT = Horizon(window_months=2), Horizon(window_months=1, dpd_threshold=10)
USERS = 24
HORIZONS = "labels.horizons=[{window_months: 1}, {window_months: 2}, {window_months: 1, dpd_threshold: 10}]"
RECIPE = load_recipe(TINY, [HORIZONS, "instructions.template=behavior_card@2"])
ALONE = load_recipe(TINY, ["labels.horizons=[{window_months: 1}]", "instructions.template=behavior_card@2"])


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZONE)


def outcome(user: int, horizon: Horizon) -> str:
    """Every third is bad by all horizons, every third only by the further ones; user 7 moves away within two months."""
    if user == 7 and horizon == TWO:
        return "indeterminate"
    return ("bad", "good" if horizon == FIRST else "bad", "good")[user % 3]


def sequence(user: int, day: date) -> tuple[Any, ...]:
    at, name = midnight(day) - timedelta(days=1), f"u{user:02d}"
    events: list[tuple[Any, ...]] = [("login", at, at, None, None, None, {})]
    return (f"{name}|{day}", name, name, midnight(day), {"job": "baker"}, events, (1, 1, 0), day, user % 2)


def sequences(spark: SparkSession) -> DataFrame:
    types = {column.name: column.type for column in table_contract("user_sequences").columns}
    names = ("sequence_id", "user_id", "person_id", "observation_at", "profile", "events", "counts")
    ddl = ", ".join(f"{name} {types[name]}" for name in (*names, "observation_date", "user_bucket"))
    rows = [sequence(user, day) for user in range(USERS) for day in DAYS]
    return observed_clients(spark.createDataFrame(rows, ddl))


def labels(spark: SparkSession) -> DataFrame:
    """User 8's label of the stricter horizon is reported late, user 9 has none."""
    rows: list[tuple[Any, ...]] = [
        (
            f"u{user:02d}",
            midnight(day),
            horizon.window_months,
            horizon.dpd_threshold,
            0,
            outcome(user, horizon),
            midnight(date(2023, 9, 1) if (user, horizon) == (8, STRICT) else RECIPE.labels.matures(day, horizon)),
        )
        for user in range(USERS)
        for day in DAYS
        for horizon in (FIRST, TWO, STRICT)
        if (user, horizon) != (9, STRICT)
    ]
    ddl = (
        "user_id string, observation_at timestamp, window_months int, dpd_threshold int, max_days_past_due int, "
        "outcome string, matured_at timestamp"
    )
    return of_clients(spark.createDataFrame(rows, ddl))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, spec = tmp_path_factory.mktemp("tokenizer"), PromptSpec.of_recipe(RECIPE)
    questions = [spec.template.ask(horizon, n) for horizon in RECIPE.labels.horizons for n in range(3)]
    words = "+1d +2d start login profile job=baker mar feb jan"
    train_tokenizer([words], [*questions, *spec.template.choices]).save_pretrained(folder)
    return folder


def samples_of(spark: SparkSession, recipe: Recipe, folder: Path) -> DataFrame:
    plan = RenderPlan.of(PromptSpec.of_recipe(recipe), str(folder), recipe.labels.further)
    made = instruction_samples(sequences(spark), plan, trains=split_column(recipe) == "train")
    return conform(made, table_contract("instruction_samples")).localCheckpoint()


def dataset_of(spark: SparkSession, samples: DataFrame, recipe: Recipe, folder: Path) -> BuiltDataset:
    encoder = LineEncoder.of(folder)
    return build_members(samples, labels(spark), recipe, {word: encoder.completion(word) for word in ("Yes", "No")})


@pytest.fixture(scope="module")
def samples(spark: SparkSession, folder: Path) -> DataFrame:
    return samples_of(spark, RECIPE, folder)


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, samples: DataFrame, folder: Path) -> BuiltDataset:
    return dataset_of(spark, samples, RECIPE, folder)


@pytest.fixture(scope="module")
def members(dataset: BuiltDataset) -> DataFrame:
    return conform(dataset.members, table_contract("dataset_members")).localCheckpoint()


def plain(rows: DataFrame, *columns: str) -> list[str]:
    return sorted(str(row.asDict(recursive=True)) for row in rows.select(*columns).collect())


def test_further_horizons_change_no_sample_and_no_member_of_the_first(
    spark: SparkSession, samples: DataFrame, members: DataFrame, folder: Path
) -> None:
    alone = samples_of(spark, ALONE, folder)
    columns = table_contract("instruction_samples").column_names
    assert plain(samples.where("task = 'classification'"), *columns) == plain(alone, *columns)
    columns = table_contract("dataset_members").column_names[1:]
    of_one = dataset_of(spark, alone, ALONE, folder)
    assert plain(members.where("task = 'classification'"), *columns) == plain(of_one.members, *columns)
    assert of_one.further == {}


def test_the_prompts_of_train_samples_are_those_that_the_service_makes_of_the_main_prompt(
    samples: DataFrame, folder: Path
) -> None:
    rows = samples.withColumn("split", split_column(RECIPE)).collect()
    prompts = {(row["sequence_id"], row["task"]): row["input_ids"] for row in rows}
    trains = {row["sequence_id"] for row in rows if row["split"] == "train"}
    tasks = horizons_of_tasks(RECIPE)
    assert list(tasks.items()) == [("behavior_card_2m30dpd", TWO), ("behavior_card_1m10dpd", STRICT)]
    assert {key for key in prompts if key[1] != "classification"} == {(name, task) for name in trains for task in tasks}
    assert all(row[REASONS] == [] for row in rows)
    assert len({row["sample_id"] for row in rows}) == len(rows)
    names = sorted(trains)
    encoder, spec = LineEncoder.of(folder), PromptSpec.of_recipe(RECIPE)
    main = [np.array(prompts[name, "classification"], np.int32) for name in names]
    found = further_prompts(main, spec, encoder, list(tasks.values()))
    made = {(names[one.row], list(tasks)[one.place]): one.input_ids.tolist() for one in found}
    assert made == {key: ids for key, ids in prompts.items() if key[1] != "classification"}
    assert len({row["phrasing"] for row in rows}) == 3


def test_a_tiny_base_reads_the_question_of_every_horizon_equally_often(folder: Path) -> None:
    encoder, template = LineEncoder.of(folder), PromptSpec.of_recipe(RECIPE).template
    timelines = encoded([["start"]] * 18, encoder, RECIPE, {template.name: ["Yes", "No"]})
    asked = [
        horizon.name
        for ids in timelines
        for horizon in RECIPE.labels.horizons
        for number in range(3)
        if encoder.branch([template.ask(horizon, number)]) == ids[len(encoder.history(["start"])) : -1]
    ]
    assert sorted(asked) == sorted([FIRST.name, TWO.name, STRICT.name] * 6)


def test_every_member_has_the_label_of_its_own_horizon_and_only_those_that_end_in_train_are_used(
    dataset: BuiltDataset, members: DataFrame
) -> None:
    rows = members.collect()
    horizons = {"classification": FIRST, **horizons_of_tasks(RECIPE)}
    for row in rows:
        assert row[REASONS] == []
        bad = outcome(int(row["user_id"][1:]), horizons[row["task"]]) == "bad"
        assert (row["label"], row["completion"]) == ((1, "Yes") if bad else (0, "No"))
    of_task = {
        task: {(row["user_id"], row["observation_date"]) for row in rows if row["task"] == task} for task in horizons
    }
    trains = {
        (row["user_id"], row["observation_date"])
        for row in rows
        if row["split"] == "train" and row["task"] == "classification"
    }
    in_march = {point for point in trains if point[1] == MARCH}
    assert of_task["behavior_card_2m30dpd"] == in_march - {("u07", MARCH)}
    without = {point for point in trains if point[0] in {"u08", "u09"}}
    assert of_task["behavior_card_1m10dpd"] == trains - without
    assert dataset.further["2m30dpd"] == {
        "indeterminate": len([point for point in trains if point[0] == "u07"]),
        "window_reaches_into_the_next_split": len([p for p in trains - in_march if p[0] != "u07"]),
    }
    late, unknown = (len([point for point in trains if point[0] == user]) for user in ("u08", "u09"))
    assert dataset.further["1m10dpd"] == {"immature": late, "no_label": unknown}
    assert min(late, unknown) > 0


def test_a_wrong_member_of_a_further_horizon_is_counted(samples: DataFrame, members: DataFrame) -> None:
    def violations(rows: DataFrame) -> dict[str, int]:
        view = joined_view(rows, samples, RECIPE, window_closes_before(RECIPE))
        found = broken_counts(view, table_contract("dataset_members").dataset_rules)
        return {rule: count for rule, count in found.items() if count}

    assert violations(members) == {}
    two = members.where("task = 'behavior_card_2m30dpd'").orderBy("sample_id").limit(1)
    april = two.withColumn("observation_at", F.to_utc_timestamp(F.lit("2023-04-01"), "Asia/Shanghai"))
    assert violations(april) == {"window_closes_before_next_split": 1}
    assert violations(two.withColumn("split", F.lit("select"))) == {"auxiliary_only_in_train": 1}
    assert violations(two.withColumn("label", 1 - F.col("label"))) == {"answer_agrees_with_label": 1}
