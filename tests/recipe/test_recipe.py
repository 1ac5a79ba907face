"""The recipe: valid ones, and the errors of invalid ones."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path

import pytest

from tests.support.families import byte_level_tokenizer, make_family
from tests.support.finished import FinishedRun
from zigong.cli.estimate import START_SECONDS, estimate_run
from zigong.errors import ConfigError
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks
from zigong.lakehouse.tables import arrow_pinned
from zigong.recipe import DateRange, load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
DEMO = next(path for path in RECIPES if path.name == "demo.yaml")
SHORT_LINES = "instructions.event_fields=[days_past_due]"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_is_named_like_its_file(recipe: Path) -> None:
    assert load_recipe(recipe).name == recipe.stem


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.lerning_rate=0.1", r"demo\.yaml: agent\.lerning_rate: unknown key; allowed here: .*learning_rate"),
        ("base.tiny.hiden=3", r"demo\.yaml: base\.tiny\.hiden: unknown key; allowed here: hidden_size"),
        ("mix.fraction=2", r"demo\.yaml: mix\.fraction: Input should be less than 1; found 2"),
        ("source.mapping=", r"demo\.yaml: source\.mapping: Input should be a valid string; found None"),
        ("labels.horizons=[{days: 3}]", r"labels\.horizons\.0\.days: unknown key; allowed here: window_months"),
        (
            "instructions.auxiliary=[sentiment@1, sentiment@1]",
            r"instructions\.auxiliary: expected no duplicate templates",
        ),
        (
            "instructions.auxiliary=[{template: sentiment@1, share: 0}]",
            r"instructions\.auxiliary\.0\.share: .* greater",
        ),
        ("split.by=magic", r"demo\.yaml: split\.by: Input should be 'time' or 'user_hash'"),
        ("business_timezone=Mars/Base", r"demo\.yaml: business_timezone: 'Mars/Base' is not an IANA time zone"),
        (
            "observations.oot.first=2023-10-01",
            r"of observations\.validation .* reaches into observations\.oot",
        ),
        ("split.by=user_hash", r"observations\.validation and observations\.oot need split\.by: time"),
        ("mix", r"--set 'mix' is not of the form a\.b=c"),
    ],
)
def test_an_invalid_recipe_error_names_file_field_and_allowed_values(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(DEMO, [override])


def test_the_error_for_a_missing_recipe_names_it() -> None:
    with pytest.raises(ConfigError, match=r"recipe nowhere\.yaml does not exist"):
        load_recipe("nowhere.yaml")


def test_engine_limits_and_the_place_of_the_lakehouse_do_not_change_the_digest() -> None:
    plain = load_recipe(DEMO).digest()
    assert load_recipe(DEMO, ["engine.ray_cpus=16", "lakehouse.root=/elsewhere"]).digest() == plain
    assert load_recipe(DEMO, ["seed=8"]).digest() != plain


def test_a_date_range_contains_the_first_of_every_month_across_years() -> None:
    days = DateRange(first=date(2023, 11, 1), last=date(2024, 2, 1)).dates()
    assert days == (date(2023, 11, 1), date(2023, 12, 1), date(2024, 1, 1), date(2024, 2, 1))


def test_the_bounds_of_a_plan_are_not_below_what_the_run_had(tiny_run: FinishedRun) -> None:
    planned, figures = estimate_run(tiny_run.run.recipe), tiny_run.run.metrics()
    rows = arrow_pinned(tiny_run.paths, "instruction_samples", tiny_run.run.manifest()["tables"]["instruction_samples"])
    longest = max(len(row) for row in rows["input_ids"].to_pylist())
    assert planned.parameters is not None
    assert planned.parameters >= figures["base.parameters"]
    assert planned.tokens >= longest + 2  # answer and end
    assert planned.samples is not None
    assert planned.samples >= figures["agent.samples"]


def test_a_plan_bounds_the_words_of_a_tiny_base_and_reads_the_size_of_a_given_one(tmp_path: Path) -> None:
    demo = estimate_run(load_recipe(DEMO, [SHORT_LINES, "instructions.max_events=40"]))
    assert demo.tokens == 40 * 3 + 1 + 2 + 3  # words of 40 events, of the lines after them, of the answer
    header = json.dumps({"a": {"shape": [3, 5]}, "b": {"shape": [7]}, "__metadata__": {"format": "pt"}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    given = load_recipe(DEMO, ["base.tiny=null", f"base.path={tmp_path}"])
    assert estimate_run(given).parameters == 22
    assert estimate_run(given).tokens == given.finetune.context_length


def test_a_plan_counts_the_tokens_of_a_named_base_by_its_own_tokenizer(tmp_path: Path) -> None:
    folder = make_family("llama_3", tmp_path / "base")
    contexts = ("agent.context_length=4096", "finetune.context_length=4096")
    named = [SHORT_LINES, "base.tiny=null", f"base.path={folder}", *contexts]
    few, many = (estimate_run(load_recipe(DEMO, [*named, f"instructions.max_events={size}"])) for size in (10, 30))
    assert few.event_tokens is not None
    assert many.tokens - few.tokens == pytest.approx(20 * few.event_tokens, abs=1)
    encoder, template = LineEncoder.of(folder), load_tasks(load_recipe(DEMO).instructions).main
    line = "+31d statement dpd30"
    assert 0.7 * len(encoder.line(line)) < few.event_tokens < 1.5 * len(encoder.line(line))
    prompt = [*encoder.history([line] * 10), *encoder.branch([template.ask(load_recipe(DEMO).labels.horizons[0])])]
    assert few.tokens > 0.7 * len(prompt)
    assert estimate_run(load_recipe(DEMO, [*named, "instructions.max_events=1500"])).tokens == 4096
    by_bytes = byte_level_tokenizer(words=259)
    by_bytes.save(str(folder / "tokenizer.json"))
    longer = estimate_run(load_recipe(DEMO, [*named, "instructions.max_events=10"])).event_tokens
    assert longer is not None
    assert longer > few.event_tokens


def test_a_plan_counts_the_small_trainings_that_test_the_mix() -> None:
    untested, tested = (estimate_run(load_recipe(DEMO, [f"mix.proxy_samples={size}"])) for size in (0, 300))
    samples = untested.samples
    assert samples is not None
    mix = math.floor(load_recipe(DEMO).mix.fraction * samples)
    longer = (tested.seconds["fine-tune"] - START_SECONDS) / (untested.seconds["fine-tune"] - START_SECONDS)
    assert longer == pytest.approx((mix + 6 * 300) / mix)


def test_a_plan_counts_auxiliary_samples_and_refuses_an_invalid_question() -> None:
    fixed = ["mix.proxy_samples=0", "influence.max_targets=1"]  # what does not grow with the samples
    auxiliary = "instructions.auxiliary=[sentiment@1, {template: login_count@1, share: 0.5}]"
    alone, asked = (estimate_run(load_recipe(DEMO, [*fixed, *more])) for more in ([], [auxiliary]))
    assert alone.samples is not None
    assert asked.samples == 2.5 * alone.samples
    for stage, seconds in alone.seconds.items():
        assert asked.seconds[stage] - START_SECONDS == pytest.approx(2.5 * (seconds - START_SECONDS), rel=0.01)
    with pytest.raises(ConfigError, match=r"repaid_amount@1 asks for amounts"):
        estimate_run(load_recipe(DEMO, ["instructions.auxiliary=[repaid_amount@1]"]))
