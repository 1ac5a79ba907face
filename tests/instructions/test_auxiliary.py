"""Auxiliary questions through Spark, from sequences to members."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from tests.support.finished import TINY
from tests.support.observed import observed_clients, of_clients
from zigong.dataset.audit import broken_counts, joined_view
from zigong.dataset.members import BuiltDataset, build_members, split_column, window_closes_before
from zigong.instructions.build import RenderPlan, instruction_samples
from zigong.instructions.encode import LineEncoder
from zigong.instructions.prompt_spec import PromptSpec
from zigong.instructions.render import Event, render_history
from zigong.instructions.tasks import load_tasks
from zigong.quality.rows import REASONS, conform
from zigong.recipe import Recipe, parse_recipe
from zigong.training.tokenizer import train_tokenizer

ZONE = "Asia/Shanghai"
AUXILIARY = ("sentiment@1", "question_answering@1", "income_band@1", "repaid_amount@1", "login_count@1")
DAYS = (date(2023, 3, 1), date(2023, 4, 1), date(2023, 5, 1), date(2023, 6, 1))
USERS = 24


def recipe_with(*auxiliary: str) -> Recipe:
    content = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    content["instructions"]["auxiliary"] = list(auxiliary)
    content["instructions"]["max_events"] = 4
    return parse_recipe(content, origin="tiny")


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(ZONE))


def fate(user: int) -> tuple[str, int | None]:
    """Outcome and largest days past due, by user number modulo five."""
    return [("bad", 45), ("good", 0), ("good", None), ("good", 12), ("indeterminate", 0)][user % 5]


def sequence(user: int, day: date) -> tuple[Any, ...]:
    """Two logins and two repayments before T; every sixth user also has older events, every fourth no known income."""
    dated = [
        ("login", 9, None),
        ("repayment", 8, Decimal(40 + user)),
        ("login", 3, None),
        ("repayment", 2, Decimal("60")),
    ]
    events: list[tuple[Any, ...]] = [
        (kind, at, at, amount, "CNY", None, {})
        for kind, days, amount in dated
        for at in [midnight(day) - timedelta(days=days)]
    ]
    folded = 30 if user % 6 == 0 else 0
    profile = {"job": "baker"} | ({} if user % 4 == 0 else {"income": ("low", "high")[user % 2]})
    name = f"u{user:02d}"
    counts = (4 + folded, 4, folded)
    return (f"{name}|{day}", name, name, midnight(day), profile, events, counts, day, user % 2)


def sequences(spark: SparkSession) -> DataFrame:
    types = {column.name: column.type for column in table_contract("user_sequences").columns}
    names = ("sequence_id", "user_id", "person_id", "observation_at", "profile", "events", "counts")
    ddl = ", ".join(f"{name} {types[name]}" for name in (*names, "observation_date", "user_bucket"))
    return observed_clients(spark.createDataFrame([sequence(user, day) for user in range(USERS) for day in DAYS], ddl))


def labels(spark: SparkSession) -> DataFrame:
    rows = [
        (f"u{user:02d}", midnight(day), 1, 30, fate(user)[1], fate(user)[0], midnight(day) + timedelta(days=31))
        for user in range(USERS)
        for day in DAYS
    ]
    ddl = (
        "user_id string, observation_at timestamp, window_months int, dpd_threshold int, max_days_past_due int, "
        "outcome string, matured_at timestamp"
    )
    return of_clients(spark.createDataFrame(rows, ddl))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    words = "+1d start login repayment ~50 ~100 low high profile job=baker 0 1 2"
    train_tokenizer([words], load_tasks(recipe_with(*AUXILIARY).instructions).choices).save_pretrained(folder)
    return folder


def samples_of(spark: SparkSession, recipe: Recipe, folder: Path) -> DataFrame:
    plan = RenderPlan.of(PromptSpec.of_recipe(recipe), str(folder))
    made = instruction_samples(sequences(spark), plan, trains=split_column(recipe) == "train")
    return conform(made, table_contract("instruction_samples")).localCheckpoint()


def dataset_of(spark: SparkSession, samples: DataFrame, recipe: Recipe, folder: Path) -> BuiltDataset:
    encoder = LineEncoder.of(folder)
    choices = {choice: encoder.completion(choice) for choice in load_tasks(recipe.instructions).choices}
    return build_members(samples, labels(spark), recipe, choices)


@pytest.fixture(scope="module")
def samples(spark: SparkSession, tokenizer_folder: Path) -> DataFrame:
    return samples_of(spark, recipe_with(*AUXILIARY), tokenizer_folder)


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, samples: DataFrame, tokenizer_folder: Path) -> BuiltDataset:
    found = dataset_of(spark, samples, recipe_with(*AUXILIARY), tokenizer_folder)
    members = conform(found.members, table_contract("dataset_members")).localCheckpoint()
    return replace(found, members=members)


def plain(rows: DataFrame, *columns: str) -> list[str]:
    return sorted(str(row.asDict(recursive=True)) for row in rows.select(*columns).collect())


def test_auxiliary_questions_change_no_main_sample(
    spark: SparkSession, samples: DataFrame, dataset: BuiltDataset, tokenizer_folder: Path
) -> None:
    alone = samples_of(spark, recipe_with(), tokenizer_folder)
    columns = table_contract("instruction_samples").column_names
    assert plain(samples.where("task = 'classification'"), *columns) == plain(alone, *columns)
    members = dataset_of(spark, alone, recipe_with(), tokenizer_folder).members
    columns = table_contract("dataset_members").column_names[1:]
    assert plain(dataset.members.where("task = 'classification'"), *columns) == plain(members, *columns)


def test_only_train_sequences_get_auxiliary_questions_and_all_questions_share_one_history(samples: DataFrame) -> None:
    split = split_column(recipe_with(*AUXILIARY))
    rows = samples.withColumn("split", split).collect()
    histories: dict[str, set[str]] = {}
    templates_of: dict[str, set[str]] = {}
    for row in rows:
        assert row[REASONS] == []
        histories.setdefault(row["sequence_id"], set()).add(str(row["input_ids"][: row["history_tokens"]]))
        templates_of.setdefault(row["sequence_id"], set()).add(row["template"])
    assert {len(ids) for ids in histories.values()} == {1}
    trains = {row["sequence_id"] for row in rows if row["split"] == "train"}
    assert 0 < len(trains) < len(templates_of)
    for name, templates in templates_of.items():
        assert templates == ({"behavior_card@1", *AUXILIARY} if name in trains else {"behavior_card@1"})
    assert len({row["sample_id"] for row in rows}) == len(rows)


def test_every_member_has_the_answer_of_its_client(samples: DataFrame, dataset: BuiltDataset) -> None:
    joined = dataset.members.join(samples.select("sample_id", "template", "answer_ids"), "sample_id").collect()
    kinds = set()
    for row in joined:
        user = int(row["user_id"][1:])
        outcome, late = fate(user)
        assert row["label"] == (outcome == "bad")
        place = 0 if outcome == "bad" else 1 if late else 2
        expected = {
            "behavior_card@1": "Yes" if outcome == "bad" else "No",
            "income_band@1": ("low", "high")[user % 2],
            "repaid_amount@1": "~100",  # 100 to 123
            "login_count@1": "2",
            "sentiment@1": ("bad", "neutral", "good")[place],
            "question_answering@1": ("far too late", "a few days late", "always on time")[place],
        }
        assert row["completion"] == expected[row["template"]]
        assert row[REASONS] == []
        assert row["answer_ids"] is None or row["answer_ids"] == row["completion_ids"]
        kinds.add((row["template"], place))
    assert kinds >= {(name, place) for name in ("behavior_card@1", *AUXILIARY) for place in (0, 1, 2)}


def test_every_sample_is_a_member_or_excluded_with_a_reason(samples: DataFrame, dataset: BuiltDataset) -> None:
    assert samples.count() == dataset.members.count() + sum(dataset.dropped.values())
    determined = samples.where("CAST(substring(user_id, 2) AS int) % 5 <> 4")  # the others are indeterminate
    wanted = {row["unanswered"]: row["count"] for row in determined.groupBy("unanswered").count().collect()}
    wanted.pop(None)
    assert set(wanted) == {"window_reaches_into_folded_events", "profile_field_is_unknown"}
    assert {reason: count for reason, count in dataset.dropped.items() if reason != "indeterminate"} == wanted


def test_the_dataset_id_depends_on_the_answers_of_auxiliary_samples(
    spark: SparkSession, samples: DataFrame, dataset: BuiltDataset, tokenizer_folder: Path
) -> None:
    other = samples.withColumn("answer", F.when(F.col("answer") == "low", "high").otherwise(F.col("answer")))
    found = dataset_of(spark, other, recipe_with(*AUXILIARY), tokenizer_folder)
    assert found.dataset_id != dataset.dataset_id


def test_a_wrong_auxiliary_member_of_each_kind_is_counted(samples: DataFrame, dataset: BuiltDataset) -> None:
    recipe = recipe_with(*AUXILIARY)

    def violations(members: DataFrame) -> dict[str, int]:
        view = joined_view(members, samples, recipe, window_closes_before(recipe))
        found = broken_counts(view, table_contract("dataset_members").dataset_rules)
        return {rule: count for rule, count in found.items() if count}

    def changed(task: str, **columns: Any) -> DataFrame:
        return dataset.members.where(f"task = '{task}'").orderBy("sample_id").limit(1).withColumns(columns)

    assert violations(dataset.members) == {}
    plants = {
        "answer_is_a_choice": changed("sentiment", completion=F.lit("Yes"), label=F.lit(0)),
        "answer_agrees_with_label": changed("question_answering", label=1 - F.col("label")),
        "answer_is_the_computed_one": changed("numeric_question", completion=F.lit("17")),
        "auxiliary_only_in_train": changed("income_band", split=F.lit("oot")),
    }
    planted = dataset.members
    for rows in plants.values():
        planted = planted.unionByName(rows)
    # each is added to the valid rows, and also breaks that rule
    assert violations(planted) == dict.fromkeys(plants, 1) | {"sample_in_one_split": len(plants)}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_rendered_events_contain_no_choice_of_any_question_of_the_recipe(language: str) -> None:
    settings = recipe_with(*AUXILIARY).instructions.model_copy(update={"language": language})
    tasks = load_tasks(settings)
    assert len(tasks.choices) == 8
    for choice in tasks.choices:
        events = [
            Event(event_type=choice, event_at=midnight(DAYS[0]), attributes={choice: choice}),
            Event(event_type="order", event_at=midnight(DAYS[0]), attributes={"k": f"x {choice}", "j": choice}),
        ]
        history = render_history(events, template=tasks.main, settings=settings, zone=ZoneInfo(ZONE))
        for line in history:
            for other in tasks.choices:
                assert not re.search(rf"(?<!\w){re.escape(other)}(?!\w)", line), (other, line)
