"""Prompts of a model: each equals the one that a naive service renders from the published sequence."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tests.support.number_words import FITTED, bins, with_numbers
from tests.support.prompt_cases import EVENT, SEQUENCE, encoder, random_sequences
from tests.support.prompt_oracle import naive_row, naive_visible, plan
from zigong.dataset.samples import PromptSource, SampleSource, partition_shards
from zigong.evaluation.asked_model import AskedModel
from zigong.evaluation.prompt_sources import SamplePrompts, SequencePrompts, prompts_of_members
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.evaluation.refolding import HistoryPolicy
from zigong.incremental.sequences import history_policy
from zigong.instructions.build import RenderPlan
from zigong.instructions.encode import LineEncoder
from zigong.instructions.numbers import NumberWords
from zigong.instructions.prompt_spec import PromptSpec
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Horizon, Instructions
from zigong.training.file_digests import FileDigests

AROUND = datetime(2024, 1, 1, tzinfo=UTC)
PUBLISHED = HistoryPolicy(max_events=120, timezone="Asia/Shanghai")


def sample_of(row: dict[str, Any], wanted: RenderPlan, letters: LineEncoder) -> dict[str, Any]:
    return naive_row(naive_visible(row, wanted, letters), row, wanted.template, wanted, letters)


COUNTS = pa.struct([(name, pa.int32()) for name in ("events", "kept", "folded")])
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"template": "behavior_card@2", "language": "zh", "gap_unit": "month", "season": "month"},
    {"event_fields": ("amount",), "time": "both", "season": "weekday", "profile": False},
)


def sequences() -> list[dict[str, Any]]:
    rows = with_numbers(random_sequences(4, 30, AROUND))
    for row in rows:
        observed = f"{row['user_id']}|{row['loan_id']}" if row["loan_id"] else row["user_id"]
        text = f"{observed}|{row['observation_at']:%Y-%m-%dT%H:%M:%S.%f}Z|{history_policy(PUBLISHED.max_events)}"
        row["sequence_id"] = hashlib.sha256(text.encode()).hexdigest()
        row["counts"] = {"kept": len(row["events"]), "folded": row["folded"]}
        row["counts"]["events"] = sum(row["counts"].values())
    return rows


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> LakehousePaths:
    """A lakehouse with sequences, and with a member per client."""
    lake = LakehousePaths.at(str(tmp_path_factory.mktemp("lake")))
    fields = [field for field in SEQUENCE if field.name not in ("folded", "trains", "asked_loan")]
    schema = pa.schema([*fields, ("counts", COUNTS)])
    assert schema.field("events").type == pa.list_(EVENT)
    write_deltalake(lake.table("user_sequences"), pa.Table.from_pylist(sequences(), schema=schema))
    members = [
        {
            **{name: row[name] for name in ("user_id", "person_id", "loan_id", "observation_date", "user_bucket")},
            "sample_id": f"sample of {row['user_id']}",
            "dataset_id": "d",
            "matured_at": AROUND,
            "label": 0,
            "split": "oot" if number % 3 else "train",
            "task": "card",
            "completion_ids": [1],
        }
        for number, row in enumerate(sequences())
    ]
    write_deltalake(lake.table("dataset_members"), pa.Table.from_pylist(members))
    return lake


def published(paths: LakehousePaths, policy: HistoryPolicy) -> PublishedSequences:
    return PublishedSequences(root=paths.root, version=0, population="c1", policy=policy)


def rendered(prompts: SequencePrompts) -> dict[str, list[int] | None]:
    rows = pa.Table.from_pylist(sequences()).select(["observation_date", "user_bucket"])
    found = [prompts.of_shard(shard, encoder()) for shard in partition_shards(rows)]
    return {row["sample_id"]: row["input_ids"] for part in found for row in part.to_pylist()}


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("context_length", [150, 10**6])
def test_every_prompt_equals_that_of_a_naive_service_or_is_null_if_it_does_not_fit(
    paths: LakehousePaths, settings: dict[str, Any], context_length: int
) -> None:
    wanted, letters = plan("Europe/Berlin", context_length, **settings), encoder()
    prompts = SequencePrompts(
        prompts=wanted,
        sequences=published(paths, HistoryPolicy(max_events=120, timezone="Europe/Berlin")),
    )
    expected = {}
    for row in sequences():
        sample = sample_of(row, wanted, letters)
        fits = len(sample["input_ids"]) <= sample["max_tokens"]
        expected[row["sequence_id"]] = sample["input_ids"] if fits else None
    assert rendered(prompts) == expected
    assert (None in expected.values()) == (context_length == 150)


def test_each_model_is_asked_with_the_bins_it_was_trained_with(paths: LakehousePaths) -> None:
    other, letters, found = (
        NumberWords(fields=(bins("amount", "order", "250"), bins("profile", "age", "3"))),
        encoder(),
        [],
    )
    for numbers in (FITTED, other):
        wanted = plan("Asia/Shanghai", 10**6, numbers=numbers, quantiles=4)
        found.append(rendered(SequencePrompts(prompts=wanted, sequences=published(paths, PUBLISHED))))
        assert found[-1] == {row["sequence_id"]: sample_of(row, wanted, letters)["input_ids"] for row in sequences()}
    assert found[0] != found[1]


def test_prompts_of_members_have_their_sample_ids_and_no_others_are_rendered(paths: LakehousePaths) -> None:
    wanted = plan("Asia/Shanghai", 10**6)
    source = SampleSource(root=paths.root, dataset_id="d", members_version=0, samples_version=0, population="c1")
    prompts = SequencePrompts(
        prompts=wanted,
        sequences=published(paths, PUBLISHED),
        members=source,
        splits=("oot",),
    )
    everyone = {row["user_id"]: sample_of(row, wanted, encoder())["input_ids"] for row in sequences()}
    held_out = {f"u{number}" for number in range(30) if number % 3}
    assert rendered(prompts) == {f"sample of {user}": everyone[user] for user in held_out}


SPEC = PromptSpec(settings=Instructions(), horizon=Horizon(), timezone="UTC", context_length=256)


@pytest.mark.parametrize(
    ("recipe_prompts", "tokenizer", "expected"),
    [
        (SPEC, "a", SamplePrompts),
        (SPEC, "b", SequencePrompts),
        (PromptSpec(**{**vars(SPEC), "horizon": Horizon(dpd_threshold=60)}), "a", SequencePrompts),
        (PromptSpec(**{**vars(SPEC), "settings": Instructions(language="zh")}), "a", SequencePrompts),
        (PromptSpec(**{**vars(SPEC), "settings": Instructions(auxiliary=("sentiment@1",))}), "a", SequencePrompts),
        (PromptSpec(**{**vars(SPEC), "timezone": "Asia/Shanghai"}), "a", SequencePrompts),
        (PromptSpec(**{**vars(SPEC), "context_length": 128}), "a", SequencePrompts),
        (PromptSpec(**{**vars(SPEC), "unit": "loan"}), "a", SequencePrompts),
        (
            PromptSpec(**{**vars(SPEC), "settings": Instructions(quantiles=4), "numbers": FITTED}),
            "a",
            SequencePrompts,
        ),
    ],
)
def test_published_samples_are_used_only_for_a_model_with_their_settings_and_tokenizer(
    recipe_prompts: PromptSpec, tokenizer: str, expected: type
) -> None:
    asked = AskedModel(
        base=FileDigests(files={"tokenizer.json": "a"}),
        adapter=FileDigests(files={}),
        prompts=SPEC,
        question=SPEC.question_lines,
        choices=("Yes", "No"),
    )
    source = SampleSource(root="/lake", dataset_id="d", members_version=1, samples_version=2, population="c1")
    found = prompts_of_members(
        asked,
        source,
        ("oot",),
        recipe_prompts=recipe_prompts,
        recipe_tokenizer=tokenizer,
        sequences=published(LakehousePaths(root="/lake"), PUBLISHED),
    )
    assert type(found) is expected


def test_published_prompts_of_a_dataset_are_limited_to_its_members(tmp_path: Path) -> None:
    lake = LakehousePaths.at(str(tmp_path))
    day, rows = date(2024, 5, 1), []
    for number in range(6):
        common = {"user_id": f"u{number}", "loan_id": "", "observation_date": day, "user_bucket": number % 2}
        rows.append({**common, "sample_id": f"s{number}", "template": "card@1" if number else "other@1"})
    named = [{**row, "horizon": "6m30dpd"} for row in rows]
    samples = [{**row, "population": "c1", "input_ids": [number, 7]} for number, row in enumerate(named)]
    samples += [{**row, "population": "c2", "input_ids": [8, 8]} for row in named]
    further = [{**row, "sample_id": f"{row['sample_id']} 3m", "horizon": "3m30dpd"} for row in named]
    samples += [{**row, "population": "c1", "input_ids": [9, 9]} for row in further]
    write_deltalake(lake.table("instruction_samples"), pa.Table.from_pylist(samples))
    members = [
        {
            **row,
            "person_id": "p",
            "dataset_id": "d",
            "matured_at": AROUND,
            "label": 0,
            "task": "t",
            "completion_ids": [1],
        }
        | {"split": "oot" if number < 4 else "train"}
        for number, row in enumerate(rows)
    ]
    write_deltalake(lake.table("dataset_members"), pa.Table.from_pylist(members))
    shard = {"shard": "x", "observation_date": day.isoformat(), "user_bucket": 0}
    published_ones = PromptSource(root=lake.root, samples_version=0, population="c1")
    everyone = SamplePrompts(source=published_ones, template="card@1", horizon="6m30dpd")
    dataset = SampleSource(root=lake.root, dataset_id="d", members_version=0, samples_version=0, population="c1")
    of_members = SamplePrompts(source=dataset, template="card@1", horizon="6m30dpd", splits=("oot",))
    asked = {"sample_id": "s2", "user_id": "u2", "loan_id": "", "observation_date": day, "input_ids": [2, 7]}
    assert of_members.of_shard(shard, encoder()).to_pylist() == [asked]
    found = everyone.of_shard(shard, encoder()).to_pylist()
    assert found == [asked, {**asked, "sample_id": "s4", "user_id": "u4", "input_ids": [4, 7]}]
