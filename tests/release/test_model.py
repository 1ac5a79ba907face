"""The value of a released model and its one serialised form."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from zigong.errors import ConfigError, DataError
from zigong.evaluation.asked_model import AskedModel
from zigong.evaluation.boosted import Boosted
from zigong.evaluation.calibration import Calibration
from zigong.evaluation.fusion import Added, Fusion, Stack
from zigong.evaluation.horizons import AskedHorizon
from zigong.evaluation.joint import Joint
from zigong.instructions.numbers import FieldBins, NumberWords
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Auxiliary, Card, Horizon, Instructions, Split
from zigong.release.model import Model, model_as_text, model_from_text, require_unseen
from zigong.training.file_digests import FileDigests

PROMPTS = PromptSpec(
    settings=Instructions(
        template="behavior_card@2",
        language="zh",
        auxiliary=(Auxiliary(template="sentiment@1", share=0.5),),
        gap_unit="month",
        season="weekday",
        time="both",
        event_fields=("amount",),
        profile=False,
        max_events=30,
    ),
    horizon=Horizon(window_months=3, dpd_threshold=60),
    timezone="Asia/Shanghai",
    context_length=256,
)
MODEL = Model(
    model_id="zigong-1",
    run_id="first",
    dataset_id="ds-1",
    mix_id="mix-1",
    recipe_digest="e" * 64,
    split=Split(by="user_hash", unit="person_id", seed=3, test_share=0.2),
    parents=("zigong-0",),
    trained_until=date(2023, 4, 1),
    asked=AskedModel(
        base=FileDigests(files={"tokenizer.json": "a" * 64, "model.safetensors": "b" * 64}),
        adapter=FileDigests(files={"adapter_model.safetensors": "c" * 64}),
        prompts=PROMPTS,
        question=PROMPTS.question_lines,
        choices=PROMPTS.template.choices,
    ),
    further=(
        AskedHorizon(horizon=Horizon(window_months=6, dpd_threshold=60), intercept=0.1 + 0.2, own=1 / 7, first=0.5),
    ),
    calibration=Calibration(intercept=-0.1 - 0.2, slope=1 / 3),
    threshold=0.1 + 0.2,
    card=Card(base_score=650, base_odds=15, pdo=40),
)

TREES = FileDigests(files={"trees_0.txt": "d" * 64})
NEXT = date(2023, 5, 1)


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(model_as_text(MODEL)), **changes})


def test_a_model_read_back_equals_the_written_one_to_the_last_digit() -> None:
    assert model_from_text(model_as_text(MODEL), origin="x") == MODEL


@pytest.mark.parametrize(
    "added",
    [
        Fusion(trees=TREES, outcome_events=("late",), stack=Stack(intercept=0.1 + 0.2, model=1.0, trees=1 / 3)),
        Joint(tower=FileDigests(files={"tower.safetensors": "f" * 64}), outcome_events=("late", "paid")),
        Boosted(boosted=TREES, outcome_events=("late",)),
    ],
    ids=["fused", "joint", "boosted"],
)
def test_what_a_card_adds_to_its_language_model_is_read_back_as_what_it_is(added: Added) -> None:
    found = model_from_text(model_as_text(replace(MODEL, fusion=added)), origin="x")
    assert found.fusion == added
    assert type(found.fusion) is type(added)


def test_the_file_contains_every_field_of_the_value_and_a_schema_version() -> None:
    content = json.loads(model_as_text(MODEL))
    assert content.keys() == {"schema_version", *(field.name for field in fields(Model))}
    assert content["asked"]["prompts"]["settings"] == PROMPTS.settings.model_dump(mode="json")


@pytest.mark.parametrize("version", [None, 0, 2, 6, "5"])
def test_another_schema_version_is_rejected_with_the_next_action(version: object) -> None:
    with pytest.raises(DataError, match=r"lake/serving\.json: expected schema version 5") as error:
        model_from_text(changed(schema_version=version), origin="lake/serving.json")
    assert "registry.model_name" in error.value.action


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "Expecting"),
        ("[]", "expected an object"),
        (changed(threshold=None), "threshold"),
        (changed(threshold="0.3"), "another type"),
        (changed(calibration={"intercept": 1.0}), r"calibration\.slope"),
        (changed(unheard="x"), "unknown"),
        (changed(card={"base_score": 650, "pdo": 40}), "missing"),
    ],
    ids=["truncated", "list", "null", "text", "incomplete value", "unknown key", "default omitted"],
)
def test_a_file_with_missing_or_additional_content_is_rejected(text: str, wrong: str) -> None:
    with pytest.raises(DataError, match=wrong):
        model_from_text(text, origin="x")


def test_a_model_registered_without_its_newest_training_date_is_read_without_one() -> None:
    former = _of_version(3, time="gap")
    del former["trained_until"]
    found = model_from_text(json.dumps(former), origin="x")
    assert (found.trained_until, found.further) == (None, ())
    assert found.asked.prompts == replace(PROMPTS, settings=PROMPTS.settings.model_copy(update={"time": "gap"}))


def test_a_model_registered_before_numbers_had_bins_is_read_with_rounded_numbers() -> None:
    found = model_from_text(json.dumps(_of_version(4, time="gap")), origin="x")
    assert (found.asked.prompts.numbers, found.further) == (None, ())
    assert found.trained_until == MODEL.trained_until


def test_a_model_whose_dates_were_single_words_is_rejected() -> None:
    with pytest.raises(DataError, match=r"x: this model reads dates as single words \(instructions.time: both\)"):
        model_from_text(json.dumps(_of_version(4, time="both")), origin="x")
    with pytest.raises(DataError, match=r"asked\.prompts\.settings\.time is missing"):
        model_from_text(changed(schema_version=4, asked=None), origin="x")


def test_the_bins_of_numbers_are_read_back_to_the_last_digit() -> None:
    bins = FieldBins(
        kind="amount", name="order", currency="", above=(Decimal("0.10"), Decimal(10**15)), below=(Decimal("0.000001"),)
    )
    prompts = replace(
        PROMPTS,
        settings=PROMPTS.settings.model_copy(update={"quantiles": 4}),
        numbers=NumberWords(fields=(bins,)),
    )
    model = replace(MODEL, asked=replace(MODEL.asked, prompts=prompts))
    assert model_from_text(model_as_text(model), origin="x") == model
    assert model.asked.digest != MODEL.asked.digest


def _of_version(version: int, *, time: str) -> dict[str, Any]:
    """The content of a file that an older version of ZiGong wrote."""
    former: dict[str, Any] = json.loads(changed(schema_version=version))
    del former["asked"]["prompts"]["numbers"], former["further"]
    former["asked"]["prompts"]["settings"]["time"] = time
    return former


def test_a_model_is_not_compared_on_dates_that_it_was_trained_on() -> None:
    by_time = _divided(by="time")
    require_unseen(MODEL, by_time, held_out_from=NEXT)
    require_unseen(replace(MODEL, trained_until=None), by_time, held_out_from=date(2020, 1, 1))
    with pytest.raises(ConfigError, match="zigong-1 was trained on samples until 2023-04-01, this recipe holds out"):
        require_unseen(MODEL, by_time, held_out_from=date(2023, 4, 1))


def _divided(**split: Any) -> Split:
    return Split(**{"by": "user_hash", "unit": "person_id", "seed": 3, "test_share": 0.2} | split)


def _may_be_compared(split: Split) -> bool:
    try:
        require_unseen(MODEL, split, held_out_from=NEXT)
    except ConfigError:
        return False
    return True


def test_a_model_that_holds_out_the_same_clients_or_more_may_be_compared() -> None:
    same = (_divided(), _divided(test_share=0.1), _divided(by="time", seed=4))
    fewer = (_divided(test_share=0.21), _divided(seed=4))
    assert [_may_be_compared(split) for split in (*same, *fewer)] == [True, True, True, False, False]


@pytest.mark.parametrize("split", [{"seed": 4}, {"unit": "user_id"}, {"test_share": 0.3}], ids=str)
def test_a_model_that_may_have_seen_held_out_clients_is_refused_by_name(split: dict[str, Any]) -> None:
    named = r"zigong-1 was trained under split\.by=user_hash, unit=person_id, seed=3"
    with pytest.raises(ConfigError, match=named) as error:
        require_unseen(MODEL, _divided(**split), held_out_from=NEXT)
    assert "--set split.seed=3" in error.value.action
